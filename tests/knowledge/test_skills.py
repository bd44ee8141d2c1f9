from __future__ import annotations

from datetime import date

import pytest

from kevolve.evaluate.outcome import Status
from kevolve.knowledge import skills
from kevolve.knowledge.documents import parse
from kevolve.knowledge.library import Library
from kevolve.knowledge.standing import standing
from kevolve.search.node import Graph
from tests.knowledge.trees import document, node, spec, write

DEVICE = {"name": "NVIDIA H200", "arch": "sm90"}
TODAY = date(2026, 11, 21)


def timed(number, fitness, *, parents=(), speedups=None, **fields):
    found = speedups or {"large": fitness, "small": fitness, "wide": fitness}
    return node(number, fitness=fitness, parents=parents, detail={"speedups": found}, **fields)


def distil(*nodes, existing=(), run=1, today=TODAY):
    return skills.distil(
        Graph.of(nodes),
        spec=spec(),
        run=run,
        device=DEVICE,
        facts={},
        families=("normalisation",),
        toolchain="triton 3.9.0",
        today=today,
        existing=existing,
    )


def as_documents(texts, tmp_path):
    return [parse(text, tmp_path / f"{id}.md", id) for id, text in texts.items()]


def test_a_measured_gain_becomes_a_document_with_its_provenance(tmp_path):
    child = timed(
        2,
        1.5,
        parents=(1,),
        speedups={"large": 1.5, "small": 1.4, "wide": 1.6},
        idea="hold the row in registers",
        hypothesis="one read less",
    )
    (text,) = distil(timed(1, 1.0), child).values()
    (found,) = as_documents({"skills/x": text}, tmp_path)
    assert found.title == "Hold the row in registers (triton)"
    assert (found.vendor, found.languages, found.families, found.topic) == (("nvidia",), ("triton",), ("normalisation",), "skill")
    assert found.text.startswith("It helped: 1 measured use, 1.50x of the parent's fitness (geometric mean).")
    assert "**Why it was expected to help.** one read less" in found.text
    assert "| `suites/test_x.py::test_rms_norm` | cpu: x | 2 | 1 | 1.50x [1.02, 2.20] | 2026-11-21 |" in found.text
    assert "Toolchain: triton 3.9.0." in found.text
    assert found.provenance["uses"] == 1


def test_what_did_not_help_is_said_too():
    (text,) = distil(timed(1, 1.0), timed(2, 1.01, parents=(1,), idea="unroll by four")).values()
    assert "title: 'Did not help: Unroll by four (triton)'" in text
    assert "It did not help: 1 measured use, 1.01x of the parent's fitness" in text


@pytest.mark.parametrize(
    "fitness, said", [(1.3, "It helped"), (1.04, "It did not help"), (0.97, "It did not help"), (0.8, "It made the kernel slower")]
)
def test_a_gain_within_the_noise_is_none(fitness, said):
    (text,) = distil(timed(1, 1.0), timed(2, fitness, parents=(1,))).values()
    assert said in text


def test_a_change_of_knobs_is_named_by_what_changed():
    parent = timed(1, 1.0, family="row_reduce", knobs={"warps": 4, "block": 1024})
    child = timed(2, 1.2, parents=(1,), family="row_reduce", knobs={"warps": 8, "block": 1024})
    (text,) = distil(parent, child).values()
    assert "**The move.** row_reduce: warps 4 to 8" in text


@pytest.mark.parametrize(
    "child",
    [
        timed(2, 1.5, parents=()),
        timed(2, 1.5, parents=(1,), speedups={"large": 1.5}),
        node(2, Status.INCORRECT_NUMERICAL, parents=(1,)),
    ],
    ids=["no parent", "other cases", "wrong"],
)
def test_only_a_child_and_a_parent_that_were_timed_alike_teach_anything(child):
    assert distil(timed(1, 1.0), child) == {}


def test_other_runs_are_not_distilled_again():
    assert distil(timed(1, 1.0), timed(2, 1.5, parents=(1,)), run=7) == {}


def test_the_same_move_again_is_merged_and_a_contradiction_sinks_it(tmp_path):
    first = distil(timed(1, 1.0), timed(2, 1.5, parents=(1,), idea="more warps"))
    again = distil(timed(3, 1.0), timed(4, 1.4, parents=(3,), idea="More  warps"), existing=as_documents(first, tmp_path))
    assert again.keys() == first.keys()
    (agreed,) = as_documents(again, tmp_path)
    assert (agreed.provenance["uses"], agreed.provenance["agreeing"]) == (2, 2)
    assert agreed.provenance["gain"] == pytest.approx((1.5 * 1.4) ** 0.5, rel=1e-3)
    against = distil(timed(5, 1.0), timed(6, 0.5, parents=(5,), idea="more warps"), existing=[agreed])
    (contradicted,) = as_documents(against, tmp_path)
    assert standing(contradicted.provenance) < standing(agreed.provenance)


def test_a_run_that_is_distilled_twice_counts_once(tmp_path):
    nodes = (timed(1, 1.0), timed(2, 1.5, parents=(1,)))
    first = distil(*nodes)
    assert distil(*nodes, existing=as_documents(first, tmp_path)) == first


def test_a_skill_ages():
    provenance = {"uses": 3, "agreeing": 3, "last_seen": "2026-05-25"}
    assert standing(provenance, TODAY) == pytest.approx(standing(provenance) / 2)
    assert standing({}) == 1.0


def test_written_skills_are_found_and_the_best_known_first(tmp_path):
    folder = tmp_path / "knowledge" / "skills"
    nodes = [
        timed(number, 1.0 + 0.5 * (number % 2 == 0), parents=(number - 1,) if number % 2 == 0 else (), idea="warps more")
        for number in range(1, 9)
    ]
    skills.write(folder, distil(*nodes))
    skills.write(folder, distil(timed(11, 1.0), timed(12, 1.5, parents=(11,), idea="warps fewer")))
    ours = write(tmp_path / "ours", guidance__other=document())
    found = Library(ours=ours, skills=folder, today=TODAY).find("warps")
    assert [item.document.provenance["uses"] for item in found] == [4, 1]
    assert found[0].document.id.startswith("skills/triton-warps-more-")
