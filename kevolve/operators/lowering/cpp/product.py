"""Matrix products: both operands packed, with what comes before, for tiles whose sums stay in registers, with what comes after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kevolve.operators.lowering.cpp.function import Function
from kevolve.operators.lowering.cpp.rows import stores
from kevolve.operators.lowering.cpp.text import TYPES
from kevolve.operators.lowering.cpp.view import Sweep, Work, of_store
from kevolve.operators.lowering.expression import Expression, visit
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.printing import ATOM

_SMALL = ("int8", "uint8", "bool")


def product(function: Function) -> None:
    """Pack, multiply tile by tile, store; with batch axes, a matrix a thread."""
    view = function.view
    (work,) = [each for sweep in view.all_sweeps for each in sweep.works if each.step.kind == "product"]
    assert work.first is not None
    assert work.second is not None
    high, wide, inner = view.across[0], view.across[1], view.inner
    for name in ("multiply", "kHigh", "kWide", "scratch"):
        function.file.use(name)
    function.fixed_extents([*view.grid, *high, *wide, *inner])
    rows, cols, depth = (_count(function, axes, stem) for axes, stem in ((high, "rows"), (wide, "cols"), (inner, "depth")))
    names = function.names
    high_tiles, wide_tiles = names.new("high_tiles"), names.new("wide_tiles")
    function.line(f"const int64_t {high_tiles} = ({rows} + kHigh - 1) / kHigh, {wide_tiles} = ({cols} + kAcross - 1) / kAcross;")
    first, second = names.new("high_panels"), names.new("wide_panels")
    packed, total = _types(work)
    panels = [
        f"const auto {first} = scratch<{packed}>({high_tiles} * kHigh * {depth});",
        f"const auto {second} = scratch<{packed}>({wide_tiles} * kAcross * {depth});",
    ]
    function.file.use("kGrain")
    enough = f"if ({function.work(view.grid, high, wide, inner)} > kGrain)"
    batched = bool(view.grid)
    if not batched:
        for line in panels:
            function.line(line)
    function.pragma(f"parallel {enough}")
    with function.block(""), contextlib.ExitStack() as stack:
        if batched:
            for line in panels:
                function.line(line)
            function.pragma(f"for{f' collapse({len(view.grid)})' if len(view.grid) > 1 else ''} schedule(static)")
            stack.enter_context(function.loops(view.grid))
        _pack(function, high, inner, work.first, first, high_tiles, "kHigh", rows, depth, batched)
        _pack(function, wide, inner, work.second, second, wide_tiles, "kAcross", cols, depth, batched)
        if not batched:
            function.pragma("for collapse(2) schedule(static)")
        tile, across = names.new("high"), names.new("wide")
        with (
            function.block(f"for (int64_t {across} = 0; {across} < {wide_tiles}; ++{across})"),
            function.block(f"for (int64_t {tile} = 0; {tile} < {high_tiles}; ++{tile})"),
        ):
            function.line(f"{total} sums[kHigh][kAcross];")
            left = f"&{first}[{tile} * kHigh * {depth}]"
            right = f"&{second}[{across} * kAcross * {depth}]"
            function.line(f"multiply({depth}, {left}, {right}, sums);")
            _epilogue(function, work, (high, rows, tile), (wide, cols, across))


def _types(work: Work) -> tuple[str, str]:
    """Of packed numbers and of their sums: whole numbers of 8 bits are summed in 32 bits for a while, then in 64."""
    dtype = work.step.dtype
    if dtype in ("float32", "float64"):
        return TYPES[dtype], TYPES[dtype]
    small = all(_is_small(operand) for operand in (work.first, work.second) if operand is not None)
    return ("int32_t" if small else "int64_t"), "int64_t"


def _is_small(operand: Expression) -> bool:
    while operand.op == "cast" and operand.dtype not in ("float32", "float64"):
        operand = operand.arguments[0]
    return operand.dtype in _SMALL


def _count(function: Function, axes: tuple[Axis, ...], stem: str) -> str:
    """How many places several axes have."""
    if len(axes) == 1:
        return function.extent(axes[0])
    total = Index.of(1)
    for axis in axes:
        total = total * axis.extent
    name = function.names.new(stem)
    function.line(f"const int64_t {name} = {function.printer.index(total)};")
    return name


@contextlib.contextmanager
def _numbered(function: Function, axes: tuple[Axis, ...], stem: str) -> Iterator[str]:
    """The name of a place's number among those of the axes; ``decoded`` gives each its own."""
    scope = function.names
    function.names = scope.inside()
    yield function.names.of(axes[0]) if len(axes) == 1 else function.names.new(stem)
    function.names = scope


def _decoded(function: Function, axes: tuple[Axis, ...], number: str) -> None:
    """Each axis's place from the number of them all."""
    if len(axes) == 1:
        return
    after: list[Axis] = []
    for axis in reversed(axes):
        below = " * ".join(function.extent(other) for other in after)
        text = number if not after else f"{number} / {below}" if len(after) == 1 else f"{number} / ({below})"
        if axis is not axes[0]:
            text = f"{text} % {function.extent(axis)}"
        function.line(f"const int64_t {function.names.of(axis)} = {text};")
        after.insert(0, axis)


def _pack(
    function: Function,
    axes: tuple[Axis, ...],
    inner: tuple[Axis, ...],
    operand: Expression,
    panels: str,
    tiles: str,
    width: str,
    count: str,
    depth: str,
    batched: bool,
) -> None:
    """One operand, worked out where it is packed."""
    helper = function.file.use("pack_across" if _runs_along(operand, axes) and not _runs_along(operand, inner) else "pack_along")
    packed, _ = _types(next(each for sweep in function.view.all_sweeps for each in sweep.works if each.step.kind == "product"))
    scope = function.names
    function.names = scope.inside()
    tile = function.names.new("tile")
    if not batched:
        function.pragma("for schedule(static)")
    with function.block(f"for (int64_t {tile} = 0; {tile} < {tiles}; ++{tile})"):
        head = f"{helper}<{width}>({tile} * {width}, {count}, {depth}, &{panels}[{tile} * {width} * {depth}], "
        with _numbered(function, axes, "i") as number, _numbered(function, inner, "k") as step:
            decoded = len(axes) > 1 or len(inner) > 1
            found = function.defined([operand], (*axes, *inner))
            values = list(found)
            values = [value for value in values if id(value) not in function.printer.named]
            lambda_ = f"[&](int64_t {number}, int64_t {step}) INLINE {{"
            dtype = {"float": "float32", "double": "float64", "int32_t": "int32", "int64_t": "int64"}[packed]
            plain = f"{head}{lambda_} return {function.printer.converted(operand, dtype)}; }});"
            if not decoded and not values and len(plain) + 2 * function.depth <= 110:
                function.line(plain)
            else:
                function.line(f"{head}{lambda_}")
                function.depth += 1
                _decoded(function, axes, number)
                _decoded(function, inner, step)
                made = function.define(values)
                function.line(f"return {function.printer.converted(operand, dtype)};")
                function.forget(made)
                function.depth -= 1
                function.line("});")
    function.names = scope


def _runs_along(operand: Expression, axes: tuple[Axis, ...]) -> bool:
    """Whether neighbours along the last of the axes are neighbours in some memory."""
    return any(part.value[1].coefficient(axes[-1]) == Index.of(1) for part in visit(operand) if part.op == "load") if axes else False


def _epilogue(function: Function, work: Work, rows: tuple[tuple[Axis, ...], str, str], cols: tuple[tuple[Axis, ...], str, str]) -> None:
    """What is stored of a tile."""
    (high, row_count, tile), (wide, col_count, across) = rows, cols
    sweeps = [sweep for sweep in function.view.all_sweeps if sweep.works[0] is not work]
    works = [*([work] if work.stores else []), *(each for sweep in sweeps for each in sweep.works)]
    top, left = function.names.new("top"), function.names.new("left")
    function.line(f"const int64_t {top} = {tile} * kHigh, {left} = {across} * kAcross;")
    all_axes = (*high, *wide)
    roots = [value for each in works for store in each.stores for value in of_store(store)]
    with _numbered(function, high, "row") as row:  # noqa: SIM117  # the loop's head needs the name
        with function.block(f"for (int64_t {row} = {top}; {row} < std::min({top} + kHigh, {row_count}); ++{row})"):
            _decoded(function, high, row)
            with _numbered(function, wide, "col") as col:
                function.printer.results[id(work.step)] = (_sum(function, work, f"sums[{row} - {top}][{col} - {left}]"), ATOM)
                found = function.defined(roots, all_axes)
                outer = [value for level in (found.outside, *found.within[: len(high)]) for value in level]
                made = function.define(outer)
                function.pragma("simd")
                with function.block(f"for (int64_t {col} = {left}; {col} < std::min({left} + kAcross, {col_count}); ++{col})"):
                    _decoded(function, wide, col)
                    made += function.define(value for level in found.within[len(high) :] for value in level)
                    stores(function, Sweep((), works))
                function.forget(made)


def _sum(function: Function, work: Work, text: str) -> str:
    _, total = _types(work)
    wanted = TYPES[work.step.dtype]
    return text if total == wanted else f"static_cast<{wanted}>({text})"
