"""The cases of an acceptance: one after another where timing takes the cores, several at once where a device times."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.timing import Measurement
from kevolve.optimise import AT_ONCE, Optimiser
from kevolve.spec.spec import Case, Spec

PASSED = Outcome(status=Status.PASSED, stage=Stage.PROPERTIES, message="")
CASES = tuple(Case(id=str(rows), values={"rows": rows}) for rows in range(5))


def _optimiser(measure: Any, *, shares_cores: bool, check: Any = lambda *_: PASSED) -> Optimiser:
    settings = SimpleNamespace(evaluator=None)
    target = SimpleNamespace(shares_cores=shares_cores, unmeasured=lambda _: None)
    candidate = SimpleNamespace(language="triton")
    run: Any = SimpleNamespace(settings=settings, target=target, build=lambda *_: candidate, plan=lambda *_: None, check=check)
    run.measure = measure
    return Optimiser(run, cast(Spec, SimpleNamespace(name="spec")), CASES)


def _fresh(optimiser: Optimiser) -> tuple[dict[str, Measurement] | None, Outcome]:
    node: Any = SimpleNamespace(proposal=SimpleNamespace(language="triton", source=""))
    found, outcome = optimiser._fresh(node)
    return (dict(found.measured) if found is not None else None), outcome


def _measured(status: Status = Status.PASSED, message: str = "") -> Measurement:
    return Measurement(outcome=Outcome(status=status, stage=Stage.PAIRED, message=message))


def test_cases_are_measured_at_once_where_a_device_times_and_come_in_their_order() -> None:
    meeting = threading.Barrier(AT_ONCE, timeout=10)  # broken unless so many are under way together

    def measure(spec: Any, case: Case, candidate: Any, seed: int, *, right: Any) -> Measurement:
        if int(case.id) < AT_ONCE:
            meeting.wait()
        return _measured(message=case.id)

    measured, _ = _fresh(_optimiser(measure, shares_cores=False))
    assert measured is not None
    assert [(case, found.outcome.message) for case, found in measured.items()] == [(case.id, case.id) for case in CASES]


def test_cases_are_measured_one_after_another_where_timing_takes_the_cores_until_one_fails() -> None:
    threads, asked = set(), []

    def measure(spec: Any, case: Case, candidate: Any, seed: int) -> Measurement:
        threads.add(threading.get_ident())
        asked.append(case.id)
        return _measured(Status.SUSPECT if case.id == "2" else Status.TOO_SLOW)

    measured, outcome = _fresh(_optimiser(measure, shares_cores=True))
    assert (measured, outcome.status) == (None, Status.SUSPECT)
    assert asked == ["0", "1", "2"]
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("shares_cores", [False, True])
def test_a_kernel_that_fails_its_plan_is_not_timed(shares_cores: bool) -> None:
    timed = []

    def measure(spec: Any, case: Case, candidate: Any, seed: int, *, right: Any = lambda: True) -> Measurement:
        if right():
            timed.append(case.id)
        return _measured()

    def check(*_: Any) -> Outcome:
        time.sleep(0.1)  # the cases come first
        return Outcome(status=Status.INCORRECT_NUMERICAL, stage=Stage.PROPERTIES, message="wrong")

    measured, outcome = _fresh(_optimiser(measure, shares_cores=shares_cores, check=check))
    assert (measured, outcome.message, timed) == (None, "wrong", [])


@pytest.mark.parametrize("alone", [Status.PASSED, Status.RUNTIME_ERROR])
def test_what_runs_out_of_memory_beside_others_is_measured_alone(alone: Status) -> None:
    asked: list[str] = []

    def measure(spec: Any, case: Case, candidate: Any, seed: int, *, right: Any = None) -> Measurement:
        asked.append(case.id)
        if case.id == "3" and right is not None:
            return _measured(Status.RUNTIME_ERROR, "out of memory: OutOfMemoryError")
        return _measured(alone, "alone") if case.id == "3" else _measured()

    measured, outcome = _fresh(_optimiser(measure, shares_cores=False))
    if alone is Status.PASSED:
        assert measured is not None
        assert measured["3"].outcome.message == "alone"
    else:
        assert (measured, outcome.message) == (None, "alone")
    assert sorted(asked) == ["0", "1", "2", "3", "3", "4"]


def test_a_plan_that_runs_out_of_memory_beside_cases_is_checked_alone_and_they_are_timed_after_it() -> None:
    checks, timed = [], []

    def check(*_: Any) -> Outcome:
        checks.append(None)
        crowded = len(checks) == 1
        return Outcome(status=Status.RUNTIME_ERROR, stage=Stage.PROPERTIES, message="out of memory") if crowded else PASSED

    def measure(spec: Any, case: Case, candidate: Any, seed: int, *, right: Any = lambda: True) -> Measurement:
        if right():
            timed.append(case.id)
        return _measured()

    measured, _ = _fresh(_optimiser(measure, shares_cores=False, check=check))
    assert list(measured or ()) == timed == [case.id for case in CASES]


def test_a_wrong_case_is_not_measured_again() -> None:
    asked: list[str] = []

    def measure(spec: Any, case: Case, candidate: Any, seed: int, *, right: Any) -> Measurement:
        asked.append(case.id)
        return _measured(Status.INCORRECT_NUMERICAL, "3 of 5 elements differ")

    measured, outcome = _fresh(_optimiser(measure, shares_cores=False))
    assert (measured, outcome.status) == (None, Status.INCORRECT_NUMERICAL)
    assert sorted(asked) == ["0", "1", "2", "3", "4"]
