"""What a measuring process does with a job; the devices and the clocks are the evaluation's own tests' affair."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace

import pytest

from kevolve.commands import measuring
from kevolve.commands.measuring import Measuring, without_paths
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.timing import Measurement
from kevolve.search.loop import Evaluated
from kevolve.spec.spec import Case
from kevolve.spool.declared import Declared
from kevolve.spool.round import Job, Round

PASSED = Outcome(status=Status.PASSED, stage=Stage.PROPERTIES)
WRONG = Outcome(status=Status.INCORRECT_NUMERICAL, stage=Stage.PROPERTIES)
JOB = Job(kind="accept", language="cpp", source="int x;")
DECLARED = Declared(module="m", function="test_f", nodeid="m.py::test_f", name="f", hash="h", cases=())
CASES = tuple(Case(id=name, values={}) for name in "abc")


class FakeRun:
    """A session that finds what it is told; ``seeds``: of every plan and measurement."""

    def __init__(self) -> None:
        self.built: Candidate | Outcome = Candidate(name="f", language="cpp", entry="f")
        self.checked, self.by_case = PASSED, {}
        self.seeds: list[int] = []
        self.huge: list[bool] = []
        self.target = SimpleNamespace(unmeasured=lambda language: None, shares_cores=True)
        self.workers = SimpleNamespace(quiet=None)
        self.pools: list[object] = []
        self.problem: str | None = None

    def spec_problem(self, spec):
        return self.problem

    def build(self, spec, source, language):
        return self.built

    def plan(self, spec, language, seed, *, huge=True):
        self.seeds.append(seed)
        self.huge.append(huge)
        return "plan"

    def check(self, spec, candidate, plan):
        return self.checked

    def measure(self, spec, case, candidate, seed, *, pools):
        self.seeds.append(seed)
        self.pools.append(pools)
        return Measurement(outcome=Outcome(status=self.by_case.get(case.id, Status.PASSED), stage=Stage.PAIRED), pairs=7)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    made = FakeRun()
    monkeypatch.setattr(measuring, "Run", lambda settings, console: made)
    monkeypatch.setattr(measuring, "rebuild", lambda declared: SimpleNamespace(cases=CASES))
    return made


def results(tmp_path, *jobs: Job):
    round = Round(declared=DECLARED, target="cpu", jobs=jobs, plan_seed=7)
    return list(Measuring(round, work=tmp_path, cache=tmp_path, cores=1).results(jobs))


def test_an_acceptance_draws_one_grading_seed_of_its_own_and_times_every_case(run, tmp_path):
    (found,) = results(tmp_path, JOB)
    assert (found.outcome, list(found.measured)) == (PASSED, ["a", "b", "c"])
    assert len(set(run.seeds)) == 1
    assert len(run.seeds) == 4
    assert run.huge == [True]
    results(tmp_path, JOB)
    assert len(set(run.seeds)) == 2, "the seed is drawn anew for every round"
    assert 7 not in run.seeds, "the development plan's seed grades nothing"


def test_the_acceptances_of_a_round_share_seed_plan_and_contents(run, tmp_path):
    results(tmp_path, JOB, Job(kind="accept", language="cpp", source="int y;"))
    assert len(set(run.seeds)) == 1
    assert run.huge == [True]
    assert len(run.pools) == 6
    assert len(set(map(id, run.pools))) == 1


def test_a_case_that_refuses_the_kernel_ends_its_timing_and_one_that_is_slow_does_not(run, tmp_path):
    run.by_case = {"a": Status.TOO_SLOW, "b": Status.REWARD_HACK}
    (found,) = results(tmp_path, JOB)
    assert list(found.measured) == ["a", "b"]


def test_a_wrong_kernel_is_never_timed(run, tmp_path):
    run.checked = WRONG
    (found,) = results(tmp_path, JOB)
    assert (found.outcome, found.measured) == (WRONG, {})


def test_a_kernel_that_does_not_compile_is_not_checked(run, tmp_path):
    run.built = Outcome(status=Status.COMPILE_ERROR, stage=Stage.COMPILE, message="no")
    (found,) = results(tmp_path, JOB)
    assert found.outcome.message == "no"
    assert run.seeds == []


def test_a_reference_that_fails_is_every_jobs_result(run, tmp_path):
    run.problem = "the reference refuses its inputs"
    found = results(tmp_path, JOB, Job(kind="quick", language="cpp", source="int y;"))
    assert [(each.outcome.status, each.outcome.message) for each in found] == [(Status.RUNTIME_ERROR, run.problem)] * 2


def test_quick_jobs_come_with_the_baselines_times(run, tmp_path, monkeypatch):
    class Quick:
        baseline_us = MappingProxyType({"a": 12.5})

        def __call__(self, proposals):
            for proposal in proposals:
                yield Evaluated(proposal=proposal, outcome=PASSED, fitness=2.0, seconds=1.0)

    monkeypatch.setattr(Measuring, "_pipeline", lambda self, languages: Quick())
    (found,) = results(tmp_path, Job(kind="quick", language="cpp", source="int y;"))
    assert (found.fitness, dict(found.outcome.detail)) == (2.0, {"baseline_us": {"a": 12.5}})


def test_this_machines_folders_are_in_no_result():
    told = {"message": "/home/me/w/modules/a.py:3", "list": ["/home/me/x", 3], "deep": {"n": None}}
    paths = {"/home/me/w/modules/": "", "/home/me": "~"}
    assert without_paths(told, paths) == {"message": "a.py:3", "list": ["~/x", 3], "deep": {"n": None}}
