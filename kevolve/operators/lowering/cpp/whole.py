"""Reductions of everything, running sums along rows, and places written in any order."""

from __future__ import annotations

import contextlib

from kevolve.operators.lowering.cpp.function import Function, touched
from kevolve.operators.lowering.cpp.rows import COMBINED, REDUCTIONS, call, kind, maps, start, stores
from kevolve.operators.lowering.cpp.text import reads
from kevolve.operators.lowering.cpp.view import Sweep, Work
from kevolve.operators.lowering.expression import Expression, visit
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.printing import ATOM, Unprintable


def whole(function: Function) -> None:
    """Chunks in parallel; what they give is combined in their order."""
    for sweep in function.view.all_sweeps:
        if sweep.reduces and sweep.axes:
            _chunked(function, sweep)
        else:
            function.printer.lanes = False
            maps(function, sweep)


def _chunked(function: Function, sweep: Sweep) -> None:
    """A reduction: over chunks of the only axis, or of all axes but the last."""
    (work,) = sweep.works
    step, combine = work.step, work.step.combine
    assert work.body is not None
    if combine in ("argmax", "argmin"):
        raise Unprintable(f"{step.name}: {combine} of everything")
    function.fixed_extents(sweep.axes)
    found = function.defined([work.body], sweep.axes)
    function.define(found.outside)
    outer, last = list(sweep.axes[:-1]), sweep.axes[-1]
    ctype = kind(work)
    wide = "double" if combine == "sum" and step.dtype == "float32" else ctype
    parts, chunks = function.names.new(f"{step.name}_parts"), function.names.new("chunks")
    chunk, name = function.names.new("chunk"), function.names.new(step.name)
    scope = function.names
    function.file.use("kGrain")
    if not outer:
        size = function.extent(last)
        function.line(f"const int64_t {chunks} = ({size} + {function.file.use('kChunk')} - 1) / kChunk;")
        function.line(f"std::vector<{_held(wide)}> {parts}({chunks});")
        function.pragma(f"parallel for schedule(static) if ({size} > kGrain)")
        with function.block(f"for (int64_t {chunk} = 0; {chunk} < {chunks}; ++{chunk})"):
            function.names = function.names.inside()
            first, count = function.names.new("first"), function.names.new("size")
            function.line(f"const int64_t {first} = {chunk} * kChunk, {count} = std::min(kChunk, {size} - {first});")
            _shifted(function, work, last, first, count, f"{parts}[{chunk}]", found.within[-1])
        function.names = scope
    else:
        _chunked_rows(function, sweep, work, parts, found.within)
    _combine_parts(function, work, parts, name, wide)
    function.printer.results[id(step)] = (name, ATOM)
    for store in work.stores:
        function.store(store)


def _held(ctype: str) -> str:
    return "char" if ctype == "bool" else ctype  # of bool a vector holds bits, which threads may not write side by side


def _shifted(function: Function, work: Work, axis: Axis, first: str, count: str, target: str, values: list[Expression]) -> None:
    """One chunk: its elements are counted from its own beginning."""
    function.inner = (axis,)
    plain = all(not place.axes or place.coefficient(axis) == Index.of(1) for _, place in touched([work])) and _only_places(work, axis)
    if plain:
        for buffer, place in touched([Work(work.step, work.body, None, None, [])]):
            if axis in place.axes:
                base = place - axis
                pointer = function.pointer(buffer)
                name = function.names.new(f"{buffer.name}_chunk")
                more = f" + {function.printer.index(base, 70)}" if base.terms else ""
                function.line(f"{function.type_of(buffer)}* {name} = {pointer}{more} + {first};")
                function.bases[id(buffer), base] = name
        call(function, f"{target} =", ");", work, axis, values, count)
        function.bases.clear()
        return
    scope = function.names
    function.names = scope.inside()
    index = function.names.new("at")
    helper = function.file.use(REDUCTIONS[work.step.combine])
    function.line(f"{target} = {helper}({count}, [&](int64_t {index}) INLINE {{")
    function.depth += 1
    function.line(f"const int64_t {function.names.of(axis)} = {first} + {index};")
    made = function.define(values)
    assert work.body is not None
    dtype = "bool" if work.step.combine in ("any", "all") else work.step.dtype
    function.line(f"return {function.printer.converted(work.body, dtype)};")
    function.depth -= 1
    function.line("});")
    function.forget(made)
    function.names = scope


def _only_places(work: Work, axis: Axis) -> bool:
    """Whether the axis is used to read memory only, not as a number."""
    assert work.body is not None
    return not any(part.op == "place" and axis in part.axes for part in visit(work.body)) and not any(
        part.op == "load" and any(axis in value.axes for value in _reads_of(part)) for part in visit(work.body)
    )


def _reads_of(part: Expression) -> list[Expression]:
    return reads(part.value[1])


def _chunked_rows(function: Function, sweep: Sweep, work: Work, parts: str, within: list[list[Expression]]) -> None:
    """A partial result for each place of the outer axes, in parallel."""
    step, combine = work.step, work.step.combine
    *outer, last = sweep.axes
    ctype = kind(work)
    wide = "double" if combine == "sum" and step.dtype == "float32" else ctype
    first, *others = outer
    function.line(f"std::vector<{_held(wide)}> {parts}({function.extent(first)}, {_start(function, work)});")
    function.pragma(f"parallel for schedule(static) if ({function.work(sweep.axes)} > kGrain)")
    scope = function.names
    made: list[Expression] = []
    with function.block(function.head(first, function.extent(first))), contextlib.ExitStack() as stack:
        function.names = function.names.inside()
        made += function.define(within[0])
        for axis, values in zip(others, within[1:-1], strict=True):
            stack.enter_context(function.block(function.head(axis, function.extent(axis))))
            function.names = function.names.inside()
            made += function.define(values)
        function.point([Work(step, work.body, None, None, [])], (last,))
        target = f"{parts}[{function.names.of(first)}]"
        if combine in COMBINED:
            call(function, f"{target} = {function.file.use(COMBINED[combine])}({target},", "));", work, last, within[-1])
        else:
            sign = {"sum": "+=", "prod": "*=", "any": "|=", "all": "&="}[combine]
            call(function, f"{target} {sign}", ");", work, last, within[-1])
    function.bases.clear()
    function.names = scope
    function.forget(made)


def _start(function: Function, work: Work) -> str:
    text = start(function, work.step.combine, work.step.dtype)
    return "0.0" if work.step.combine == "sum" and work.step.dtype == "float32" else text


def _combine_parts(function: Function, work: Work, parts: str, name: str, wide: str) -> None:
    combine = work.step.combine
    if combine == "sum" and wide != "bool":
        text = f"std::accumulate({parts}.begin(), {parts}.end(), {_start(function, work) if wide == 'double' else 'int64_t{0}'})"
        text = f"static_cast<float>({text})" if wide != kind(work) else text
        function.line(f"const {kind(work)} {name} = {text};")
        return
    total = name
    function.line(f"{wide} {total} = {_start(function, work)};")
    part = "part"
    if combine in COMBINED:
        helper = function.file.use(COMBINED[combine])
        function.line(f"for (const {wide} {part} : {parts}) {total} = {helper}({total}, {part});")
    else:
        sign = {"sum": "+=", "prod": "*=", "any": "|=", "all": "&="}[combine]
        function.line(f"for (const {_held(wide)} {part} : {parts}) {total} {sign} {part}{' != 0' if wide == 'bool' else ''};")


# --- scans ---


def scan(function: Function) -> None:
    """Rows in parallel, each in its order: a sum in float64, for what rounding takes from long ones."""
    view = function.view
    sweeps = view.all_sweeps
    (work,) = [each for sweep in sweeps for each in sweep.works if each.step.kind == "scan"]
    axis = work.step.inner[0]
    maps_after = [each for sweep in sweeps for each in sweep.works if each.step.kind == "map"]
    function.fixed_extents([*view.grid, axis])
    function.printer.lanes = False
    if view.grid:
        collapse = f" collapse({len(view.grid)})" if len(view.grid) > 1 else ""
        function.pragma(f"parallel for{collapse} schedule(static) {function.enough()}")
    with function.loops(view.grid):
        _scan_row(function, work, axis, maps_after)


def _scan_row(function: Function, work: Work, axis: Axis, after: list[Work]) -> None:
    step, combine, body = work.step, work.step.combine, work.body
    assert body is not None
    works = [work, *after]
    roots = [value for each in works for value in each.expressions]
    found = function.defined(roots, (axis,))
    function.define(found.outside)
    function.point(works, (axis,))
    wide = combine == "sum" and step.dtype == "float32"
    name = function.names.new(step.name)
    function.line(f"{'double' if wide else kind(work)} {name} = {_start(function, work)};")
    function.printer.results[id(step)] = (f"static_cast<float>({name})" if wide else name, ATOM)
    with function.loops([axis]):
        own = [value for value in found.within[0] if not _uses(value, step)]
        function.define(own)
        text = function.printer.converted(body, step.dtype)
        if combine in COMBINED:
            function.line(f"{name} = {function.file.use(COMBINED[combine])}({name}, {text});")
        else:
            function.line(f"{name} {'+=' if combine == 'sum' else '*='} {text};")
        function.define([value for value in found.within[0] if _uses(value, step)])
        stores(function, Sweep((axis,), works))


def _uses(value: Expression, step: object) -> bool:
    return any(part.op == "result" and part.value[0] is step for part in visit(value))
