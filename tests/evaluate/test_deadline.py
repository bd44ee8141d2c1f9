"""Until when a child is waited for."""

from __future__ import annotations

import pytest

from kevolve.evaluate import deadline as module
from kevolve.evaluate.deadline import Deadline


class Clock:
    """A clock that is set, what a child has reached, and how long it stood still for the judge's sake."""

    def __init__(self) -> None:
        self.now, self.item, self.stopped = 100.0, -1, 0.0

    def monotonic(self) -> float:
        return self.now

    def waits(self, limit_s: float | tuple[float, float]) -> Deadline:
        return Deadline(limit_s, lambda: (self.item, -1), lambda: self.stopped)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_one_limit_is_for_the_whole_call(clock: Clock) -> None:
    deadline = clock.waits(10)
    clock.now, clock.item = 108, 3
    assert deadline() == 110
    assert deadline.missed("run") == "no answer to 'run' within 10 s"


def test_with_two_each_item_begins_its_own(clock: Clock) -> None:
    deadline = clock.waits((10, 30))
    clock.now, clock.item = 108, 0
    assert deadline() == 118
    clock.now = 117
    assert deadline() == 118
    assert deadline.missed("run") == "no progress in 'run' within 10 s"


def test_all_items_together_have_an_end(clock: Clock) -> None:
    deadline = clock.waits((10, 30))
    for item in range(6):
        clock.now, clock.item = 105 + 5 * item, item
        deadline()
    assert deadline() == 130
    assert deadline.missed("run") == "no answer to 'run' within 30 s"


def test_a_child_that_begins_nothing_has_the_time_of_one_item(clock: Clock) -> None:
    deadline = clock.waits((10, 30))
    clock.now = 109
    assert deadline() == 110
    assert deadline.missed("ahead") == "no answer to 'ahead' within 10 s"


def test_time_for_which_the_judge_stopped_it_does_not_count(clock: Clock) -> None:
    deadline = clock.waits((10, 30))
    clock.stopped = 4
    assert deadline() == 114
    clock.now, clock.item = 112, 0
    assert deadline() == 122  # eight seconds of its own, and ten for the item
