"""The operator: what it proposes, what it says where it has nothing, and that its drafts are tuned."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kevolve import Tensor, kernel, registry, sizes
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.operators import lowering, registered
from kevolve.operators.lowering import Lowering, drafted
from kevolve.operators.lowering import lower as lowerer
from kevolve.operators.tune_lines import marked
from kevolve.optimise import _tried
from kevolve.search.ledger import Ledger
from kevolve.search.loop import Found
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.step import Step
from kevolve.spec.declaration import build_spec
from kevolve.spec.spec import Case, Spec

QUICK = ("-p", "no:cacheprovider")
PROJECT = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def ripple(x, phase):
    return torch.sin(x + phase) * {factor}

@kevolve.kernel(ripple, min_speedup=0.01, baseline=("eager",), vary=dict(rows=sizes(0, 64), cols=sizes(1, 600)))
@pytest.mark.parametrize("rows, cols", [(64, 512)])
def test_ripple(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""


def ripple(x: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    return torch.sin(x + phase)


def sorted_ripple(x: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    return torch.sin(x + phase).sort(0).values


def made(reference) -> Spec:
    @kernel(reference, vary=dict(rows=sizes(0, 64), cols=sizes(1, 600)))
    def test_ripple(rows, cols):
        return Tensor(rows, cols), Tensor(cols)

    return build_spec(test_ripple, nodeid=f"test_ripple.py::{reference.__name__}", cases=[Case(id="8-8", values=dict(rows=8, cols=8))])


def propose(spec: Spec, *nodes: Node, language: str = "cpp", parents: tuple[int, ...] = ()) -> list[Proposal]:
    context = SimpleNamespace(spec=spec, language=language, graph=Graph(nodes))
    return Lowering().propose(context, Step(parents=parents), 4)


def node(proposal: Proposal, *, number: int = 1, status: Status = Status.PASSED) -> Node:
    outcome = Outcome(status=status, stage=Stage.PROPOSE if proposal.problem else Stage.QUICK, message=proposal.problem)
    identity = dict(id=number, run=1, spec="s", spec_hash="h", target="cpu", source_hash=str(number), normal_hash=str(number))
    return Node(proposal=proposal, outcome=outcome, fitness=0.0, seconds=0.0, created="", **identity)


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of any spec yet."""
    monkeypatch.setattr(lowering, "_known", {})


def test_it_is_registered_and_can_be_chosen_alone():
    assert [operator.name for operator in registered()] == ["lowering", "samples", "tuning"]
    assert [operator.name for operator in registered(("lowering",))] == ["lowering"]


@pytest.mark.parametrize("language", ["cpp", "triton"])
def test_a_draft_is_proposed_once(language: str):
    (proposal,) = propose(made(ripple), language=language)
    assert (proposal.operator, proposal.language, proposal.problem) == ("lowering", language, "")
    assert proposal.idea.startswith("lowered: ")
    assert "ripple" in proposal.source
    assert propose(made(ripple), node(proposal), language=language) == []


@pytest.mark.parametrize("language", ["cpp", "triton"])
def test_a_draft_lets_its_knobs_be_tuned(language: str):
    (proposal,) = propose(made(ripple), language=language)
    assert marked(proposal.source, registry.load("languages", language)) is not None


def test_an_expansion_and_another_language_get_nothing():
    assert propose(made(ripple), parents=(1,)) == []
    assert propose(made(ripple), language="cuda") == []


def test_what_is_not_covered_is_a_step_that_says_so_once():
    (proposal,) = propose(made(sorted_ripple))
    assert proposal.source == ""
    assert proposal.problem == 'lowering: aten::sort is not covered (in "return torch.sin(x + phase).sort(0).values")'
    told = node(proposal, status=Status.NO_CANDIDATE)
    assert propose(made(sorted_ripple), told) == []
    other = replace(proposal, problem="lowering: an older kevolve could not do this")
    assert propose(made(sorted_ripple), node(other, status=Status.NO_CANDIDATE)) == [proposal]


def test_what_it_says_is_no_evaluation_and_ends_the_report_of_a_fruitless_search():
    (proposal,) = propose(made(sorted_ripple))
    told = node(proposal, status=Status.NO_CANDIDATE)
    ledger = Ledger([told], mine=[1])
    assert (ledger.evaluations, ledger.since_improvement) == (0, 0)
    alone = Found(best=None, reason="over", evaluations=0, seconds=1.0, graph=Graph((told,)))
    assert _tried(alone, None) == f"0 evaluations (over)\n{proposal.problem}"
    sample = node(Proposal(language="cpp", source="x", operator="samples", idea="i"), number=2)
    wrong = replace(sample, outcome=Outcome(status=Status.RUNTIME_ERROR, stage=Stage.SMOKE, message="it crashed"))
    beside = replace(alone, evaluations=1, graph=Graph((wrong, told)))
    assert _tried(beside, None) == f"1 evaluation (over), the last of them RUNTIME_ERROR\nit crashed\n{proposal.problem}"


def test_a_fault_of_ours_is_told_and_ends_nothing(unknown: None, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("axis")

    monkeypatch.setattr(lowerer, "lower", broken)
    (proposal,) = propose(made(ripple))
    assert proposal.problem.startswith("lowering failed: KeyError: 'axis' (test_lowering_operator.py:")
    assert proposal.problem.endswith("; a fault of kevolve's")
    assert "in broken" in drafted(made(ripple), "cpp").trace


def test_a_spec_is_lowered_once_a_language_by_one_thread_at_a_time(unknown: None, monkeypatch: pytest.MonkeyPatch):
    inside, seen = threading.Lock(), []

    def slow(spec: Spec, language: str) -> str:
        assert inside.acquire(blocking=False)
        seen.append((spec.nodeid, language))
        threading.Event().wait(0.05)
        inside.release()
        return f"// {language}\n"

    monkeypatch.setattr(lowering, "_printed", slow)
    specs = [made(ripple), made(sorted_ripple)]
    threads = [
        threading.Thread(target=drafted, args=(spec, language)) for spec in specs for language in ("cpp", "triton") for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 4


def test_the_first_kernel_of_a_project_is_lowered_and_tuned(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=PROJECT.format(factor="1.5"))
    options = ("--kevolve-optimize=all", "--kevolve-operators=lowering,tuning", "--kevolve-budget=evaluations=2,stall=9,minutes=3")
    result = pytester.runpytest_subprocess(*QUICK, *options)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["    1  *x  best *  lowered: *", "    2  *x  best *  the same kernel with *"])
    written = (pytester.path / "kernels" / "ripple" / "cpu.cpp").read_text()
    assert "// parent: lowering\n" in written or "// parent: node 1\n" in written


def test_a_reference_that_is_not_covered_fails_with_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=PROJECT.format(factor="x.sort(-1).values"))
    result = pytester.runpytest_subprocess(*QUICK, "--kevolve-optimize")
    result.assert_outcomes(failed=2)
    reason = 'lowering: aten::sort is not covered (in "return torch.sin(x + phase) [*] x.sort(-1).values")'
    result.stdout.fnmatch_lines([f"*NO_CANDIDATE  best none*no draft: {reason}", f"{reason}"])
    assert "DEBUG" not in result.stdout.str()
