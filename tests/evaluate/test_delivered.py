"""Calls that hand everything over bound a claim where their outputs are small, and are not asked for where copying would outweigh them."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kevolve.evaluate import pairs
from kevolve.evaluate.baselines import CANDIDATE


def delivered(elements: int, *, sets: int = 1) -> tuple[Any, Any, list[tuple[int, int]]]:
    """What ``_delivered`` gives for one float32 output, and the counts and bytes that processes were asked for."""
    asked: list[tuple[int, int]] = []

    def handed(count: int, room: int, *_: Any) -> str:
        asked.append((count, room))
        return "handed over"

    def idle(count: int, room: int) -> float:
        asked.append((count, room))
        return 3.0

    runners: Any = {CANDIDATE: SimpleNamespace(left=100, delivered=handed), "eager": SimpleNamespace(left=100, idle_us=idle)}
    plan: Any = SimpleNamespace(exact=False, policy=SimpleNamespace(sets=sets), pool=SimpleNamespace(sets=None))
    answer: Any = SimpleNamespace(outputs=(torch.empty(elements),))
    found, beside = pairs._delivered(runners, SimpleNamespace(), answer, plan, random.Random(1))  # type: ignore[arg-type]
    return found, beside, asked


@pytest.fixture(autouse=True)
def count_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "delivered_count", lambda each, sets: 8)


def test_small_outputs_are_all_handed_over_beside_a_trusted_process() -> None:
    found, beside, asked = delivered(1000)
    assert (found, beside) == ("handed over", 3.0)
    assert asked[0] == asked[1] == (8, 8 * (4000 + 4096))


@pytest.mark.parametrize("elements", [1 << 18, 4 << 20])
def test_outputs_beyond_a_mebibyte_are_not_asked_for(elements: int) -> None:
    assert delivered(elements) == (None, None, [])


def test_a_device_with_sets_of_its_own_is_not_asked() -> None:
    assert delivered(1000, sets=4) == (None, None, [])
