"""From a failing draw to the smallest one that still fails: hypothesis does it for what it drew, a few trials for a sweep's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from hypothesis import Phase

from kevolve.evaluate.draws import MORE, explore
from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.spec import Draw, Spec

Fails = Callable[[Draw], bool]
_STEPS = (64, 32, 16, 8, 1)


class _StillFails(AssertionError):
    """What hypothesis shrinks towards."""


def shrink(spec: Spec, failing: Draw, fails: Fails, *, seed: int, cap: int | None, examples: int, may_go_on: Callable[[], bool]) -> Draw:
    """The smallest draw found that ``fails``. ``may_go_on`` is asked before each trial: once it says no, the best so far is returned.

    ``seed``, ``cap`` and ``examples`` are the plan's, so that hypothesis meets the same draws again; ``fails`` must remember its answers.
    """
    tried: dict[str, bool] = {failing.to_json(): True}

    def still_fails(draw: Draw) -> bool:
        key = draw.to_json()
        if key not in tried:
            if not may_go_on():
                return False
            tried[key] = fails(draw)
        return tried[key]

    if failing.origin == "drawn":
        failing = _by_hypothesis(spec, failing, still_fails, seed=seed, cap=cap, examples=examples)
    return simplify(spec, failing, still_fails)


def _by_hypothesis(spec: Spec, failing: Draw, fails: Fails, *, seed: int, cap: int | None, examples: int) -> Draw:
    smallest = [failing]

    def visit(draw: Draw) -> None:
        if fails(draw):
            smallest[0] = draw
            raise _StillFails

    with contextlib.suppress(_StillFails):  # hypothesis ends by showing its smallest failure once more
        explore(spec, visit, seed=seed, cap=cap, examples=MORE * examples, phases=(Phase.generate, Phase.shrink))
    return smallest[0]


def simplify(spec: Spec, failing: Draw, fails: Fails) -> Draw:
    """Take simpler arguments, layouts and distributions one at a time, as long as it goes on failing."""
    best, improved = failing, True
    while improved:
        improved = False
        for simpler in _simpler(spec, best):
            if fails(simpler):
                best, improved = simpler, True
                break
    return best


def _simpler(spec: Spec, draw: Draw) -> Iterator[Draw]:
    """Draws with one thing simpler."""
    if draw.layout not in (None, "contiguous"):
        yield replace(draw, layout="contiguous")
    if draw.distribution not in (None, "normal"):
        yield replace(draw, distribution="normal")
    for name, value in draw.values.items():
        for other in _smaller(spec, name, value):
            yield replace(draw, values={**draw.values, name: other})


def _smaller(spec: Spec, name: str, value: Any) -> Iterator[Any]:
    """Smaller sizes and earlier choices for one argument."""
    domain = spec.vary.get(name) or Choices(values=spec.choices.get(name, (value,)))
    if isinstance(domain, Choices):
        yield from (domain.values[: domain.values.index(value)] if value in domain.values else ())
        return
    assert isinstance(domain, Sizes)
    sizes = (domain.low, max(1, domain.low), value // 2, *(value - step for step in _STEPS))
    yield from dict.fromkeys(size for size in sizes if domain.low <= size < value)
