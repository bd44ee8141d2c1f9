"""A kernel as C++ loops over it: axes that memory runs through without a gap are one, passes over the same places use the same axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kevolve.operators.lowering.cpp.text import EXPENSIVE
from kevolve.operators.lowering.expression import Expression, as_index, make, place, rewritten, sorted_reads, visit
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.program import Kernel, Pass, Step, Store


@dataclass(eq=False)
class Work:
    """A step as it is printed: its expressions over the view's axes. ``stores``: that of its own result among them."""

    step: Step
    body: Expression | None
    first: Expression | None
    second: Expression | None
    stores: list[Store]

    @property
    def expressions(self) -> list[Expression]:
        """All of them."""
        stored = [value for store in self.stores for value in of_store(store)]
        return [value for value in (self.body, self.first, self.second) if value is not None] + stored


def of_store(store: Store) -> list[Expression]:
    """What a store evaluates, what its place reads included."""
    place = [atom.value for atom in sorted_reads(store.place)]
    return [store.value, *([store.condition] if store.condition is not None else []), *place]


@dataclass(eq=False)
class Sweep:
    """Loops over ``axes`` that are printed as one."""

    axes: tuple[Axis, ...]
    works: list[Work]

    @property
    def reduces(self) -> bool:
        """Whether it gives results."""
        return self.works[0].step.kind == "reduce"

    @property
    def inside(self) -> list[Expression]:
        """What is evaluated in its innermost loop: of a reduction the body."""
        within = [[work.body] if work.step.kind == "reduce" else work.expressions for work in self.works]
        return [value for values in within for value in values if value is not None]

    @property
    def expressions(self) -> list[Expression]:
        """All of its works'."""
        return [value for work in self.works for value in work.expressions]


@dataclass(eq=False)
class View:
    """``grid`` and ``sweeps``; ``groups``: of a product, the axes across and inside; ``names``: how merged axes are called."""

    kernel: Kernel
    grid: tuple[Axis, ...]
    sweeps: list[list[Sweep]]  # by pass
    inner: tuple[Axis, ...] = ()
    across: tuple[tuple[Axis, ...], tuple[Axis, ...]] = ((), ())
    kept: dict[int, Sweep] = field(default_factory=dict)  # expressions that a later sweep reads again, and where they are worked out

    @property
    def all_sweeps(self) -> list[Sweep]:
        """In order."""
        return [sweep for each in self.sweeps for sweep in each]


def viewed(kernel: Kernel) -> View:
    """The kernel with its axes merged and shared."""
    steps = {id(step) for step in kernel.steps}
    works = {id(step): _work(step, steps) for step in kernel.steps}
    axes = _shared(kernel.passes)
    for work in works.values():
        _replace(work, axes)
    passes = [tuple(_as_axis(axes, axis) for axis in each.axes) for each in kernel.passes]
    grid, inner, across = kernel.grid, (), ((), ())
    single = [axis for axis in grid if axis.extent.number == 1 and axis is not grid[-1]] if kernel.form != "product" else []
    grid = tuple(axis for axis in grid if axis not in single)
    for work in works.values():
        _replace(work, {axis: Index.of(0) for axis in single})
    groups = list(dict.fromkeys([*passes]))
    if kernel.form == "product":
        product = next(step for step in kernel.steps if step.kind == "product")
        inner, across = product.inner, product.across  # type: ignore[assignment]
        batch = tuple(axis for axis in grid if axis not in across[0] and axis not in across[1])
        groups = [batch, across[0], across[1], inner]
    elif kernel.form == "scan":
        groups = [grid]
    else:
        groups = [grid, *groups]
    merged = {group: _merge(group, works.values(), _stem(kernel.form, number)) for number, group in enumerate(groups)}
    sweeps = []
    for each, own in zip(kernel.passes, passes, strict=True):
        sweeps.append(_sweeps(merged.get(own, own), [works[id(step)] for step in each.steps], together=kernel.form == "columns"))
    if kernel.form == "product":
        return View(kernel, merged[groups[0]], sweeps, merged[inner], (merged[across[0]], merged[across[1]]))
    view = View(kernel, merged[grid], sweeps)
    if kernel.form in ("rows", "columns"):
        view.kept = _kept(view.all_sweeps)
    return view


def _stem(form: str, number: int) -> str:
    return "row" if number == 0 and form in ("rows", "scan") else "i"


def _work(step: Step, own: set[int]) -> Work:
    """With results of other kernels as loads of the memory they were kept in, and its own result's memory as a store."""

    def change(value: Expression) -> Expression | None:
        if value.op == "result" and id(value.value[0]) not in own:
            earlier, places = value.value
            arguments = tuple(rewritten(argument, change) for argument in value.arguments)
            return make("load", value.dtype, arguments, (earlier.buffer, earlier.buffer.place(places)))
        return None

    def seen(value: Expression | None) -> Expression | None:
        return None if value is None else rewritten(value, change)

    stores = [
        Store(store.buffer, _place(store.place, change), rewritten(store.value, change), seen(store.condition)) for store in step.stores
    ]
    if step.buffer is not None:
        result = make("result", step.dtype, (), (step, tuple(map(Index.of, step.axes))))
        flat = Index.of(0)
        for axis in step.axes:
            flat = flat * axis.extent + axis
        stores.append(Store(step.buffer, flat, result))
    return Work(step, seen(step.body), seen(step.first), seen(step.second), stores)


def _place(index: Index, change: Callable[[Expression], Expression | None]) -> Index:
    return as_index(rewritten(place(index), change))


def _replace(work: Work, axes: dict[Axis, Index]) -> None:
    """Other axes in all its expressions."""
    if not axes:
        return

    def seen(value: Expression | None) -> Expression | None:
        return None if value is None else rewritten(value, lambda _: None, axes)

    work.body, work.first, work.second = seen(work.body), seen(work.first), seen(work.second)
    work.stores = [
        Store(
            store.buffer,
            as_index(rewritten(place(store.place), lambda _: None, axes)),
            seen(store.value) or store.value,
            seen(store.condition),
        )
        for store in work.stores
    ]


def _as_axis(axes: dict[Axis, Index], axis: Axis) -> Axis:
    if axis not in axes:
        return axis
    (((atom,), _),) = axes[axis].terms
    assert isinstance(atom, Axis)
    return atom


def _shared(passes: Sequence[Pass]) -> dict[Axis, Index]:
    """Axes of later passes over the same places, as those of the first such pass."""
    known: dict[tuple[Index, ...], tuple[Axis, ...]] = {}
    axes: dict[Axis, Index] = {}
    for each in passes:
        first = known.setdefault(tuple(axis.extent for axis in each.axes), each.axes)
        if first is not each.axes:
            axes.update({own: Index.of(shared) for own, shared in zip(each.axes, first, strict=True)})
    return axes


# --- merging ---


def _merge(axes: tuple[Axis, ...], given: Iterable[Work], stem: str) -> tuple[Axis, ...]:
    """Neighbouring axes through which every place runs as through one."""
    works = list(given)
    left = list(axes)
    position = len(left) - 2
    while position >= 0:
        outer, inner = left[position], left[position + 1]
        if _mergeable(outer, inner, works):
            one = Axis(stem, outer.extent * inner.extent)
            for work in works:
                _replace(work, {outer: Index.of(0), inner: Index.of(one)})
            left[position : position + 2] = [one]
        position -= 1
    return tuple(left)


def _mergeable(outer: Axis, inner: Axis, works: list[Work]) -> bool:
    if outer.extent.axes or inner.extent.axes or any(not _smooth(axis.extent, outer, inner) for work in works for axis in work.step.inner):
        return False
    return all(_smooth(index, outer, inner) for index in _indices(works))


def _smooth(index: Index, outer: Axis, inner: Axis) -> bool:
    first, second = index.coefficient(outer), index.coefficient(inner)
    if first is None or second is None:
        return False
    return first == second * inner.extent


def _indices(works: list[Work]) -> Iterator[Index]:
    """All places and numbers made from axes; of own results none, which are where the axes are."""
    seen: set[int] = set()
    for work in works:
        yield from (store.place for store in work.stores)
        for value in work.expressions:
            for part in visit(value, seen):
                if part.op == "load":
                    yield part.value[1]
                elif part.op == "place":
                    yield part.value
                elif part.op == "search":
                    yield from part.value[1:3]


# --- sweeps, and what is kept between them ---


def _sweeps(axes: tuple[Axis, ...], works: list[Work], *, together: bool) -> list[Sweep]:
    """Each reduction by itself, what is only stored together. ``together``: reductions in lanes side by side go along with everything."""
    if together and axes and all(work.step.kind in ("reduce", "map") for work in works):
        return [Sweep(axes, sorted(works, key=lambda work: work.step.kind == "map"))]
    reductions = [Sweep(axes, [work]) for work in works if work.step.kind in ("reduce", "product", "scan", "scatter")]
    maps = [work for work in works if work.step.kind == "map"]
    return [*reductions, *([Sweep(axes, maps)] if maps else [])]


def _kept(sweeps: list[Sweep]) -> dict[int, Sweep]:
    """What is expensive, worked out in one sweep and needed by a later one over the same places."""
    kept: dict[int, Sweep] = {}
    where: dict[int, Sweep] = {}
    for sweep in sweeps:
        if not sweep.axes:
            continue
        seen: set[int] = set()
        pending = sweep.inside
        while pending:
            value = pending.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            earlier = where.get(id(value))
            if earlier is not None and earlier.axes == sweep.axes and sweep.axes[-1] in value.axes and is_expensive(value):
                kept[id(value)] = earlier
                continue
            pending += value.arguments
        for number in seen:
            if number not in kept:
                where.setdefault(number, sweep)
    return kept


def is_expensive(value: Expression) -> bool:
    """Whether it takes more than reading it again would."""
    if value.op in EXPENSIVE:
        return True
    return value.op not in ("load", "result") and any(map(is_expensive, value.arguments))
