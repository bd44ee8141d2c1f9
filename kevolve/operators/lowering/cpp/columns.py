"""Kernels whose lanes run along the last axis of the grid: everything pointwise, and columns that are reduced side by side."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from kevolve.operators.lowering.cpp.function import Function, trivial
from kevolve.operators.lowering.cpp.rows import COMBINED, flat, kind, memory, restore, start, stores
from kevolve.operators.lowering.cpp.text import EXPENSIVE, TYPES
from kevolve.operators.lowering.cpp.view import Sweep, Work
from kevolve.operators.lowering.expression import Expression, visit
from kevolve.operators.lowering.index import Axis
from kevolve.operators.lowering.printing import ATOM, described


def columns(function: Function) -> None:
    """Blocks of neighbouring columns in parallel; pointwise ones in long runs."""
    view = function.view
    if all(not sweep.axes for sweep in view.all_sweeps) and len(view.all_sweeps) == 1:
        pointwise(function)
        return
    function.fixed_extents([*view.grid, *(axis for sweep in view.all_sweeps for axis in sweep.axes)])
    function.printer.around = frozenset([*view.grid[:-1], *(axis for sweep in view.all_sweeps for axis in sweep.axes)])
    lanes = function.file.use("kLanes")
    collapse = f" collapse({len(view.grid)})" if len(view.grid) > 1 else ""
    with contextlib.ExitStack() as stack:
        if view.kept:
            function.pragma(f"parallel {function.enough()}")
            stack.enter_context(function.block(""))
            memory(function, lanes)
            function.pragma(f"for{collapse} schedule(static)")
        else:
            function.pragma(f"parallel for{collapse} schedule(static) {function.enough()}")
        stack.enter_context(function.loops(view.grid[:-1]))
        stack.enter_context(_blocks(function, view.grid[-1], lanes))
        for sweep in view.all_sweeps:
            _sweep(function, sweep)


def pointwise(function: Function) -> None:
    """One value a place, and no more."""
    view = function.view
    (sweep,) = view.all_sweeps
    function.fixed_extents(view.grid)
    if not view.grid:
        _once(function, sweep)
        return
    *outer, last = view.grid
    found = function.defined(sweep.expressions, view.grid)
    if not outer:
        function.define(found.outside)
        enough = function.enough(of="parallel : ")  # else tiny problems would have no lanes either
        function.pragma(f"parallel for simd schedule(static) {enough}")
        with function.loops([last]):
            function.inner = (last,)
            function.define(found.within[0])
            stores(function, sweep)
        return
    run = function.file.use("kRun")
    function.define(found.outside)
    function.pragma(f"parallel for collapse({len(view.grid)}) schedule(static) {function.enough()}")
    with function.loops(outer), _blocks(function, last, run, lanes=False) as end:
        for values in found.within[:-1]:
            function.define(values)
        function.point(sweep.works, (last,))
        function.pragma("simd")
        name = function.names.of(last)
        with function.block(f"for (int64_t {name} = first; {name} < {end}; ++{name})"):
            function.define(found.within[-1])
            stores(function, sweep)


def _once(function: Function, sweep: Sweep) -> None:
    function.printer.lanes = False
    function.define(function.defined(sweep.expressions, ()).outside)
    stores(function, sweep)


@contextlib.contextmanager
def _blocks(function: Function, axis: Axis, width: str, *, lanes: bool = True) -> Iterator[str]:
    """A loop over blocks of an axis's places, from ``first`` on; yields how many there are in one, or where it ends."""
    extent = function.extent(axis)
    first = function.names.new("first")
    with function.block(f"for (int64_t {first} = 0; {first} < {extent}; {first} += {width})"):
        name = function.names.new("lanes" if lanes else "end")
        value = f"std::min({width}, {extent} - {first})" if lanes else f"std::min({first} + {width}, {extent})"
        function.line(f"const int64_t {name} = {value};")
        function.block_names = (first, name)  # type: ignore[attr-defined]
        yield name


@contextlib.contextmanager
def _lanes(function: Function) -> Iterator[None]:
    """The vectorised loop over the columns of a block."""
    first, lanes = function.block_names  # type: ignore[attr-defined]
    axis = function.view.grid[-1]
    function.pragma("simd")
    with function.block(f"for (int64_t lane = 0; lane < {lanes}; ++lane)"):
        name, place = function.names.of(axis), len(function.lines)
        yield
        if any(re.search(rf"\b{name}\b", line) for line in function.lines[place:]):
            function.lines.insert(place, f"{'  ' * function.depth}const int64_t {name} = {first} + lane;")


def _sweep(function: Function, sweep: Sweep) -> None:
    last = function.view.grid[-1]
    _settle(function, sweep)
    accumulators = {id(work): _accumulator(function, work) for work in sweep.works if work.step.kind in ("reduce", "scan")}
    names = function.names
    found = function.defined(sweep.inside, [*sweep.axes, last])
    function.define(found.outside)
    function.point(sweep.works, (*sweep.axes, last))
    made: list[Expression] = []
    with contextlib.ExitStack() as stack:
        for axis, values in zip(sweep.axes, found.within[:-1], strict=True):
            stack.enter_context(function.block(function.head(axis, function.extent(axis))))
            function.names = function.names.inside()
            made += function.define(values)
        function.names = function.names.inside()
        with _column(function, sweep, found.within[-1]):
            made += function.define(found.within[-1])
            for work in sweep.works:
                if work.step.kind == "reduce":
                    _accumulate(function, sweep, work, accumulators[id(work)])
                elif work.step.kind == "scan":
                    _scan(function, work, accumulators[id(work)])
            stores(function, Sweep(sweep.axes, [work for work in sweep.works if id(work) not in accumulators]))
    function.names = names
    function.forget(made)
    restore(function, sweep)
    for work in sweep.works:
        if work.step.kind == "reduce" and work.stores:
            _store_results(function, sweep, work)


@contextlib.contextmanager
def _column(function: Function, sweep: Sweep, values: list[Expression]) -> Iterator[None]:
    """The loop over lanes; the column's number where something uses it."""
    with _lanes(function):
        yield


def _settle(function: Function, sweep: Sweep) -> None:
    """What is costly and does not change along the pass is worked out once a column, into an array."""
    if not sweep.axes:
        return
    last = function.view.grid[-1]
    found = [
        value
        for value in function.defined(sweep.inside, sweep.axes).outside
        if last in value.axes and not trivial(value) and value.op != "load" and _costly(value) and id(value) not in function.printer.named
    ]
    if not found:
        return
    names = {id(value): function.names.new(described(value)) for value in found}
    for value in found:
        function.line(f"{TYPES[value.dtype]} {names[id(value)]}[kLanes];")
    scope = function.names
    function.names = scope.inside()
    with _lanes(function):
        for value in found:
            text = function.printer.text(value)
            function.line(f"{names[id(value)]}[lane] = {text};")
            function.printer.named[id(value)] = (f"{names[id(value)]}[lane]", ATOM)
    function.names = scope


def _costly(value: Expression) -> bool:
    return any(part.op in EXPENSIVE or part.op in ("div", "sqrt", "rsqrt", "reciprocal") for part in visit(value))


def _accumulator(function: Function, work: Work) -> str:
    """An array of what the columns have come to; sums of float32 in float64, for what rounding takes from long ones."""
    step, combine = work.step, work.step.combine
    wide = combine == "sum" and step.dtype == "float32"
    if combine in ("argmax", "argmin"):
        assert work.body is not None
        best = function.names.new(f"{step.name}_best")
        name = function.names.new(step.name)
        value = work.body.dtype
        function.line(f"{TYPES[value]} {best}[kLanes];")
        function.line(f"std::fill_n({best}, kLanes, {start(function, 'max' if combine == 'argmax' else 'min', value)});")
        function.line(f"int64_t {name}[kLanes] = {{}};")
        function.best = {**getattr(function, "best", {}), name: best}  # type: ignore[attr-defined]
    else:
        name = function.names.new(step.name)
        ctype = "double" if wide else kind(work)
        if combine in ("sum", "any"):
            function.line(f"{ctype} {name}[kLanes] = {{}};")
        else:
            function.line(f"{ctype} {name}[kLanes];")
            function.line(f"std::fill_n({name}, kLanes, {start(function, combine, step.dtype)});")
    function.printer.results[id(step)] = (f"static_cast<float>({name}[lane])" if wide else f"{name}[lane]", ATOM)
    return name


def _accumulate(function: Function, sweep: Sweep, work: Work, name: str) -> None:
    step, combine, body = work.step, work.step.combine, work.body
    assert body is not None
    keep = f"{function.kept[id(body)]} = " if id(body) in function.kept and id(body) not in function.printer.named else ""
    if combine in ("argmax", "argmin"):
        best = function.best[name]  # type: ignore[attr-defined]
        better = function.file.use("is_larger" if combine == "argmax" else "is_smaller")
        value, found = function.names.new("value"), function.names.new("found")
        function.line(f"const {TYPES[body.dtype]} {value} = {function.printer.text(body)};")
        function.line(f"const bool {found} = {better}({value}, {best}[lane]);")
        function.line(f"{best}[lane] = {found} ? {value} : {best}[lane];")
        function.line(f"{name}[lane] = {found} ? {flat(function, sweep.axes)} : {name}[lane];")
        return
    text = keep + function.printer.converted(body, "bool" if combine in ("any", "all") else step.dtype)
    text = f"({text})" if keep and combine in COMBINED else text
    if combine in COMBINED:
        function.line(f"{name}[lane] = {function.file.use(COMBINED[combine])}({name}[lane], {text});")
    else:
        sign = {"sum": "+=", "prod": "*=", "any": "|=", "all": "&="}[combine]
        function.line(f"{name}[lane] {sign} {text};")


def _scan(function: Function, work: Work, name: str) -> None:
    """A partial result at every place, stored at once."""
    sweep = Sweep((), [work])
    _accumulate(function, sweep, work, name)
    stores(function, sweep)


def _store_results(function: Function, sweep: Sweep, work: Work) -> None:
    scope = function.names
    function.names = scope.inside()
    inner = function.inner
    function.inner = ()
    with _lanes(function):
        for store in work.stores:
            function.store(store)
    function.inner = inner
    function.names = scope
