"""The cases of an acceptance: one after another where timing takes the cores, several at once where a device times."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.timing import Measurement
from kevolve.optimise import AT_ONCE, Optimiser
from kevolve.spec.spec import Case

CASES = tuple(Case(id=str(rows), values={"rows": rows}) for rows in range(5))


def _optimiser(measure: Any, *, shares_cores: bool) -> Optimiser:
    console = SimpleNamespace(progress=lambda: None)
    settings = SimpleNamespace(evaluator=None)
    run: Any = SimpleNamespace(measure=measure, console=console, settings=settings, target=SimpleNamespace(shares_cores=shares_cores))
    spec: Any = SimpleNamespace(name="spec")
    return Optimiser(run, spec, CASES)


def _measured(status: Status = Status.PASSED, message: str = "") -> Measurement:
    return Measurement(outcome=Outcome(status=status, stage=Stage.PAIRED, message=message))


def test_cases_are_measured_at_once_where_a_device_times_and_come_in_their_order() -> None:
    meeting = threading.Barrier(AT_ONCE, timeout=10)  # broken unless so many are under way together
    met = []

    def measure(spec: Any, case: Case, candidate: Any, seed: int) -> Measurement:
        if int(case.id) < AT_ONCE:
            meeting.wait()
            met.append(case.id)
        return _measured(message=case.id)

    found = list(_optimiser(measure, shares_cores=False)._measured(None, 1))
    assert [(case.id, measurement.outcome.message) for case, measurement in found] == [(case.id, case.id) for case in CASES]
    assert sorted(met) == ["0", "1", "2"]


def test_cases_are_measured_one_after_another_where_timing_takes_the_cores() -> None:
    threads, asked = set(), []

    def measure(spec: Any, case: Case, candidate: Any, seed: int) -> Measurement:
        threads.add(threading.get_ident())
        asked.append(case.id)
        return _measured()

    cases = _optimiser(measure, shares_cores=True)._measured(None, 1)
    next(cases)
    assert asked == ["0"], "a case that fails ends it before the next is begun"
    assert [case.id for case, _ in cases] == ["1", "2", "3", "4"]
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("alone", [_measured(), _measured(Status.RUNTIME_ERROR, "out of memory again")])
def test_what_runs_out_of_memory_beside_others_is_measured_alone(alone: Measurement) -> None:
    asked: list[str] = []

    def measure(spec: Any, case: Case, candidate: Any, seed: int) -> Measurement:
        asked.append(case.id)
        if case.id != "3":
            return _measured()
        return alone if asked.count("3") > 1 else _measured(Status.RUNTIME_ERROR, "out of memory: OutOfMemoryError")

    found = [measurement for _, measurement in _optimiser(measure, shares_cores=False)._measured(None, 1)]
    assert found[3] is alone
    assert sorted(asked) == ["0", "1", "2", "3", "3", "4"]


def test_a_wrong_case_is_not_measured_again() -> None:
    asked: list[str] = []

    def measure(spec: Any, case: Case, candidate: Any, seed: int) -> Measurement:
        asked.append(case.id)
        return _measured(Status.INCORRECT_NUMERICAL, "3 of 5 elements differ")

    found = list(_optimiser(measure, shares_cores=False)._measured(None, 1))
    assert [measurement.outcome.status for _, measurement in found] == [Status.INCORRECT_NUMERICAL] * 5
    assert sorted(asked) == ["0", "1", "2", "3", "4"]
