"""How the loops of a kernel lie in memory: which axes are one, along which the lanes run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

from kevolve.operators.lowering.expression import Expression, make
from kevolve.operators.lowering.index import Axis, Index, Read
from kevolve.operators.lowering.program import Kernel, Step
from kevolve.operators.lowering.steps import change, indices, parts

LOOPS = ("loops", "whole")  # forms before the lanes are chosen


def merge_stores(kernel: Kernel) -> None:
    """The stores of one pass are one step: what it writes may be what it reads."""
    for each in kernel.passes:
        maps = [step for step in each.steps if step.kind == "map"]
        for step in maps[1:]:
            maps[0].stores += step.stores
            maps[0].lines = tuple(dict.fromkeys((*maps[0].lines, *step.lines)))
            each.steps.remove(step)


def coalesce(kernel: Kernel) -> None:
    """Axes that lie one behind the other everywhere become one."""
    if kernel.form not in LOOPS:
        return
    while _coalesced(kernel.grid, kernel.steps, lambda axes: setattr(kernel, "grid", axes)):
        pass
    for each in kernel.passes:
        while _coalesced(each.axes, each.steps, lambda axes, each=each: setattr(each, "axes", axes)):  # type: ignore[misc]
            pass


def _coalesced(axes: tuple[Axis, ...], steps: Sequence[Step], keep: Callable[[tuple[Axis, ...]], None]) -> bool:
    for outer, inner in itertools.permutations(axes, 2):
        if _adjacent(outer, inner, steps) and not any(step.combine.startswith("arg") for step in steps):
            joined = Axis(_joined_name(outer, inner), outer.extent * inner.extent)
            for step in steps:
                change(step, {outer: Index.of(0), inner: Index.of(joined)}, partial(_rejoined, outer=outer, inner=inner, joined=joined))
                step.axes = _with(step.axes, outer, inner, joined)
                step.inner = _with(step.inner, outer, inner, joined)
            keep(_with(axes, outer, inner, joined))
            return True
    return False


def _rejoined(part: Expression, outer: Axis, inner: Axis, joined: Axis) -> Expression | None:
    if part.op != "result":
        return None
    step, places = part.value
    if Index.of(outer) in places and Index.of(inner) in places:
        left = tuple(Index.of(joined) if place == Index.of(inner) else place for place in places if place != Index.of(outer))
        return make("result", part.dtype, part.arguments, (step, left))
    return None


def _with(axes: tuple[Axis, ...], outer: Axis, inner: Axis, joined: Axis) -> tuple[Axis, ...]:
    return tuple(joined if axis is inner else axis for axis in axes if axis is not outer) if outer in axes else axes


def _joined_name(outer: Axis, inner: Axis) -> str:
    return {("y", "x_"): "pixel", ("row", "col"): "i"}.get(
        (outer.name, inner.name), f"{outer.name}_{inner.name}" if len(outer.name + inner.name) < 12 else "i"
    )


def _adjacent(outer: Axis, inner: Axis, steps: Sequence[Step]) -> bool:
    """Whether every place grows by ``inner`` as if ``outer`` were its continuation."""
    for step in steps:
        if (outer in step.axes) != (inner in step.axes) or (outer in step.inner) != (inner in step.inner):
            return False
        for part in parts(step):
            if part.op == "result":
                own = part.value[1]
                if (Index.of(outer) in own) != (Index.of(inner) in own):
                    return False
                rest = [place for place in own if place not in (Index.of(outer), Index.of(inner))]
                if any({outer, inner} & place.axes for place in rest):
                    return False
                continue
            for index in indices(part.value):
                if not _continues(index, outer, inner):
                    return False
        if not all(_continues(store.place, outer, inner) for store in step.stores):
            return False
    return True


def _continues(index: Index, outer: Axis, inner: Axis) -> bool:
    first, second = index.coefficient(outer), index.coefficient(inner)
    if first is None or second is None:
        return _only_inside_reads(index, outer, inner)
    return first == second * inner.extent


def _only_inside_reads(index: Index, outer: Axis, inner: Axis) -> bool:
    """Numbers from memory are looked at as parts of their own."""
    bare = index.replaced(lambda atom: Index.of(0) if isinstance(atom, Read) else None)
    first, second = bare.coefficient(outer), bare.coefficient(inner)
    return first is not None and second is not None and first == second * inner.extent


def lay(kernel: Kernel) -> None:
    """Choose along which axis the lanes run, and put it last."""
    if kernel.form not in LOOPS:
        return
    if not kernel.grid and any(each.axes for each in kernel.passes):
        kernel.form = "whole"
        for each in kernel.passes:
            each.axes = _last(each.axes, each.steps)
        return
    rows = sum(max((_unit(axis, each.steps) for axis in each.axes), default=0) for each in kernel.passes)
    columns = max((_unit(axis, kernel.steps) for axis in kernel.grid), default=0)
    looped = any(each.axes for each in kernel.passes)
    if looped and rows >= columns:
        kernel.form = "rows"
        for each in kernel.passes:
            each.axes = _last(each.axes, each.steps)
        return
    kernel.form = "columns"
    kernel.grid = _last(kernel.grid, kernel.steps)


def _last(axes: tuple[Axis, ...], steps: Sequence[Step]) -> tuple[Axis, ...]:
    if len(axes) < 2 or any(step.combine.startswith("arg") and step.kind == "reduce" and len(step.inner) > 1 for step in steps):
        return axes
    best = max(reversed(axes), key=lambda axis: _unit(axis, steps))
    return (*(axis for axis in axes if axis is not best), best)


def _unit(axis: Axis, steps: Sequence[Step]) -> int:
    """How much is read and written along an axis without gaps; writes count more."""
    count = 0
    for step in steps:
        for part in parts(step):
            if part.op == "load" and part.value[1].coefficient(axis) == Index.of(1):
                count += 2 * _weight(part.value[1])
        for store in step.stores:
            count += 3 * _weight(store.place) if store.place.coefficient(axis) == Index.of(1) else 0
    return count


def _weight(place: Index) -> int:
    """What runs along more axes is more memory."""
    return int(16 ** len(place.axes))
