"""Which steps share a kernel, and how its loops lie in memory.

A step joins the kernel of what it depends on where it goes through that kernel's grid in the same way; else it gets a kernel of its own and
what it needs of others is kept in memory. Steps that read the same memory are joined too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from kevolve.operators.lowering.expression import Buffer, Expression, lines_of, make, rewritten, substituted
from kevolve.operators.lowering.index import Axis, Index, Quotient, Remainder, Size, exactly
from kevolve.operators.lowering.layout import coalesce, lay, merge_stores
from kevolve.operators.lowering.program import Kernel, Pass, Step
from kevolve.operators.lowering.steps import change, indices, loaded, parts, results, written
from kevolve.operators.lowering.tables import with_tables
from kevolve.operators.lowering.values import axis_name


def kernels(
    steps: Sequence[Step], workspace: Callable[[str, Sequence[Index], str], Buffer], originals: frozenset[Buffer] = frozenset()
) -> list[Kernel]:
    """The kernels in order.

    ``workspace``: makes memory for what one kernel leaves for another. ``originals``: memory that is written, but whose reads mean what was
    there before all of it; the caller sees to that.
    """
    made: list[Kernel] = []
    steps = with_tables(steps, workspace)
    for number, step in enumerate(steps):
        _split_axes(step, steps[number + 1 :])
        if not _join(step, made, originals):
            made.append(_alone(step))
    _keep(made, workspace)
    for kernel in made:
        merge_stores(kernel)
        coalesce(kernel)
        lay(kernel)
    _name(made)
    return made


# axes that are always divided


def _split_axes(step: Step, later: Sequence[Step]) -> None:
    """An axis that is used by its quotient and remainder alone becomes two: what a view joined is taken apart again."""
    if step.kind not in ("map", "reduce"):
        return
    for _ in range(4):
        found = _divided(step)
        if found is None:
            return
        axis, below = found
        count = exactly(axis.extent, below)
        assert count is not None
        high, low = Axis(_part_name(count, f"{axis.name}_high"), count), Axis(_part_name(below, f"{axis.name}_low"), below)
        change(step, {axis: Index.of(high) * below + low})
        if axis in step.axes:
            _split_results(step, step.axes.index(axis), below, later)
        step.axes = tuple(part for one in step.axes for part in ((high, low) if one is axis else (one,)))
        step.inner = tuple(part for one in step.inner for part in ((high, low) if one is axis else (one,)))


def _part_name(size: Index, otherwise: str) -> str:
    return axis_name(size, 0) if any(isinstance(atom, Size) for atom in size.atoms) and len(size.terms) == 1 else otherwise


def _split_results(step: Step, place: int, below: Index, later: Sequence[Step]) -> None:
    """Who reads the step's results names both parts of the axis."""

    def apart(part: Expression) -> Expression | None:
        if part.op != "result" or part.value[0] is not step:
            return None
        places = part.value[1]
        places = (*places[:place], places[place] // below, places[place] % below, *places[place + 1 :])
        return make("result", part.dtype, part.arguments, (step, places))

    for other in later:
        change(other, {}, apart)


def _divided(step: Step) -> tuple[Axis, Index] | None:
    own = {*step.axes, *step.inner}
    for part in parts(step):
        for index in indices(part.value):
            for atom in sorted(index.atoms, key=repr):
                if isinstance(atom, Quotient | Remainder) and len(atom.above.terms) == 1:
                    (axis,) = atom.above.atoms if len(atom.above.atoms) == 1 else (None,)
                    if isinstance(axis, Axis) and axis in own and atom.above == Index.of(axis) and _countable(axis.extent, atom.below):
                        return axis, atom.below
    return None


def _countable(extent: Index, below: Index) -> bool:
    return exactly(extent, below) is not None and below.number != 1


# joining


def _alone(step: Step) -> Kernel:
    form = {"reduce": "loops" if step.axes else "whole", "map": "loops"}.get(step.kind, step.kind)
    if step.kind == "reduce":
        return Kernel("", form, step.axes, [Pass(step.inner, [step])])
    if step.kind == "scan":
        return Kernel("", form, step.axes[:-1], [Pass(step.inner, [step])])
    return Kernel("", form, step.axes, [Pass((), [step])])


def _join(step: Step, made: list[Kernel], originals: frozenset[Buffer]) -> bool:
    """Whether a kernel took the step in."""
    if step.kind not in ("map", "reduce"):
        return False
    first = 0
    needed = {id(other) for other, _ in results(step)}
    memory, targets = loaded(step), written(step)
    for number, kernel in enumerate(made):
        if any(id(other) in needed for other in kernel.steps):
            first = max(first, number)
        for other in kernel.steps:
            mine = {buffer for buffer in written(other) if buffer in memory and buffer not in originals}
            theirs = {buffer for buffer in loaded(other) if buffer in targets and buffer not in originals}
            if mine:
                first = max(first, number + 1)
            elif theirs or targets & written(other):
                first = max(first, number)
    return any(_taken(step, made[number]) for number in range(len(made) - 1, first - 1, -1))


def _taken(step: Step, kernel: Kernel) -> bool:
    inside = [(other, places) for other, places in results(step) if other in kernel.steps]
    if kernel.form == "product":
        return bool(inside) and step.kind == "map" and _as_epilogue(step, kernel, inside, ())
    if kernel.form == "scan":
        last = kernel.passes[0].axes
        return bool(inside) and step.kind == "map" and _as_epilogue(step, kernel, inside, last)
    if kernel.form == "whole":
        return not inside and step.kind == "reduce" and not step.axes and _beside(step, kernel)
    if kernel.form != "loops":
        return False
    mapping = _from_results(step, inside) if inside else None
    if inside:
        return mapping is not None and _place(step, kernel, mapping)
    return any(_place(step, kernel, candidate, shared=True) for candidate in _alike(step, kernel))


def _from_results(step: Step, inside: Sequence[tuple[Step, tuple[Index, ...]]]) -> dict[Axis, Axis] | None:
    """Which of the step's axes is which of the grid's, by where it reads the results of the kernel's steps."""
    mapping: dict[Axis, Axis] = {}
    for other, places in inside:
        for grid_axis, place in zip(other.axes, places, strict=True):
            axis = _single(place)
            if axis is None or axis not in step.axes or mapping.get(axis, grid_axis) is not grid_axis:
                return None
            if axis.extent != grid_axis.extent:
                return None
            mapping[axis] = grid_axis
    return mapping


def _single(index: Index) -> Axis | None:
    if len(index.terms) != 1:
        return None
    ((monomial, factor),) = index.terms
    return monomial[0] if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Axis) else None


def _alike(step: Step, kernel: Kernel) -> Iterator[dict[Axis, Axis]]:
    """Ways in which the grid's axes may be the step's, in order."""
    grid = kernel.grid
    if not grid or len(step.axes) < len(grid):
        return
    for chosen in itertools.combinations(step.axes, len(grid)):
        if all(one.extent == other.extent for one, other in zip(chosen, grid, strict=True)):
            yield dict(zip(chosen, grid, strict=True))


def _place(step: Step, kernel: Kernel, mapping: Mapping[Axis, Axis], *, shared: bool = False) -> bool:
    """Put the step into the first pass that it can be in.

    ``shared``: only where it reads what another step of the kernel reads, or where two reductions go through the same places.
    """
    if set(mapping.values()) != set(kernel.grid) or len(set(mapping.values())) != len(mapping):
        return False
    inner = step.inner if step.kind == "reduce" else tuple(axis for axis in step.axes if axis not in mapping)
    if step.kind == "reduce" and any(axis not in mapping for axis in step.axes):
        return False
    begin = 0
    for number, each in enumerate(kernel.passes):
        if any(other in each.steps for other, _ in results(step)):
            begin = number + 1
    for number in range(begin, len(kernel.passes)):
        each = kernel.passes[number]
        if [axis.extent for axis in each.axes] == [axis.extent for axis in inner]:
            whole = {**mapping, **dict(zip(inner, each.axes, strict=True))}
            alike = step.kind == "reduce" and any(other.kind == "reduce" for other in each.steps)
            if shared and not alike and not _shares(step, kernel, whole):
                return False
            _adopt(step, whole)
            each.steps.append(step)
            return True
    if shared and not _shares(step, kernel, mapping):
        return False
    _adopt(step, mapping)
    kernel.passes.append(Pass(inner, [step]))
    return True


def _shares(step: Step, kernel: Kernel, mapping: Mapping[Axis, Axis]) -> bool:
    """Whether it reads an element that another step of the kernel reads in the same turn."""
    change_to = {axis: Index.of(other) for axis, other in mapping.items()}
    own = {id(substituted(part, change_to)) for part in parts(step) if part.op in ("load", "result")}
    theirs = {id(part) for other in kernel.steps for part in parts(other) if part.op in ("load", "result")}
    return bool(own & theirs)


def _adopt(step: Step, mapping: Mapping[Axis, Axis]) -> None:
    change(step, {axis: Index.of(other) for axis, other in mapping.items()})
    step.axes = tuple(mapping.get(axis, axis) for axis in step.axes)
    step.inner = tuple(mapping.get(axis, axis) for axis in step.inner)


def _as_epilogue(step: Step, kernel: Kernel, inside: Sequence[tuple[Step, tuple[Index, ...]]], inner: tuple[Axis, ...]) -> bool:
    mapping = _from_results(step, inside)
    if mapping is None or set(mapping) != set(step.axes) or set(mapping.values()) != {*kernel.grid, *inner}:
        return False
    if len(set(mapping.values())) != len(mapping):
        return False
    _adopt(step, mapping)
    if inner:
        kernel.passes[0].steps.append(step)
    elif len(kernel.passes) > 1:
        kernel.passes[1].steps.append(step)
    else:
        kernel.passes.append(Pass((), [step]))
    return True


def _beside(step: Step, kernel: Kernel) -> bool:
    """Another reduction of everything over the same elements."""
    (only,) = kernel.passes
    if [axis.extent for axis in only.axes] != [axis.extent for axis in step.inner]:
        return False
    mapping = dict(zip(step.inner, only.axes, strict=True))
    if not _shares(step, kernel, mapping):
        return False
    _adopt(step, mapping)
    only.steps.append(step)
    return True


# afterwards


def _keep(made: Sequence[Kernel], workspace: Callable[[str, Sequence[Index], str], Buffer]) -> None:
    """Results that another kernel uses are kept in memory and read from there."""

    def from_memory(part: Expression, own: set[int]) -> Expression | None:
        if part.op != "result" or id(part.value[0]) in own:
            return None
        step, places = part.value
        if step.buffer is None:
            step.buffer = workspace(step.name or "kept", [axis.extent for axis in step.axes], step.dtype)
        load = make("load", part.dtype, part.arguments, (step.buffer, step.buffer.place(places)))
        return rewritten(load, partial(from_memory, own=own))

    for kernel in made:
        own = set(map(id, kernel.steps))
        for step in kernel.steps:
            change(step, {}, partial(from_memory, own=own))


def _name(made: Sequence[Kernel]) -> None:
    """Kernels are called after what they leave; their lines are those of their steps."""
    taken: set[str] = set()
    for kernel in made:
        kept = [step for step in kernel.steps if step.stores or step.buffer or step.results] or kernel.steps
        name = next((store.buffer.name for step in kept for store in step.stores), kept[-1].name or "compute")
        chosen, number = name, 2
        while chosen in taken:
            chosen, number = f"{name}{number}", number + 1
        taken.add(chosen)
        kernel.name = chosen
        told = [line for step in kernel.steps for part in parts(step) for line in lines_of(part)]
        kernel.lines = tuple(dict.fromkeys((*told, *(line for step in kernel.steps for line in step.lines))))
