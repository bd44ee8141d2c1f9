"""Kernels whose lanes run along the last axis of each pass: a place of the grid is a row."""

from __future__ import annotations

import contextlib

from kevolve.operators.lowering.cpp.function import Function
from kevolve.operators.lowering.cpp.text import TYPES
from kevolve.operators.lowering.cpp.view import Sweep, Work
from kevolve.operators.lowering.expression import Expression, visit
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.printing import ATOM, Unprintable, described

REDUCTIONS = {
    "sum": "sum_of",
    "prod": "product_of",
    "max": "max_of",
    "min": "min_of",
    "any": "any_of",
    "all": "all_of",
    "argmax": "argmax_of",
    "argmin": "argmin_of",
}
COMBINED = {"max": "larger", "min": "smaller"}


def rows(function: Function) -> None:
    """A parallel loop over rows, a loop in it for each pass."""
    view = function.view
    function.fixed_extents([*view.grid, *(axis for sweep in view.all_sweeps for axis in sweep.axes)])
    function.printer.around = frozenset(view.grid)
    if not view.grid:
        _row(function)
        return
    collapse = f" collapse({len(view.grid)})" if len(view.grid) > 1 else ""
    if not view.kept:
        function.pragma(f"parallel for{collapse} schedule(static) {function.enough()}")
        with function.loops(view.grid):
            _row(function)
        return
    function.pragma(f"parallel {function.enough()}")
    with function.block(""):
        memory(function)
        function.pragma(f"for{collapse} schedule(static)")
        with function.loops(view.grid):
            _row(function)


def memory(function: Function, lanes: str = "") -> None:
    """A row for each expression that is kept between passes; ``lanes``: how many of them are side by side."""
    for number, sweep in function.view.kept.items():
        value = next(part for part in _parts(sweep) if id(part) == number)
        stem = described(value)
        name = function.names.new(f"kept_{stem}" if stem.endswith("s") else f"{stem}s")
        count = " * ".join([*(function.extent(axis) for axis in sweep.axes), *([lanes] if lanes else [])])
        function.line(
            f"const auto {name} = {function.file.use('scratch')}<{TYPES[value.dtype]}>({count});  // kept from one pass for another"
        )
        place = flat(function, sweep.axes)
        function.kept[number] = (
            f"{name}[{f'({place}) * {lanes} + lane' if lanes and ' ' in place else f'{place} * {lanes} + lane' if lanes else place}]"
        )


def _parts(sweep: Sweep) -> list[Expression]:
    seen: set[int] = set()
    return [part for value in sweep.expressions for part in visit(value, seen)]


def flat(function: Function, axes: tuple[Axis, ...]) -> str:
    """The number of a place among those of several axes."""
    place = Index.of(0)
    for axis in axes:
        place = place * axis.extent + axis
    return function.printer.index(place)


def _row(function: Function) -> None:
    names = function.names
    known = dict(function.printer.named)
    for sweep in function.view.all_sweeps:
        function.names = names.inside() if not function.view.grid else names
        function.fixed_extents(())
        if sweep.reduces:
            reduce(function, sweep)
        else:
            maps(function, sweep)
        restore(function, sweep)
    function.printer.named = known


def restore(function: Function, sweep: Sweep) -> None:
    """After a sweep, what it kept is read where it was kept."""
    for number, where in function.view.kept.items():
        if where is sweep:
            function.printer.named[number] = (function.kept[number], ATOM)


def maps(function: Function, sweep: Sweep) -> None:
    """What is stored at every place of the pass."""
    roots = sweep.expressions
    found = function.defined(roots, sweep.axes)
    function.define(found.outside)
    function.point(sweep.works, sweep.axes)
    if not sweep.axes:
        stores(function, sweep)
        return
    made, names = [], function.names
    with contextlib.ExitStack() as stack:
        for axis, values in zip(sweep.axes, found.within, strict=True):
            extent = function.extent(axis)
            if axis is sweep.axes[-1]:
                function.pragma("simd")
            stack.enter_context(function.block(function.head(axis, extent)))
            function.names = function.names.inside()
            made += function.define(values)
        stores(function, sweep)
    function.names = names
    function.forget(made)


def stores(function: Function, sweep: Sweep) -> None:
    """All stores of a sweep."""
    for work in sweep.works:
        for store in work.stores:
            function.store(store)


def reduce(function: Function, sweep: Sweep) -> None:
    """One reduction: a call where it runs along one axis, loops around that for others."""
    (work,) = sweep.works
    step = work.step
    assert work.body is not None
    name = function.names.new(step.name)
    found = function.defined([work.body], sweep.axes)
    function.define(found.outside)
    function.point([Work(step, work.body, None, None, [])], sweep.axes)
    if not sweep.axes:
        function.line(f"const {TYPES[step.dtype]} {name} = {function.printer.converted(work.body, step.dtype)};")
    elif len(sweep.axes) == 1:
        place = ".place" if step.combine in ("argmax", "argmin") else ""
        call(function, f"const {kind(work)} {name} =", f"){place};", work, sweep.axes[0], found.within[0])
    else:
        _nested(function, sweep, work, name, found.within)
    function.printer.results[id(step)] = (name, ATOM)
    stores_of_result(function, work)


def stores_of_result(function: Function, work: Work) -> None:
    """What a reduction stores, after it."""
    for store in work.stores:
        function.store(store)


def kind(work: Work) -> str:
    """The type of a reduction's result."""
    return "int64_t" if work.step.combine in ("argmax", "argmin") else TYPES[work.step.dtype]


def call(function: Function, head: str, tail: str, work: Work, axis: Axis, values: list[Expression], offset: str = "") -> None:
    """``sum_of(cols, [&](int64_t col) INLINE { return …; })``."""
    assert work.body is not None
    step = work.step
    combine = function.file.use(REDUCTIONS[step.combine])
    extent, names = function.extent(axis), function.names
    function.names = names.inside()
    index = function.names.of(axis)
    dtype = work.body.dtype if step.combine in ("argmax", "argmin") else "bool" if step.combine in ("any", "all") else step.dtype
    values = [value for value in values if value is not work.body or function.kept.get(id(value)) is None]
    opening = f"{head} {combine}({offset or extent}, [&](int64_t {index}) INLINE {{"
    if not values:
        keep = (
            f"{function.kept[id(work.body)]} = " if id(work.body) in function.kept and id(work.body) not in function.printer.named else ""
        )
        whole = f"{opening} return {keep}{function.printer.converted(work.body, dtype)}; }}{tail}"
        if len(whole) + 2 * function.depth <= 110:
            function.line(whole)
            function.names = names
            return
    function.line(opening)
    function.depth += 1
    made = function.define(values)
    keep = f"{function.kept[id(work.body)]} = " if id(work.body) in function.kept and id(work.body) not in function.printer.named else ""
    function.line(f"return {keep}{function.printer.converted(work.body, dtype)};")
    function.depth -= 1
    function.line(f"}}{tail}")
    function.forget(made)
    function.names = names


def _nested(function: Function, sweep: Sweep, work: Work, name: str, within: list[list[Expression]]) -> None:
    """Loops over all axes but the last, whose results are combined."""
    step, combine, inner = work.step, work.step.combine, function.names
    ctype = kind(work)
    wide = combine == "sum" and step.dtype == "float32"
    arguments = combine in ("argmax", "argmin")
    whole = function.names.new(f"wide_{name}") if wide else function.names.new(f"{name}_best") if arguments else name
    if arguments:
        assert work.body is not None
        value = TYPES[work.body.dtype]
        function.line(f"Best<{value}> {whole}{{{start(function, 'max' if combine == 'argmax' else 'min', work.body.dtype)}, 0}};")
    else:
        function.line(f"{'double' if wide else ctype} {whole} = {'0.0' if wide else start(function, combine, step.dtype)};")
    made: list[Expression] = []
    with contextlib.ExitStack() as stack:
        for axis, values in zip(sweep.axes[:-1], within[:-1], strict=True):
            stack.enter_context(function.block(function.head(axis, function.extent(axis))))
            function.names = function.names.inside()
            made += function.define(values)
        last = sweep.axes[-1]
        if arguments:
            part = function.names.new("part")
            call(function, f"const auto {part} =", ");", work, last, within[-1])
            better = function.file.use("is_larger" if combine == "argmax" else "is_smaller")
            place = flat(function, sweep.axes[:-1])
            place = f"({place})" if " " in place else place
            function.line(
                f"if ({better}({part}.value, {whole}.value)) {whole} = {{{part}.value, {place} * {function.extent(last)} + {part}.place}};"
            )
        elif combine in ("sum", "prod"):
            call(function, f"{whole} {'+=' if combine == 'sum' else '*='}", ");", work, last, within[-1])
        elif combine in ("any", "all"):
            call(function, f"{whole} {'|=' if combine == 'any' else '&='}", ");", work, last, within[-1])
        else:
            call(function, f"{whole} = {function.file.use(COMBINED[combine])}({whole},", "));", work, last, within[-1])
    function.names = inner
    function.forget(made)
    if wide:
        function.line(f"const float {name} = static_cast<float>({whole});")
    elif arguments:
        function.line(f"const int64_t {name} = {whole}.place;")


def start(function: Function, combine: str, dtype: str) -> str:
    """What changes nothing when combined."""
    if combine in ("sum", "prod"):
        number = 0 if combine == "sum" else 1
        return f"{number}.0f" if dtype == "float32" else f"{number}.0" if dtype == "float64" else str(number)
    if combine in ("any", "all"):
        return "false" if combine == "any" else "true"
    ctype = TYPES[dtype]
    if dtype == "float32":
        return f"{'-' if combine == 'max' else ''}{function.file.use('kInfinity')}"
    if dtype == "float64":
        return f"{'-' if combine == 'max' else ''}std::numeric_limits<double>::infinity()"
    if combine in ("max", "min"):
        return f"std::numeric_limits<{ctype}>::{'lowest' if combine == 'max' else 'max'}()"
    raise Unprintable(f"C++ has no combination {combine}")
