"""What a row calls for: the few words, signs and the order that the whole page shares."""

from __future__ import annotations

from dataclasses import dataclass

from kevolve.report.attention import MISSING
from kevolve.report.record import Properties, Result, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How much a row calls for attention. ``rank``: lower comes first; ``sign`` says it without colour; ``key`` is the class."""

    key: str
    sign: str
    word: str
    rank: int


WRONG = State(key="wrong", sign="✕", word="failed", rank=0)
REGRESSED = State(key="regressed", sign="▼", word="regressed", rank=1)
SLOW = State(key="slow", sign="◐", word="slow", rank=2)
UNMEASURED = State(key="unmeasured", sign="○", word="not measured", rank=3)
PASSED = State(key="passed", sign="✓", word="passed", rank=4)
STATES = (WRONG, REGRESSED, SLOW, UNMEASURED, PASSED)

_OF_STATUS = {"PASSED": PASSED, "TOO_SLOW": SLOW, "NOT_MEASURED": UNMEASURED}
_OF_VERDICT = {"wrong": WRONG, "slower": REGRESSED, "grown": REGRESSED}


def state(row: Result | Properties, verdicts: tuple[Verdict, ...] = ()) -> State:
    """A row's state: the worse of what the run and the gate say. A kernel that is not there is a failure."""
    own = WRONG if MISSING in row.extra else _OF_STATUS.get(row.status, WRONG)
    found = [own, *(_OF_VERDICT.get(verdict.verdict, PASSED) for verdict in verdicts)]
    return min(found, key=lambda one: one.rank)


def of_verdict(verdict: Verdict) -> State:
    """A verdict's state alone: what cannot be measured is not measured, what is no failure has passed."""
    return UNMEASURED if verdict.verdict == "unmeasurable" else _OF_VERDICT.get(verdict.verdict, PASSED)


def worst(states: list[State]) -> State:
    """The one that comes first; ``PASSED`` of nothing."""
    return min(states, key=lambda one: one.rank, default=PASSED)
