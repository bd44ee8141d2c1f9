"""Speed of light: the least time a case's work can take on a device whose peaks were measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kevolve.spec.spec import Case, Spec, Work
from kevolve.targets import Peaks

if TYPE_CHECKING:
    from torch import Tensor

BOUNDS = ("memory", "compute", "latency", "launch")  # what a least time is spent on


def case_work(spec: Spec, case: Case, inputs: Sequence[Any], outputs: Iterable[Any], *, unread: frozenset[str] = frozenset()) -> Work:
    """The least work of a case: what the spec's ``work=`` says, else every input read once and every output written once.

    ``inputs`` in the reference's order. ``unread``: names of inputs that are read in part only (tables that are indexed, caches of which
    some slots are written); they count nothing, not even as what ``mutates=`` names, which stands behind the outputs. With ``grad=`` pass
    the gradients among ``outputs`` and the gradients of the outputs after ``inputs``.
    """
    if spec.work is not None:
        return spec.work(**case.values)
    named = zip((*spec.reference.inputs, *("" for _ in inputs)), inputs, strict=False)
    moved = sum(touched_bytes(value) for name, value in named if name not in unread)
    given = list(outputs)
    first = len(given) - len(spec.mutates)
    written = [value for place, value in enumerate(given) if place < first or spec.mutates[place - first] not in unread]
    return Work(bytes=float(moved + sum(map(touched_bytes, written))))


def touched_bytes(value: Tensor | Any) -> int:
    """Bytes of the distinct elements of a tensor: a broadcast axis (stride 0) counts once. 0 for what is no tensor."""
    if not hasattr(value, "element_size"):
        return 0
    sizes = zip(value.shape, value.stride(), strict=True)
    elements: int = math.prod(size if stride else min(size, 1) for size, stride in sizes)
    return elements * int(value.element_size())


def floor_us(work: Work, peaks: Peaks) -> float | None:
    """The greatest of the times for bytes, operations, random accesses and an empty call, in microseconds.

    None where a peak that the work needs was not measured: unknown, never a default.
    """
    parts = parts_us(work, peaks).values()
    known = [part for part in parts if part is not None]
    return max(known) if len(known) == len(parts) else None


def parts_us(work: Work, peaks: Peaks) -> dict[str, float | None]:
    """The least time for each kind of work, in microseconds; None where its peak was not measured."""
    random_bytes = work.bytes if work.random_bytes is None else work.random_bytes
    parts = (
        _seconds(work.bytes, at(peaks.bandwidth, work.bytes)),
        _seconds(work.operations, peaks.operations.get(work.dtype)),
        _seconds(work.random_accesses, at(peaks.random_accesses, random_bytes)),
        None if peaks.empty_call_us is None else peaks.empty_call_us / 1e6,
    )
    return {name: None if part is None else part * 1e6 for name, part in zip(BOUNDS, parts, strict=True)}


def _seconds(amount: float, rate: float | None) -> float | None:
    """0 for nothing to do, None for an unknown rate."""
    if amount <= 0:
        return 0.0
    return None if rate is None else amount / rate


def at(curve: Sequence[tuple[float, float]], footprint: float) -> float | None:
    """A measured curve's value at ``footprint`` bytes: linear in the logarithm between points, constant beyond the ends."""
    if not curve:
        return None
    below = [point for point in curve if point[0] <= footprint]
    above = [point for point in curve if point[0] > footprint]
    if not below or not above:
        return (below or above)[-1 if below else 0][1]
    (left, low), (right, high) = below[-1], above[0]
    share = math.log(footprint / left) / math.log(right / left)
    return low + share * (high - low)


def suspect(time_us: float, floor: float | None, peaks: Peaks) -> str | None:
    """Why a time cannot be true (faster than the speed of light by more than the peaks' own scatter), or None."""
    if floor is None or time_us >= floor / peaks.margin:
        return None
    return (
        f"{time_us:.2f} us is faster than the speed of light: {floor:.2f} us from this device's measured peaks "
        f"(margin {peaks.margin:.2f}); the kernel skips work, or the spec's work= overstates it"
    )


def fraction_of_light(floor: float | None, time_us: float) -> float | None:
    """Floor over time, or None where the floor is unknown."""
    return None if floor is None else floor / time_us
