"""The property plan: which inputs a candidate must be right on, frozen before it is loaded.

First an exhaustive sweep, every size from 0 to 1025 on each size axis with the other sizes small (tails of vectors, tiles and blocks are
there or nowhere), then hypothesis draws of larger sizes, layouts, dtypes and distributions by name. Both follow from a secret seed.
A failing draw is shrunk by ``kevolve.evaluate.shrink``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from kevolve.evaluate.draws import drawn, smallest_values
from kevolve.evaluate.materialise import elements, materialise
from kevolve.evaluate.oracle import Expected, expect
from kevolve.evaluate.threads import one_thread
from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.spec import Draw, Spec

SWEEP_TO = 1025  # one beyond the widest block a kernel commonly has
OTHERS = (3, 2, 5, 7, 8, 1)  # sizes of the axes that are not swept
SWEEP_ELEMENTS = 1 << 24  # all sweep draws together
_DENSE_TO = 40  # of a thinned sweep
_EDGES = (48, 64, 96, 128, 256)
_HUGE = 1 << 31
_HUGE_BYTES = 48  # resident bytes an element of a huge draw costs: inputs, their copy, the output, float64 oracle and error


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The draws in order, the notes on what was left out, and what was computed of them so far (inputs and oracle, once each)."""

    spec: Spec
    seed: int
    cap: int | None
    examples: int
    draws: tuple[Draw, ...]
    notes: tuple[str, ...] = ()
    _inputs: dict[int, tuple[Any, ...]] = field(default_factory=dict, repr=False, compare=False)
    _expected: dict[int, Expected] = field(default_factory=dict, repr=False, compare=False)

    def inputs(self, number: int) -> tuple[Any, ...]:
        """The inputs of draw ``number``, made once. Not to be written to."""
        found = self._inputs.get(number)
        if found is None:
            with one_thread():
                found = self._inputs[number] = materialise(self.spec, self.draws[number])
        return found

    def expected(self, number: int) -> Expected:
        """The oracle of draw ``number``, computed once. Raises ``ReferenceFailed``."""
        found = self._expected.get(number)
        if found is None:
            found = self._expected[number] = expect(self.spec, self.draws[number], self.inputs(number))
        return found


def make_plan(spec: Spec, *, seed: int, cap: int | None = None, examples: int = 100) -> Plan:
    """The plan for ``spec`` under a secret ``seed``.

    ``cap``: the most elements of one draw (an interpreter's), which thins the sweep too and quarters the examples; None for native code.
    """
    swept, notes = _sweep(spec, random.Random(seed), cap)
    count = examples if cap is None else max(1, examples // 4)
    found = drawn(spec, seed=seed, cap=cap, examples=count)
    huge, note = _huge(spec, seed, cap)
    notes += [note] if note else []
    return Plan(spec=spec, seed=seed, cap=cap, examples=count, draws=(*swept, *found, *huge), notes=tuple(notes))


def of_draws(spec: Spec, draws: Sequence[Draw]) -> Plan:
    """A plan of given draws: kept counterexamples, a replay, one case."""
    return Plan(spec=spec, seed=0, cap=None, examples=0, draws=tuple(draws))


def _sweep(spec: Spec, generator: random.Random, cap: int | None) -> tuple[list[Draw], list[str]]:
    """The sweep draws and what was left out of them."""
    axes = {name: domain for name, domain in spec.vary.items() if isinstance(domain, Sizes)}
    draws: list[Draw] = []
    notes: list[str] = []
    for name, domain in axes.items():
        whole = range(domain.low, min(SWEEP_TO, domain.high) + 1)
        values = [_others(spec, generator) | {name: size} for size in whole]
        sizes = [elements(spec, value) for value in values]
        kept = [value for value, size in zip(values, sizes, strict=True) if cap is None or size <= cap]
        if cap is not None or sum(sizes) > SWEEP_ELEMENTS // len(axes):
            kept = [value for value in kept if value[name] in set(_thinned())]
        kept, left = _affordable(spec, kept, SWEEP_ELEMENTS // len(axes))
        if left:
            notes.append(f"sweep of {name}: {left} sizes left out, more than {SWEEP_ELEMENTS // len(axes)} elements together")
        draws.extend(_swept(value, generator) for value in kept)
    return draws, notes


def _swept(values: Mapping[str, Any], generator: random.Random) -> Draw:
    return Draw(values=values, seed=generator.getrandbits(40), distribution="normal", layout="contiguous", origin="sweep")


def _others(spec: Spec, generator: random.Random) -> dict[str, Any]:
    """Small sizes and any choice for the arguments that are not swept."""
    values = dict(smallest_values(spec))
    for name, domain in spec.vary.items():
        if isinstance(domain, Choices):
            values[name] = generator.choice(domain.values)
        else:
            values[name] = min(max(generator.choice(OTHERS), domain.low), domain.high)
    return values | {name: generator.choice(given) for name, given in spec.choices.items()}


def _thinned() -> Iterator[int]:
    """Every small size, then those around what blocks are wide: an interpreter takes a millisecond for each instance of a kernel."""
    yield from range(_DENSE_TO + 1)
    for edge in _EDGES:
        yield from (edge - 1, edge, edge + 1)
    yield from (513, 1000, 1025)


def _affordable(spec: Spec, values: Sequence[dict[str, Any]], budget: int) -> tuple[list[dict[str, Any]], int]:
    """As many as fit into ``budget`` elements, in order; and how many do not."""
    kept: list[dict[str, Any]] = []
    for value in values:
        budget -= elements(spec, value)
        if budget < 0 and kept:
            break
        kept.append(value)
    return kept, len(values) - len(kept)


def _huge(spec: Spec, seed: int, cap: int | None) -> tuple[list[Draw], str | None]:
    """One draw beyond 2^31 elements where the domain reaches that far and memory allows, or why not."""
    values = _others(spec, random.Random(seed)) | {name: domain.high for name, domain in spec.vary.items() if isinstance(domain, Sizes)}
    if elements(spec, values) <= _HUGE:
        return [], None
    if cap is not None:
        return [], "no draw beyond 2^31 elements: interpreted"
    axis = max((name for name, domain in spec.vary.items() if isinstance(domain, Sizes)), key=lambda name: int(values[name]), default=None)
    if axis is None:
        return [], None
    low, high = 0, int(values[axis])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if elements(spec, values | {axis: middle}) > _HUGE else (middle, high)
    values |= {axis: high}
    needed, available = elements(spec, values) * _HUGE_BYTES, psutil.virtual_memory().available
    if needed > available:
        return [], f"no draw beyond 2^31 elements: it needs {needed / 2**30:.0f} GiB of memory, {available / 2**30:.0f} GiB are free"
    return [Draw(values=values, seed=seed % 2**40, distribution="normal", layout="contiguous", origin="huge")], None
