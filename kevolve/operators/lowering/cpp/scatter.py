"""Places written in any order: without races and in a fixed order, because each destination belongs to one thread."""

from __future__ import annotations

import contextlib

from kevolve.operators.lowering.cpp.function import Function
from kevolve.operators.lowering.cpp.text import reads
from kevolve.operators.lowering.cpp.view import Work
from kevolve.operators.lowering.expression import Buffer
from kevolve.operators.lowering.index import Axis, Index, Monomial, Size, exactly
from kevolve.operators.lowering.printing import TIMES, Unprintable
from kevolve.operators.lowering.program import Store

LONG = 20  # characters of a place from which it is not written twice


def scatter(function: Function) -> None:
    """In parallel over axes that never meet; else each thread walks over all sources and writes its own range of destinations."""
    view = function.view
    (work,) = [each for sweep in view.all_sweeps for each in sweep.works]
    axes = tuple(axis for sweep in view.all_sweeps for axis in sweep.axes) or view.grid
    axes = tuple(dict.fromkeys([*view.grid, *axes]))
    free = [axis for axis in axes if all(_is_free(axis, store) for store in work.stores)]
    last = axes[-1] if axes and axes[-1] in free else None
    outer = [axis for axis in free if axis is not last]
    bound = [axis for axis in axes if axis not in free]
    function.fixed_extents(axes)
    function.printer.lanes = last is not None
    if not bound:  # no two meet
        outer = outer or ([last] if last is not None else [])
        last = last if last is not None and last not in outer else None
    if outer:
        _in_parallel(function, work, outer, bound, last)
    else:
        _owned(function, work, bound, last)


def _positions(store: Store) -> list[Index] | None:
    """A place as its position along each axis of the memory."""
    strides = store.buffer.strides
    positions = [Index.of(0) for _ in strides]
    for moving, coefficient in _coefficients(store.place).items():
        for number, stride in enumerate(strides):
            part = exactly(coefficient, stride)
            if part is not None and (stride != Index.of(1) or number == len(strides) - 1):
                positions[number] = positions[number] + part * Index(frozenset({(moving, 1)}))
                break
        else:
            return None
    return positions


def _coefficients(place: Index) -> dict[Monomial, Index]:
    """What each product of moving parts is multiplied by, in sizes and numbers."""
    found: dict[Monomial, Index] = {}
    for monomial, factor in place.terms:
        moving = tuple(atom for atom in monomial if not isinstance(atom, Size))
        sizes = tuple(atom for atom in monomial if isinstance(atom, Size))
        found[moving] = found.get(moving, Index.of(0)) + Index(frozenset({(sizes, factor)}))
    return found


def _is_free(axis: Axis, store: Store) -> bool:
    positions = _positions(store)
    if positions is None:
        return False
    return Index.of(axis) in positions


def _in_parallel(function: Function, work: Work, outer: list[Axis], bound: list[Axis], last: Axis | None) -> None:
    collapse = f" collapse({len(outer)})" if len(outer) > 1 else ""
    function.pragma(f"parallel for{collapse} schedule(static) {_enough(function, outer, bound, last)}")
    with function.loops(outer):
        _walk(function, work, outer, bound, last, None)


def _enough(function: Function, *groups: list[Axis] | Axis | None) -> str:
    function.file.use("kGrain")
    axes = [axis for group in groups for axis in (group if isinstance(group, list) else [group] if group is not None else [])]
    return f"if ({function.work(axes)} > kGrain)"


def _owned(function: Function, work: Work, bound: list[Axis], last: Axis | None) -> None:
    """Each thread's own range of the destinations along the axis of memory that the index goes to."""
    buffer, number = _scattered(work, bound)
    size = function.printer.index(buffer.shape[number], TIMES)
    begin, end = function.names.new("begin"), function.names.new("end")
    function.pragma(f"parallel {_enough(function, bound, last)}")
    with function.block(""):
        function.line("const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();")
        function.line(f"const int64_t {begin} = {size} * thread / threads, {end} = {size} * (thread + 1) / threads;  // its destinations")
        _walk(function, work, [], bound, last, (number, begin, end))


def _scattered(work: Work, bound: list[Axis]) -> tuple[Buffer, int]:
    """The memory, and which of its axes the places go to in any order."""
    found = set()
    for store in work.stores:
        positions = _positions(store)
        if positions is None:
            raise Unprintable(f"{work.step.name}: places that cannot be told apart")
        moving = [number for number, position in enumerate(positions) if position.axes & set(bound)]  # the first of them
        found.add((tuple(map(repr, store.buffer.shape)), moving[0] if moving else 0))
    if len(found) > 1:
        raise Unprintable(f"{work.step.name}: scatters along different axes")
    store = work.stores[0]
    return store.buffer, next(iter(found))[1]


def _walk(
    function: Function, work: Work, outer: list[Axis], bound: list[Axis], last: Axis | None, own: tuple[int, str, str] | None
) -> None:
    loops = [*outer, *bound, *([last] if last is not None else [])]
    found = function.defined(work.expressions, loops, {id(value) for store in work.stores for value in reads(store.place)})
    function.define(found.outside)
    for values in found.within[: len(outer)]:
        function.define(values)
    if last is None:
        function.point([work], tuple(bound))
    names = function.names
    with contextlib.ExitStack() as stack:
        levels = found.within[len(outer) :]
        for axis, values in zip(bound, levels, strict=False):
            stack.enter_context(function.block(function.head(axis, function.extent(axis))))
            function.names = function.names.inside()
            own_axis = axis is bound[-1]
            function.define(values)
            if own_axis and own is not None:
                _skip(function, work, own)
        if last is not None:
            function.point([work], (last,))
            function.pragma("simd")
            stack.enter_context(function.block(function.head(last, function.extent(last))))
            function.names = function.names.inside()
            function.define(levels[-1])
        for store in work.stores:
            _combine(function, store, work.step.combine)
    function.names = names


def _skip(function: Function, work: Work, own: tuple[int, str, str]) -> None:
    number, begin, end = own
    positions = {tuple(_positions(store) or ()) for store in work.stores}
    if len({position[number] for position in positions}) > 1:
        raise Unprintable(f"{work.step.name}: scatters to different places at once")
    position = next(iter(positions))[number]
    text = function.printer.index(position)
    if not text.isidentifier():
        name = function.names.new("destination")
        function.line(f"const int64_t {name} = {text};")
        text = name
    function.line(f"if ({text} < {begin} || {text} >= {end}) continue;")


def _combine(function: Function, store: Store, combine: str) -> None:
    if combine == "set":
        function.store(store)
        return
    target = function.element(store.buffer, store.place)
    floating = store.buffer.like is not None or store.buffer.dtype in ("float16", "bfloat16")
    value = function.value_for(store)
    if floating and len(target) > LONG:
        name = function.names.new("there")
        function.line(f"{function.file.type_of(store.buffer)}& {name} = {target};")
        target = name
    if combine == "add" and not floating:
        text = f"{target} += {value};" if store.buffer.dtype != "bool" else f"{target} |= {value};"
    elif combine == "prod" and not floating:
        text = f"{target} *= {value};"
    else:
        there = f"{function.file.use('widen')}({target})" if floating else target
        helper = {"max": "larger", "min": "smaller"}.get(combine)
        if helper is not None:
            whole = f"{function.file.use(helper)}({there}, {value})"
        else:
            sign = "+" if combine in ("add", "sum") else "*"
            whole = f"{there} {sign} {function.printer.text(store.value, TIMES)}"
        text = function.written(store.buffer, target, whole)
    if store.condition is not None:
        text = f"if ({function.printer.text(store.condition)}) {text}"
    function.line(text)
