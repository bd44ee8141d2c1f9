"""In which order a batch's candidates pass the stages, with stages that only take time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.oracle import ReferenceFailed
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.timing import QuickTime
from kevolve.search import pipeline
from kevolve.search.node import Proposal
from kevolve.spec.spec import Case, Draw

CASE = Case(id="8", values={"rows": 8})
PROPOSALS = [Proposal(language="cpp", source=f"int k{number};", operator="test", idea=str(number)) for number in range(12)]


class Stages:
    """What ran when; ``most``: the most candidates that were at a stage at once."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.most: dict[str, int] = {}
        self.beside_timing: set[str] = set()
        self._inside: dict[str, int] = {}
        self._lock = threading.Lock()

    def run(self, stage: str, seconds: float = 0.02) -> None:
        with self._lock:
            self._inside[stage] = self._inside.get(stage, 0) + 1
            inside = {other for other, count in self._inside.items() if count}
            if "time" in inside:
                self.beside_timing |= inside - {"time"}
            self.most[stage] = max(self.most.get(stage, 0), self._inside[stage])
        time.sleep(seconds)
        with self._lock:
            self._inside[stage] -= 1
            self.order.append(stage)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = Stages()

    def check(*_: Any, **__: Any) -> Outcome:
        made.run("check")
        return Outcome(status=Status.PASSED, stage=Stage.PROPERTIES)

    def quick(*_: Any, **__: Any) -> QuickTime:
        made.run("time")
        return QuickTime(outcome=Outcome(status=Status.PASSED, stage=Stage.QUICK), fitness=2.0)

    monkeypatch.setattr(pipeline, "build", lambda *_, **__: Candidate(name="k", language="cpp", entry="k", artifact=Path("k.so")))
    monkeypatch.setattr(pipeline, "check", check)
    monkeypatch.setattr(pipeline, "quick", quick)
    monkeypatch.setattr(pipeline, "foresee", lambda plan, target: made.run("foresee", 0.3))
    monkeypatch.setattr(pipeline, "architecture", lambda target: None)
    return made


def _pipeline(*, shares_cores: bool, jobs: int = 2) -> pipeline.Pipeline:
    made: Any = {
        "spec": SimpleNamespace(least_speedup=lambda case: 1.2),
        "cases": (CASE,),
        "target": SimpleNamespace(shares_cores=shares_cores, unmeasured=lambda language: None),
        "workers": SimpleNamespace(judging=threading.Lock()),
        "plans": {"cpp": object()},
        "kept": (),
        "cache": Path(),
        "pool": lambda case: None,
        "seed": 1,
        "jobs": jobs,
    }
    return pipeline.Pipeline(**made)


def test_where_timing_shares_the_cores_nothing_else_runs_any_more_when_it_begins(stages: Stages) -> None:
    found = list(_pipeline(shares_cores=True)(PROPOSALS))
    assert [each.fitness for each in found] == [2.0] * 12
    assert stages.order[-12:] == ["time"] * 12
    assert sorted(stages.order[:-12]) == ["check"] * 12 + ["foresee"]
    assert stages.most["time"] == 1


def test_where_it_does_not_candidates_are_timed_while_others_are_checked(stages: Stages) -> None:
    found = list(_pipeline(shares_cores=False, jobs=8)(PROPOSALS))
    assert len(found) == 12
    assert stages.order.index("time") < len(stages.order) - 1 - stages.order[::-1].index("check")
    assert 1 < stages.most["check"] <= pipeline._ON_DEVICE
    assert stages.most["time"] <= pipeline._TIMED_AT_ONCE


def test_a_reference_that_fails_is_left_to_the_first_check_to_tell(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(plan: Any, target: Any) -> None:
        raise ReferenceFailed("no", draw=Draw(values={}, seed=1))

    monkeypatch.setattr(pipeline, "foresee", fails)
    assert len(list(_pipeline(shares_cores=True)(PROPOSALS[:2]))) == 2


def test_what_the_lab_has_evaluated_costs_the_search_nothing_again(stages: Stages) -> None:
    made = _pipeline(shares_cores=True)
    looked = made.evaluate("cpp", "int k; // a remark")
    assert (looked.fitness, looked.outcome.detail["speedups"]) == (2.0, {"8": 2.0})
    proposal = Proposal(language="cpp", source="int k;", operator="agent", idea="i")
    (found,) = made([proposal])
    assert (found.proposal, found.fitness, found.seconds) == (proposal, 2.0, looked.seconds)
    assert [stage for stage in stages.order if stage != "foresee"] == ["check", "time"]


def test_the_lab_does_no_more_than_it_is_asked_for(stages: Stages) -> None:
    made = _pipeline(shares_cores=True)
    assert made.build("cpp", "int k;").stage is Stage.COMPILE
    assert stages.order == []
    assert made.check("cpp", "int k;").stage is Stage.PROPERTIES
    assert made.check("cpp", "int k;").passed
    assert stages.order == ["check"]


def test_a_timing_for_the_lab_is_alone_too_where_timing_shares_the_cores(stages: Stages) -> None:
    made = _pipeline(shares_cores=True)
    threads = [threading.Thread(target=made.evaluate, args=("cpp", f"int lab{number};")) for number in range(6)]
    for thread in threads:
        thread.start()
    found = list(made(PROPOSALS[:6]))
    for thread in threads:
        thread.join()
    assert [each.fitness for each in found] == [2.0] * 6
    assert stages.most["time"] == 1
    assert stages.beside_timing == set()


def test_several_threads_asking_for_one_kernel_have_it_evaluated_once(stages: Stages) -> None:
    made = _pipeline(shares_cores=False)
    threads = [threading.Thread(target=made.evaluate, args=("cpp", "int k;")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stages.order == ["check", "time"]


def test_when_the_search_is_over_the_lab_answers_nothing_any_more(stages: Stages) -> None:
    made = _pipeline(shares_cores=True)
    made.close()
    refused = made.evaluate("cpp", "int k;").outcome
    assert (refused.status, refused.message) == (Status.NOT_MEASURED, "the search is over")
    assert stages.order == []


def test_a_profile_is_made_once_of_a_kernel_that_was_timed_and_while_nothing_else_runs(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def profile(*_: Any, **__: Any) -> tuple[None, tuple[str, ...]]:
        stages.run("profile")
        return None, ("perf: not here",)

    monkeypatch.setattr(pipeline, "profile", profile)
    made = _pipeline(shares_cores=True)
    assert made.profile("cpp", "int k;") == ""
    made.evaluate("cpp", "int k;")
    assert [made.profile("cpp", "int k;") for _ in range(2)] == ["No figures from perf: not here."] * 2
    assert [stage for stage in stages.order if stage != "foresee"] == ["check", "time", "profile"]
