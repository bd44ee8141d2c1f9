"""The property plan: which inputs a candidate must be right on, frozen before it is loaded.

First an exhaustive sweep, every size from 0 to 1025 on each size axis with the other sizes small (tails of vectors, tiles and blocks are
there or nowhere), then draws near the benchmark's cases (``near``) and hypothesis draws of larger sizes, layouts, dtypes and
distributions by name. All follow from a secret seed.
A failing draw is shrunk by ``kevolve.evaluate.shrink``.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch

from kevolve.evaluate.arena import Image
from kevolve.evaluate.draws import drawn, smallest_values
from kevolve.evaluate.materialise import elements, materialise
from kevolve.evaluate.memory import available_bytes, peak_bytes
from kevolve.evaluate.near import near_cases
from kevolve.evaluate.oracle import Expected, Look, ReferenceFailed, blame, conditioned, expect
from kevolve.evaluate.sandbox import default_memory_bytes
from kevolve.evaluate.sheet import Sheet, sheet_of
from kevolve.evaluate.threads import one_thread
from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.inputs import Jagged, Tensor
from kevolve.spec.spec import Draw, Spec

SWEEP_TO = 1025  # one beyond the widest block a kernel commonly has
OTHERS = (3, 2, 5, 7, 8, 1)  # sizes of the axes that are not swept
SWEEP_ELEMENTS = 1 << 24  # all sweep draws together
_WORTH_A_SHEET = 8  # draws of a batch: the rewritten ones are so many
_DENSE_TO = 40  # of a thinned sweep
_EDGES = (48, 64, 96, 128, 256)
_HUGE = 1 << 31
_MEASURED = (1, 32, SWEEP_TO)  # sizes of a swept axis whose inputs a function makes to see how many elements they hold
_MEASURED_OTHERS = 2  # times each, with other sizes and choices
_WANTED = _HUGE + (_HUGE >> 2)  # elements of a huge draw's largest tensor: a quarter of them lies where 32 bits do not reach
_SEEN = 1 << 24  # elements of the smaller draw that a huge one's memory is foretold from
_UNSEEN = 48  # bytes an element, where the system does not tell a peak


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
    _widened: dict[tuple[int, Look], Expected] = field(default_factory=dict, repr=False, compare=False)
    _packed: dict[tuple[int, ...], tuple[Image, int]] = field(default_factory=dict, repr=False, compare=False)
    _smallest: list[int] = field(default_factory=list, repr=False, compare=False)
    _batches: dict[int, list[list[int]]] = field(default_factory=dict, repr=False, compare=False)
    _sheets: dict[tuple[int, ...], Sheet | None] = field(default_factory=dict, repr=False, compare=False)
    _twins: list[Any] = field(default_factory=list, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.RLock, repr=False, compare=False)  # candidates are checked side by side

    def inputs(self, number: int) -> tuple[Any, ...]:
        """The inputs of draw ``number``, made once. Not to be written to. Raises ``ReferenceFailed`` where they cannot be made."""
        with self._lock:
            found = self._inputs.get(number)
            if found is None:
                with one_thread(), blame(self.spec, self.draws[number], "the description of inputs for"):
                    found = self._inputs[number] = materialise(self.spec, self.draws[number])
        return found

    def packed(self, numbers: Sequence[int], make: Callable[[], tuple[Image, int]]) -> tuple[Image, int]:
        """What ``make`` says of a batch of draws, how they are laid out for a child, made once: candidates are given the same bytes."""
        with self._lock:
            key = tuple(numbers)
            if key not in self._packed:
                made = make()
                if made[0].kept is None:
                    return made
                self._packed[key] = made
            return self._packed[key]

    def batches(self, most_bytes: int) -> Sequence[Sequence[int]]:
        """Draw numbers in order, as many at once as ``most_bytes`` of inputs."""
        with self._lock:
            if most_bytes not in self._batches:
                self._batches[most_bytes] = _grouped([self._size(number) for number in range(len(self.draws))], most_bytes)
            return self._batches[most_bytes]

    def smallest(self) -> int:
        """The draw with the smallest inputs that are not empty."""
        with self._lock:
            if not self._smallest:
                self._smallest.append(min(range(len(self.draws)), key=lambda number: self._size(number) or 1 << 60))
            return self._smallest[0]

    def _size(self, number: int) -> int:
        """Bytes of a draw's inputs; of one beyond 2^31 elements, which is made only when its turn comes, so many elements."""
        return _HUGE if self.draws[number].origin == "huge" else tensor_bytes(self.inputs(number))

    def sheet(self, numbers: Sequence[int]) -> Sheet | None:
        """The expected outputs of a batch side by side, made once; None where nothing is gained. Raises ``ReferenceFailed``."""
        key = tuple(numbers)
        if len(key) < _WORTH_A_SHEET:
            return None
        with self._lock:
            if key not in self._sheets:
                made = sheet_of([self.expected(number) for number in key], self.spec.compare)
                self._sheets[key] = None if made is None else made[0]
                self._expected.update(zip(key, made[1], strict=True) if made is not None else ())
            return self._sheets[key]

    def twins(self) -> Plan | None:
        """Draws in twos for ``rewritten``, chosen once; None where there are none."""
        from kevolve.evaluate.rewritten import rewritten  # here, because it makes plans

        with self._lock:
            if not self._twins:
                self._twins.append(rewritten(self.spec, self))
            found: Plan | None = self._twins[0]
            return found

    def forget_huge(self) -> None:
        """Give back what was computed of draws beyond 2^31 elements: nobody waits for them again soon."""
        for number in [number for number in self._inputs if self.draws[number].origin == "huge"]:
            del self._inputs[number]
            self._expected.pop(number, None)
            for key in [key for key in self._widened if key[0] == number]:
                del self._widened[key]

    def expected(self, number: int) -> Expected:
        """The oracle of draw ``number``, computed once. Raises ``ReferenceFailed``."""
        with self._lock:
            found = self._expected.get(number)
            if found is None:
                found = self._expected[number] = expect(self.spec, self.draws[number], self.inputs(number))
        return found

    def widened(self, number: int, look: Look) -> Expected:
        """The same with the problem's conditioning measured, once for all candidates that differ there. Raises ``ReferenceFailed``."""
        with self._lock:
            found = self._widened.get((number, look))
            if found is None:
                wider = conditioned(self.spec, self.draws[number], self.inputs(number), self.expected(number), look)
                found = self._widened[number, look] = wider
        return found


def _grouped(sizes: Sequence[int], most: int) -> list[list[int]]:
    batches: list[list[int]] = []
    held = 0
    for number, size in enumerate(sizes):
        if not batches or held + size > most:
            batches.append([])
            held = 0
        batches[-1].append(number)
        held += size
    return batches


def make_plan(
    spec: Spec, *, seed: int, cap: int | None = None, examples: int = 100, memory_bytes: int | None = None, huge: bool = True
) -> Plan:
    """The plan for ``spec`` under a secret ``seed``.

    ``cap``: the most elements of one draw (an interpreter's), which thins the sweep too and quarters the examples; None for native code.
    ``memory_bytes``: what a worker may use (``Limits.memory_bytes``); None: the default. ``huge``: add a draw beyond 2^31 elements where
    the domain reaches that far and memory allows; it takes minutes and gigabytes.
    """
    swept, notes = _sweep(spec, random.Random(seed), cap)
    count = examples if cap is None else max(1, examples // 4)
    near = near_cases(spec, seed=seed, cap=cap)
    found = drawn(spec, seed=seed, cap=cap, examples=count)
    largest, note = _huge(spec, seed, cap, memory_bytes) if huge else ([], None)
    notes += [note] if note else []
    return Plan(spec=spec, seed=seed, cap=cap, examples=count, draws=(*swept, *near, *found, *largest), notes=tuple(notes))


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
        budget = SWEEP_ELEMENTS // len(axes)
        estimate = _estimate(spec, name, budget)
        costs = [estimate(value) for value in values]
        kept = [(value, cost) for value, cost in zip(values, costs, strict=True) if cap is None or cost <= cap]
        if cap is not None or sum(costs) > budget:
            kept = [(value, cost) for value, cost in kept if value[name] in set(_thinned())]
            why = "interpreted" if cap is not None else f"all {len(values)} hold more than {budget} elements together"
            notes += [f"sweep of {name}: thinned to {len(kept)} of {len(values)} sizes: {why}"] if len(kept) < len(values) else []
        count = _affordable([cost for _, cost in kept], budget)
        if count < len(kept):
            notes.append(f"sweep of {name}: {len(kept) - count} sizes left out, more than {budget} elements together")
        draws.extend(_swept(value, generator) for value, _ in kept[:count])
    return draws, notes


def _estimate(spec: Spec, name: str, budget: int) -> Callable[[Mapping[str, Any]], int]:
    """How many elements a swept draw holds; where a function makes the inputs, interpolated between a few that it was let make."""
    if not callable(spec.describe(**_others(spec, random.Random(0)))):
        return lambda values: elements(spec, values)
    try:
        points = _measured(spec, name, budget)
    except ReferenceFailed:  # the check says so, with a draw of the plan
        return lambda values: elements(spec, values)
    return lambda values: _interpolated(points, values[name])


def _measured(spec: Spec, name: str, budget: int) -> list[tuple[int, int]]:
    """Sizes of the axis and the elements found there, from the smallest until one draw would be more than the whole sweep may be."""
    domain, generator = spec.vary[name], random.Random(0)
    assert isinstance(domain, Sizes)
    points: list[tuple[int, int]] = []
    for size in sorted({min(max(size, domain.low), domain.high) for size in _MEASURED}):
        if points and _interpolated(points, size) > budget:
            break
        draws = [Draw(values=_others(spec, generator) | {name: size}, seed=number) for number in range(_MEASURED_OTHERS)]
        points.append((size, max(held(spec, draw) for draw in draws)))
    return points


def held(spec: Spec, draw: Draw) -> int:
    """How many elements the tensors of a draw have together."""
    with one_thread(), blame(spec, draw, "the description of inputs for"):
        return sum(value.numel() for value in materialise(spec, draw) if isinstance(value, torch.Tensor))


def _interpolated(points: Sequence[tuple[int, int]], size: int) -> int:
    """Linear between the points; beyond the last, in proportion to it."""
    for (low, less), (high, more) in pairwise(points):
        if size <= high:
            return max(0, round(less + (more - less) * (size - low) / (high - low)))
    last, found = points[-1]
    return round(found * size / max(1, last))


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


def _affordable(costs: Sequence[int], budget: int) -> int:
    """How many fit into ``budget`` elements, in order; one in any case."""
    fitting = sum(total <= budget for total in accumulate(costs))
    return max(fitting, min(1, len(costs)))


def _huge(spec: Spec, seed: int, cap: int | None, memory_bytes: int | None) -> tuple[list[Draw], str | None]:
    """One draw with a tensor beyond 2^31 elements where the domain reaches that far and memory allows, or why not."""
    values = _others(spec, random.Random(seed)) | {name: domain.high for name, domain in spec.vary.items() if isinstance(domain, Sizes)}
    if _largest_tensor(spec, values) <= _HUGE:
        return [], None
    if cap is not None:
        return [], "no draw beyond 2^31 elements: interpreted"
    axis = max((name for name, domain in spec.vary.items() if isinstance(domain, Sizes)), key=lambda name: int(values[name]), default=None)
    if axis is None:
        return [], None
    values[axis] = _least(spec, values, axis, min(_WANTED, _largest_tensor(spec, values)))
    lacking = _lacking(spec, values, axis, seed, memory_bytes)
    if lacking:
        return [], f"no draw beyond 2^31 elements: {lacking}"
    return [_plain(values, seed)], None


def _plain(values: Mapping[str, Any], seed: int) -> Draw:
    return Draw(values=values, seed=seed % 2**40, distribution="normal", layout="contiguous", origin="huge")


def _largest_tensor(spec: Spec, values: Mapping[str, Any]) -> int:
    """Elements of the largest input; of what a function makes, the product of its sizes."""
    described = spec.describe(**values)
    if callable(described):
        return elements(spec, values)
    shapes = [item.shape for item in described if isinstance(item, Tensor)]
    shapes += [(item.rows, item.max_length // 2, *item.inner) for item in described if isinstance(item, Jagged)]
    return max((math.prod(shape) for shape in shapes), default=0)


def _least(spec: Spec, values: Mapping[str, Any], axis: str, wanted: int) -> int:
    """The least size of ``axis`` with a tensor of at least ``wanted`` elements."""
    low, high = 0, int(values[axis])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _largest_tensor(spec, {**values, axis: middle}) >= wanted else (middle, high)
    return high


def _lacking(spec: Spec, values: Mapping[str, Any], axis: str, seed: int, memory_bytes: int | None) -> str | None:
    """What memory a huge draw needs beyond what there is, the judge's or a worker's."""
    needs, available = _needs(spec, values, axis, seed), available_bytes()
    if needs.judge > available:
        return f"it needs {needs.judge / 2**30:.0f} GiB of memory, {available / 2**30:.0f} GiB are free"
    limit = default_memory_bytes() if memory_bytes is None else memory_bytes
    if needs.worker > limit:
        return f"it needs {needs.worker / 2**30:.0f} GiB of memory in a worker, whose limit is {limit / 2**30:.0f} GiB"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """Bytes that a draw takes. ``judge``: of the machine's memory, what it shares with the worker included."""

    judge: int
    worker: int


def _needs(spec: Spec, values: Mapping[str, Any], axis: str, seed: int) -> _Needs:
    """What a draw will take, in proportion to the same draw with a shorter ``axis``: its inputs and its oracle are made here to see.

    The judge has the inputs, their copy in the arena, all that the oracle took at its peak, and the outputs four times; the worker the
    arena and two sets of outputs. Where the system does not tell a peak, the oracle is taken to need six float64 an element.
    """
    small = {**values, axis: _least(spec, values, axis, min(_SEEN, _largest_tensor(spec, values)))}
    factor = _largest_tensor(spec, values) / max(1, _largest_tensor(spec, small))
    found: list[tuple[int, int]] = []

    def work() -> None:
        with one_thread(), blame(spec, _plain(small, seed), "the description of inputs for"):
            inputs = materialise(spec, _plain(small, seed))
        outputs = expect(spec, _plain(small, seed), inputs).outputs
        found.append((tensor_bytes(inputs), tensor_bytes([output.oracle for output in outputs])))

    try:
        peak = peak_bytes(work)
        held, outputs = found[0]
    except ReferenceFailed:  # the check says so, with a draw of the plan
        peak, held, outputs = None, 4 * _largest_tensor(spec, small), 8 * _largest_tensor(spec, small)
    peak = max(_UNSEEN * elements(spec, small) if peak is None else peak, held)
    mutated = held if spec.mutates else 0
    return _Needs(judge=round(factor * (peak + held + 4 * outputs)), worker=round(factor * (held + mutated + 2 * outputs)))


def tensor_bytes(values: Sequence[Any]) -> int:
    """What the elements of the tensors among them take."""
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))
