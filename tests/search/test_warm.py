"""Kernels of relatives are offered to a new search, the nearest first, and say whose they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.search.node import Proposal
from kevolve.search.warm import inherited
from kevolve.store.graph_store import GraphStore

HERE, SISTER, OTHER = "gpu: small", "gpu: large", "cpu: laptop"


@pytest.fixture
def store(tmp_path: Path):
    with GraphStore(tmp_path) as opened:
        yield opened


def told(name: str = "norm", reference: str = "ops:norm", trace=("digest",), rows: int = 1024) -> dict:
    return {"name": name, "reference": reference, "trace": list(trace), "cases": [{"rows": rows, "cols": 64}]}


def kept(store: GraphStore, source: str, fitness: float, *, spec="a::norm", spec_hash="old", target=HERE, about=None, works=True):
    run = store.start_run(arguments=[], environment={})
    record, _ = store.begin(run=run, spec=spec, spec_hash=spec_hash, target=target, policy="p", seed=0, about=about or told())
    outcome = Outcome(status=Status.PASSED if works else Status.COMPILE_ERROR, stage=Stage.QUICK)
    proposal = Proposal(language="cpp", source=source, operator="agent", idea="one pass", model="one:a", hypothesis="h", seconds=9.0)
    fields = dict(run=run, spec=spec, spec_hash=spec_hash, target=target, normal_hash=source, outcome=outcome, fitness=fitness, seconds=1.0)
    node = store.add(proposal=proposal, **fields)
    store.end(record.id, "budget", 1.0)
    store.release(record.id)
    return node


def offered(store: GraphStore, about=None, languages=("cpp",), most: int = 3, spec="a::norm") -> list[Proposal]:
    return inherited(store, spec=spec, spec_hash="new", target=HERE, about=about or told(), languages=languages, most=most)


def test_an_older_version_of_the_spec_is_a_relative_and_its_failures_and_other_languages_are_not(store):
    best = kept(store, "void norm();", 3.0)
    kept(store, "void norm(); // slow", 2.0)
    kept(store, "broken", 0.0, works=False)
    first, second = offered(store)
    assert (first.source, first.operator, first.parents) == ("void norm();", "inherited", (best.id,))
    assert first.idea == f"one pass (from node {best.id} of norm)"
    assert (first.model, first.hypothesis, first.seconds) == ("", "", 0.0), "it cost this search nothing"
    assert second.source == "void norm(); // slow"
    assert offered(store, languages=("triton",)) == []


def test_a_spec_that_has_nodes_of_its_own_inherits_nothing(store):
    kept(store, "void norm();", 3.0)
    kept(store, "void norm(); //", 1.0, spec_hash="new")
    assert offered(store) == []


def test_another_spec_with_the_same_reference_or_the_same_formula_is_a_relative_and_its_entry_is_renamed(store):
    same_reference = kept(store, "void rms(); call_rms(rms);", 3.0, spec="b::rms", about=told("rms", "ops:norm", ("x",)))
    same_formula = kept(store, "void scale();", 2.0, spec="c::scale", about=told("scale", "ops:scale"))
    kept(store, "void other();", 9.0, spec="d::other", about=told("other", "ops:other", ("y",)))
    kept(store, "void untraced();", 9.0, spec="e::untraced", about=told("untraced", "ops:untraced", ()))
    found = offered(store)
    assert [proposal.source for proposal in found] == ["void norm(); call_rms(norm);", "void norm();"]
    assert [proposal.parents for proposal in found] == [(same_reference.id,), (same_formula.id,)]
    assert offered(store, about=told(trace=(), reference="ops:nothing")) == [], "no formula is no relation"


def test_the_same_device_comes_before_a_sister_and_another_kind_of_device_is_no_relative(store):
    kept(store, "sister", 9.0, target=SISTER)
    here = kept(store, "here", 1.5, spec="b::rms", about=told("norm", "ops:norm"))
    kept(store, "laptop", 9.0, target=OTHER)
    found = offered(store)
    assert [proposal.source for proposal in found] == ["here", "sister"]
    assert found[0].parents == (here.id,)
    assert found[1].idea.endswith("of norm on gpu: large)")


def test_of_equal_kin_the_nearest_shapes_come_first(store):
    kept(store, "far", 9.0, spec="b::far", about=told("norm", rows=16))
    kept(store, "near", 2.0, spec="c::near", about=told("norm", rows=2048))
    assert [proposal.source for proposal in offered(store, most=1)] == ["near"]


def test_equal_texts_are_offered_once(store):
    kept(store, "void norm();", 3.0)
    kept(store, "void norm();", 2.0, spec="b::rms")
    assert len(offered(store)) == 1
