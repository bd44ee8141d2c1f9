"""Whole checks: candidates built, loaded in a child and judged."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from example_specs import add_to, cancelling, draw, picky, rms_norm_spec, spec_of, square, vector

from kevolve.evaluate import check as check_module
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Child, ChildFailed, Reply, Workers
from kevolve.evaluate.operators import forbidden
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import make_plan, of_draws
from kevolve.spec.domain import sizes
from kevolve.spec.inputs import Tensor
from kevolve.spec.spec import Draw, Spec
from kevolve.targets.cpu import CPU

Judge = Callable[..., Outcome]
SPEC = replace(rms_norm_spec(), choices={"dtype": ("float32",)})
plan_of = functools.cache(lambda seed: make_plan(SPEC, seed=seed))  # inputs and oracle are computed once for all tests
SOURCE = (Path(__file__).parent / "check_kernels.cpp").read_text()


@pytest.fixture
def judge(workers: Workers, cpu: CPU, build: Callable[..., Path]) -> Judge:
    def judged(bug: str, *, seed: int = 1, plan: Any = None, deadline_s: float = 30.0, kept: tuple[Draw, ...] = ()) -> Outcome:
        artifact = build(SOURCE.replace("/*BUG*/", bug), "rms_norm")
        candidate = Candidate(name="cpu.cpp", language="cpp", entry="rms_norm", artifact=artifact)
        return check(workers, SPEC, candidate, plan or plan_of(seed), target=cpu, deadline_s=deadline_s, kept=kept)

    return judged


def callable_check(workers: Workers, cpu: CPU, spec: Spec, name: str, *draws: Draw) -> Outcome:
    candidate = Candidate(name=name, language="cpp", entry=spec.name, callable=f"test_check:{name}")
    return check(workers, spec, candidate, of_draws(spec, draws), target=cpu, deadline_s=30.0)


def test_a_right_kernel_passes_the_whole_plan(judge: Judge) -> None:
    outcome = judge("")
    assert (outcome.status, outcome.stage, outcome.message) == (Status.PASSED, Stage.PROPERTIES, "")
    assert outcome.detail["draws"] == 2151


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("condition", "cols"), [("cols % 64 == 37", 37), ("cols == 1000", 1000)])
def test_a_bug_at_one_tail_is_found_shrunk_and_replayed(judge: Judge, condition: str, cols: int, seed: int) -> None:
    bug = f"if ({condition}) to[row * cols + cols - 1] += 0.5f;"
    outcome = judge(bug, seed=seed)
    assert outcome.status is Status.INCORRECT_NUMERICAL
    found = json.loads(outcome.detail["draw"])
    assert found["values"] == {"rows": 1, "cols": cols, "dtype": "float32"}
    lines = outcome.message.splitlines()
    assert lines[0] == f"cpu.cpp at dtype=float32, rows=1, cols={cols}, normal, contiguous"
    assert lines[1].startswith(f"output 0 (float32 [1, {cols}]): 1 of {cols} differ, greatest error ")
    assert lines[2].startswith(f"  [0, {cols - 1}]  expected ")
    assert lines[-1] == f"replay: pytest 'test_it.py::test_rms_norm[properties]' --kevolve-replay '{outcome.detail['draw']}'"
    again = judge(bug, plan=of_draws(SPEC, (Draw.from_json(outcome.detail["draw"]),)))
    assert again.message.splitlines()[1:3] == lines[1:3]


def test_a_huge_draw_is_reported_as_it_is_and_its_gigabytes_given_back(judge: Judge) -> None:
    fine, failing = (replace(draw(rows=3, cols=cols, dtype="float32"), origin=origin) for cols, origin in ((5, "drawn"), (129, "huge")))
    plan = of_draws(SPEC, (fine, failing))
    outcome = judge("if (cols == 129) to[row * cols] += 0.5f;", plan=plan)
    assert outcome.status is Status.INCORRECT_NUMERICAL
    assert json.loads(outcome.detail["draw"])["values"] == {"rows": 3, "cols": 129, "dtype": "float32"}
    assert list(plan._inputs) == [0]


def test_all_failing_sizes_of_the_sweep_are_listed(judge: Judge) -> None:
    outcome = judge("if (cols % 64 == 37) to[row * cols] += 0.5f;")
    assert re.search(r"^\d\d draws of 2151 fail, in the sweep at cols = 37, 101, 165, 229, 293, 357, 421, 485, …$", outcome.message, re.M)


def test_where_timings_wait_for_calls_they_are_short_and_the_same_sizes_are_listed(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def call(self: Child, command: str, **arguments: Any) -> Reply:
        calls.extend([len(arguments["layout"])] if command == "run" else [])
        return plain(self, command, **arguments)

    plain = Child.call
    monkeypatch.setattr(Child, "call", call)
    at_once = judge("if (cols % 64 == 37) to[row * cols] += 0.5f;").message.splitlines()[-2]
    assert max(calls) > 512
    calls.clear()
    monkeypatch.setattr(CPU, "shares_cores", False)
    assert judge("if (cols % 64 == 37) to[row * cols] += 0.5f;").message.splitlines()[-2] == at_once
    assert len(calls) > 4
    assert max(calls) <= 512


def test_a_crash_in_one_of_several_calls_ends_them(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CPU, "shares_cores", False)
    outcome = judge("if (cols == 37) *(volatile int*)8 = 1;")
    assert (outcome.status, json.loads(outcome.detail["draw"])["values"]["cols"]) == (Status.RUNTIME_ERROR, 37)


def test_a_bug_in_a_layout_is_found_by_hypothesis_and_shrunk(judge: Judge) -> None:
    outcome = judge("if (pitch > cols) to[row * cols] += 0.5f;")
    found = json.loads(outcome.detail["draw"])
    assert found["values"] == {"rows": 1, "cols": 1, "dtype": "float32"}
    assert found["layout"] == "strided"


def test_kept_counterexamples_come_first(judge: Judge) -> None:
    kept = draw(rows=2, cols=5000, dtype="float32")
    plan = of_draws(SPEC, (draw(rows=1, cols=1, dtype="float32"),))
    outcome = judge("if (cols == 5000) to[row * cols] += 0.5f;", kept=(kept,), plan=plan)
    assert json.loads(outcome.detail["draw"])["values"] == {"rows": 1, "cols": 5000, "dtype": "float32"}
    assert outcome.detail["draws"] == 1


def test_a_crash_names_the_draw_that_crashes(judge: Judge) -> None:
    outcome = judge("if (cols == 700) *static_cast<volatile int*>(nullptr) = 1;")
    assert outcome.status is Status.RUNTIME_ERROR
    assert "SIGSEGV" in outcome.message
    assert json.loads(outcome.detail["draw"])["values"]["cols"] == 700


def test_an_endless_loop_is_a_timeout_that_names_its_draw(judge: Judge) -> None:
    outcome = judge('while (cols == 333) asm volatile("");', deadline_s=5)
    assert outcome.status is Status.TIMEOUT
    assert re.search(r"no progress in 'run' within 5 s, at draw \d+ of \d+\n", outcome.message)
    assert json.loads(outcome.detail["draw"])["values"]["cols"] == 333


def test_draws_that_get_on_may_take_longer_together_than_one_alone(judge: Judge) -> None:
    plan = of_draws(SPEC, tuple(draw(rows=1, cols=cols, dtype="float32") for cols in range(1, 41)))
    began = time.monotonic()
    assert judge("usleep(60000);", plan=plan, deadline_s=2).passed
    assert time.monotonic() - began > 2


@pytest.mark.parametrize(
    ("bug", "what"),
    [
        ("if (cols == 129) from[0] = 3;", "wrote to input 0, which mutates= does not name"),
        ("if (cols == 129 && step == 1) from[-1] = 3;", "wrote to before the start of input 0"),
    ],
)
def test_writing_where_it_may_not_is_an_error_at_the_draw_that_does(judge: Judge, bug: str, what: str) -> None:
    outcome = judge(bug)
    assert outcome.status is Status.RUNTIME_ERROR
    assert what in outcome.message
    assert json.loads(outcome.detail["draw"])["values"]["cols"] == 129


def test_a_kernel_that_is_right_only_at_first_is_refused(judge: Judge) -> None:
    outcome = judge("if (calls > 2152) to[row * cols] += 0.5f;")
    assert outcome.status is Status.INCORRECT_NUMERICAL
    assert "right at first, and wrong when called again with the same inputs" in outcome.message
    assert "no draw fails alone: it depends on the calls before" in outcome.message


def right_square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def right_square_backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return 2 * x * grad


def wrong_square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def wrong_square_backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x * grad


def test_gradients_are_checked_with_drawn_gradients_of_the_outputs(workers: Workers, cpu: CPU) -> None:
    spec = spec_of(square, vector, vary=dict(n=sizes(0, 9)), grad=("x",))
    assert callable_check(workers, cpu, spec, "right_square", draw(n=5), draw(n=6)).passed
    outcome = callable_check(workers, cpu, spec, "wrong_square", draw(n=5))
    assert "output 1 (float32 [1]): 1 of 1 differ" in outcome.message


def good_add(state: torch.Tensor, x: torch.Tensor) -> None:
    state.add_(x)


def lazy_add(state: torch.Tensor, x: torch.Tensor) -> tuple[()]:
    return ()


def test_inputs_that_are_mutated_are_compared_afterwards(workers: Workers, cpu: CPU) -> None:
    spec = spec_of(add_to, lambda n: (Tensor(n), Tensor(n)), vary=dict(n=sizes(1, 9)), mutates=("state",))
    assert callable_check(workers, cpu, spec, "good_add", draw(n=5, layout="transposed"), draw(n=6)).passed
    assert callable_check(workers, cpu, spec, "lazy_add", draw(n=5)).status is Status.INCORRECT_NUMERICAL


def test_library_operators_are_refused_unless_they_are_allowed() -> None:
    called = ["aten::empty", "aten::clone", "aten::mm", "aten::as_strided", "aten::sum", "aten::_local_scalar_dense"]
    assert forbidden(called, ()) == ["aten::mm", "aten::sum"]
    assert forbidden(called, ("aten::mm",)) == ["aten::sum"]


def test_a_candidate_that_does_not_load_is_refused_at_that_stage(workers: Workers, cpu: CPU, tmp_path: Path) -> None:
    candidate = Candidate(name="none.cpp", language="cpp", entry="rms_norm", artifact=tmp_path / "none.so")
    outcome = check(workers, SPEC, candidate, of_draws(SPEC, (draw(rows=1, cols=1, dtype="float32"),)), target=cpu, deadline_s=30.0)
    assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, Stage.LOAD)


def test_an_empty_plan_is_an_error_and_never_a_pass(workers: Workers, cpu: CPU) -> None:
    with pytest.raises(ValueError, match="a plan without draws judges nothing"):
        callable_check(workers, cpu, SPEC, "right_square")


def zeros(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("count", [1, 3])
def test_an_output_that_no_draw_could_judge_is_no_pass(workers: Workers, cpu: CPU, count: int) -> None:
    spec = spec_of(cancelling, vector, vary=dict(n=sizes(0, 90)))
    outcome = callable_check(workers, cpu, spec, "zeros", draw(n=0), *(draw(n=80, seed=seed) for seed in range(count)))
    assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, Stage.PROPERTIES)
    assert re.fullmatch(
        r"nothing could be judged: output 0 was excluded on every draw, because the reference itself errs by \S+ at float32; "
        r"widen tolerance= or mend the reference",
        outcome.message,
    )
    assert (outcome.detail["draws"], outcome.detail["excluded"]) == (1 + count, count)


def test_a_reference_that_fails_is_the_specs_fault_and_a_typed_outcome(workers: Workers, cpu: CPU) -> None:
    spec = spec_of(picky, vector, vary=dict(n=sizes(0, 9)))
    outcome = callable_check(workers, cpu, spec, "right_square", draw(n=2), draw(n=3))
    assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, Stage.PROPERTIES)
    assert outcome.detail == {"reference": True, "draw": draw(n=3).to_json()}
    assert outcome.message == (
        f"the reference example_specs:picky failed on {draw(n=3).to_json()}: ValueError: three is too many\n"
        "this is the spec's fault, not the candidate's: mend the reference, or the description of its inputs"
    )


def test_inputs_that_cannot_be_made_are_the_specs_fault_too(workers: Workers, cpu: CPU) -> None:
    spec = spec_of(square, lambda n: (Tensor(n, dtype="int64", low=0, high=2, unique=True),), vary=dict(n=sizes(0, 9)))
    outcome = callable_check(workers, cpu, spec, "right_square", draw(n=5))
    assert outcome.detail == {"reference": True, "draw": draw(n=5).to_json()}
    assert outcome.message.startswith(f"the description of inputs for example_specs:square failed on {draw(n=5).to_json()}: ValueError: ")


def test_a_child_that_claims_progress_beyond_the_batch_is_blamed_on_its_last_draw(
    workers: Workers, cpu: CPU, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Child.call

    def hostile(child: Child, command: str, **arguments: Any) -> Reply:
        if command == "run":
            raise ChildFailed(Status.TIMEOUT, "killed", progress=1 << 40)
        return ask(child, command, **arguments)

    monkeypatch.setattr(check_module.Child, "call", hostile)
    spec = spec_of(square, vector, vary=dict(n=sizes(0, 9)))
    outcome = callable_check(workers, cpu, spec, "right_square", draw(n=5), draw(n=6))
    assert json.loads(outcome.detail["draw"])["values"] == {"n": 6}


@pytest.mark.parametrize("operators", [None, 7, {"aten::mm": 1}, [["aten::mm"]], ["aten::empty", 3]])
def test_operators_that_are_no_list_of_names_are_a_forged_answer(judge: Judge, monkeypatch: pytest.MonkeyPatch, operators: object) -> None:
    ask = Child.call

    def hostile(child: Child, command: str, **arguments: Any) -> Reply:
        found = ask(child, command, **arguments)
        return Reply(fields={**found.fields, "operators": operators}) if command == "trace" else found

    monkeypatch.setattr(check_module.Child, "call", hostile)
    outcome = judge("")
    assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, Stage.SMOKE)
    assert outcome.message.startswith("a forged answer: expected the operators called, got ")
