"""What the acceptances of a round share: one seed that nobody has seen, its plan, and the contents of the timed calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevolve.commands.measuring import Measuring
from kevolve.evaluate import pools
from kevolve.spec.spec import Spec
from kevolve.spool.declared import declare
from kevolve.spool.round import Job, Round
from tests.spool.project import CASES, NORMALISE, WRONG

TWICE = NORMALISE + "\n// once more\nstatic const int other [[maybe_unused]] = 1;\n"


@pytest.fixture
def made_for(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the contents that are made, as they are."""
    seeds: list[int] = []
    make = pools.timed_pool
    monkeypatch.setattr(pools, "timed_pool", lambda spec, case, *, seed: (seeds.append(seed), make(spec, case, seed=seed))[1])
    return seeds


def test_contents_are_made_once_for_all_acceptances_of_a_round_and_their_seed_is_not_the_search_s(
    tmp_path: Path, spec: Spec, made_for: list[int]
) -> None:
    declared, files = declare(spec, CASES)
    jobs = tuple(Job(kind="accept", language="cpp", source=source) for source in (NORMALISE, TWICE, WRONG))
    round = Round(declared=declared, target="cpu", jobs=jobs, plan_seed=5, files=files, kevolve="0")
    measuring = Measuring(round, work=tmp_path / "work", cache=tmp_path / "cache", cores=2)
    try:
        right, again, wrong = measuring.results(jobs)
    finally:
        measuring.close()
    assert len(made_for) == 1
    assert made_for[0] != round.plan_seed
    assert right.outcome.passed
    assert again.outcome.passed
    assert set(right.measured) == set(again.measured) == {CASES[0].id}
    assert not wrong.outcome.passed
    assert wrong.measured == {}
