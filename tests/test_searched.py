import json
import random

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.report.record import Environment, Kernel, Record, Result, SearchRow, Speedup, Times, dumped
from kevolve.search.node import Graph, Node, Proposal
from kevolve.searched import LINE, PROMPT, Searched, address, ancestry, prompt, searched, with_texts


def node(number, parents=(), *, run=2, fitness=1.0, source="", transcript="", **proposal):
    proposal.setdefault("idea", f"idea {number}")
    made = Proposal(
        language="cpp",
        source=source or f"int k{number};",
        operator="samples",
        parents=parents,
        transcript=transcript,
        seconds=1.5,
        **proposal,
    )
    status = Status.PASSED if fitness else Status.COMPILE_ERROR
    return Node(
        id=number,
        run=run,
        spec="t.py::test_k",
        spec_hash="s",
        target="cpu: EPYC",
        proposal=made,
        source_hash=address(made.source),
        normal_hash=str(number),
        outcome=Outcome(status=status, stage=Stage.PAIRED, message="" if fitness else "line 3: " + "x" * 5000),
        fitness=fitness,
        seconds=2.0,
        created="2026-01-01",
        step=number,
    )


SENT = json.dumps({"system": "You write kernels.", "messages": [{"role": "user", "parts": [{"text": "Make k faster."}]}, {"parts": []}]})


def test_a_search_has_this_runs_steps_and_the_older_ones_that_led_to_its_best():
    nodes = [node(1, run=1), node(2, run=1), node(3, (1,), fitness=0.0), node(4, (1,), fitness=2.0), node(5, (4,), fitness=3.123456789)]
    found = searched(Graph.of(nodes), nodes[4], run=2, spec="k", target="cpu")
    assert [row.id for row in found.row.nodes] == [1, 3, 4, 5]
    assert (found.row.spec, found.row.target, found.row.best) == ("k", "cpu", 5)
    assert found.row.nodes[3].fitness == 3.1235
    assert found.row.nodes[3].seconds == 3.5
    assert list(found.sources.values()) == ["int k5;", "int k4;", "int k1;"], "the best's own first"
    assert found.row.nodes[1].status == "COMPILE_ERROR"
    assert len(found.row.nodes[1].message) == LINE
    assert [row.source in found.sources for row in found.row.nodes] == [True, False, True, True]


def test_a_lineage_holds_every_ancestor_once():
    diamond = [node(1), node(2, (1,)), node(3, (1,)), node(4, (3, 2))]
    assert [one.id for one in ancestry(Graph.of(diamond), diamond[3])] == [4, 3, 2, 1]
    assert ancestry(Graph.of(diamond), None) == []


def test_a_search_that_found_nothing_has_steps_and_no_texts():
    found = searched(Graph.of([node(1, fitness=0.0)]), None, run=2, spec="k", target="cpu")
    assert (found.row.best, len(found.row.nodes), found.sources, found.prompts) == (None, 1, {}, {})


def test_what_a_model_was_sent_and_what_it_cost_are_kept_on_the_lineage():
    spent = Usage(input_tokens=100, cache_write_tokens=20, cached_tokens=50, output_tokens=30, usd=0.5)
    asked = node(1, transcript=SENT, model="recorded:one", hypothesis="less traffic", usage=spent)
    found = searched(Graph.of([asked, node(2, transcript=SENT, fitness=0.5)]), asked, run=2, spec="k", target="cpu")
    first, second = found.row.nodes
    assert found.prompts == {first.prompt: "You write kernels.\n\nMake k faster."}
    assert (first.usage.input, first.usage.cached, first.usage.output, first.usage.usd) == (120, 50, 30, 0.5)
    assert (first.model, first.hypothesis) == ("recorded:one", "less traffic")
    assert second.prompt == "", "not on the lineage"


def test_a_transcript_of_another_form_is_no_prompt_and_a_long_one_keeps_its_ends():
    assert [prompt(kept) for kept in ("", "[]", "{}", '{"messages": [3]}', '{"messages": [{"parts": "ab"}]}', "no json")] == [""] * 6
    long = json.dumps({"system": "begin" + "x" * 50_000, "messages": [{"parts": [{"text": "end"}]}]})
    shown = prompt(long)
    assert shown.startswith("begin")
    assert shown.endswith("end")
    assert "characters left out" in shown
    assert len(shown) < PROMPT + 100


def test_what_has_a_keys_form_is_in_no_record():
    key = "sk-" + "a1B2c3D4" * 5
    asked = node(1, transcript=SENT.replace("faster", key), hypothesis=f"with {key}", idea=key)
    found = searched(Graph.of([asked]), asked, run=2, spec="k", target="cpu")
    assert key[:20] not in repr(found)
    assert "Make k [redacted]." in next(iter(found.prompts.values()))


def test_texts_are_whole_or_not_there_kernels_judged_before_lineages_before_prompts():
    alone = Record(environment=Environment(device="EPYC", arch="a", date="2026-01-01"))
    found = Searched(row=SearchRow(spec="k", target="cpu"), sources={"b" * 64: "b" * 3000}, prompts={"c" * 64: "c" * 300})
    judged = {"a" * 64: "a" * 3000}
    whole = with_texts(alone, judged, [found])
    assert (whole.sources, whole.prompts) == (judged | found.sources, found.prompts)
    cut = with_texts(alone, judged, [found], most=4500)
    assert (cut.sources, cut.prompts) == (judged, found.prompts)
    none = with_texts(alone, judged, [found], most=100)
    assert (none.sources, none.prompts) == ({}, {})


def test_a_record_of_300_kernels_with_searches_of_20_nodes_stays_below_3_mb():
    draw = random.Random(1)
    found, rows = [], []
    for kernel in range(300):
        first, *others = (20 * kernel + step for step in range(20))
        nodes = [
            node(first, source=text(draw)),
            *(node(number, (max(first, number - 4 - number % 2),), **told(draw, number)) for number in others),
        ]
        found.append(searched(Graph.of(nodes), nodes[-1], run=2, spec=f"spec_{kernel}", target="cpu"))
        rows.append(timed(f"spec_{kernel}", draw))
    rest = Record(
        environment=Environment(device="EPYC", arch="a", date="2026-01-01"), results=tuple(rows), searches=tuple(one.row for one in found)
    )
    record = with_texts(rest, {address(source): source for source in (text(draw) for _ in range(300))}, found)
    assert len(record.sources) > 100
    size = len(dumped(record))
    assert 2.9e6 < size <= 3.0e6, (size, {name: len(json.dumps(part)) for name, part in record.to_json().items()})
    assert Record.from_json(json.loads(dumped(record))) == record


def text(draw):
    """A kernel of 4,000 characters, unlike all others."""
    return f"{draw.random():018.16f}\n" * 200


def told(draw, number):
    """One step: half of them are a model's, half of them fail with a message longer than a line."""
    fitness = draw.choice([0.0, 1.2345678])
    if number % 2:
        return dict(source=text(draw), fitness=fitness)
    usage = Usage(input_tokens=12_345, cached_tokens=10_000, output_tokens=2_345, usd=0.0123)
    prose = dict(hypothesis="because " * 40, transcript=SENT.replace("faster", f"faster {number}"))
    return dict(source=text(draw), fitness=fitness, model="anthropic:name", usage=usage) | prose


def timed(spec, draw):
    ratio = Speedup(estimate=draw.random() + 1, low=1.0, high=3.0)
    return Result(
        spec=spec,
        case="8192-4096-bfloat16",
        target="cpu",
        language="cpp",
        status="PASSED",
        time_us=Times(launched=draw.random(), replayed=draw.random()),
        baseline_us={"eager": Times(launched=draw.random()), "compile": Times(launched=draw.random())},
        speedup={"eager": ratio, "compile": ratio},
        method="m" * 900,
        kernel=Kernel(path=f"suites/kernels/{spec}/cpu.cpp", hash="ab" * 32),
    )
