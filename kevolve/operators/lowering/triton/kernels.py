"""Kernels in Triton: for each form its tile, its programs, and how the wrapper launches it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kevolve.operators.lowering.expression import Buffer, Expression
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.printing import Unprintable
from kevolve.operators.lowering.program import Kernel, Pass, Step
from kevolve.operators.lowering.triton.function import Function, Side
from kevolve.operators.lowering.triton.passes import Passes
from kevolve.operators.lowering.triton.tile import Group, Regrouping, lanes, row_major

Extents = tuple[Index, ...]  # of one side in several passes: the longest counts


@dataclass(slots=True, kw_only=True)
class Launch:
    """A function and how it is launched.

    ``tiles``: each with what limits its elements, and each side's block and extents, in the tile's order; ``cut``: constants that limit a
    side further; ``programs``: the sides that are cut into programs; ``grid``: the number of programs where it is another.
    ``scratch``: memory between the launches of one kernel: name, dtype, number of elements. ``constants``: what other constants are.
    ``parts``: the side that programs share, and its extent. ``dots``: sides of a matrix product, their limits and extents;
    ``batch``: how many products there are. ``held``: what is launched instead where the tile holds all sides but those of programs.
    """

    function: Function
    warps: str
    tiles: list[tuple[str, list[tuple[str, Extents]]]]
    cut: dict[str, str] = field(default_factory=dict)
    programs: tuple[str, ...] = ()
    scratch: list[tuple[str, str, str]] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)
    parts: tuple[str, Index] | None = None
    dots: list[tuple[str, str, Index]] = field(default_factory=list)
    batch: Index | None = None
    held: Launch | None = None
    grid: str = ""


def expressions(steps: Sequence[Step]) -> list[Expression]:
    """All that steps evaluate."""
    found = [part for step in steps for part in (step.body, step.first, step.second) if part is not None]
    stores = [store for step in steps for store in step.stores]
    return found + [store.value for store in stores] + [store.condition for store in stores if store.condition is not None]


def places(steps: Sequence[Step]) -> list[Index]:
    """Where steps store."""
    found = [store.place for step in steps for store in step.stores]
    return found + [row_major(step.axes) for step in steps if step.buffer is not None]


def printed(kernel: Kernel, name: str) -> list[Launch]:
    """The functions that compute a kernel, in order."""
    looping = [each for each in kernel.passes if each.axes]
    if kernel.form == "whole" and len(looping) == 1:
        from kevolve.operators.lowering.triton.whole import whole

        return whole(kernel, name)
    if kernel.form == "product":
        from kevolve.operators.lowering.triton.product import product

        return [product(kernel, name)]
    if kernel.form == "scan":
        from kevolve.operators.lowering.triton.scan import scan

        return [scan(kernel, name)]
    if kernel.form in ("rows", "whole"):
        return [rows(kernel, name)]
    if kernel.form in ("columns", "scatter"):
        return [columns(kernel, name)]
    raise Unprintable(f"Triton: no kernel of the form {kernel.form}")


def named(axes: Sequence[Axis], name: str, block: str, position: int) -> Side:
    """A side of these axes."""
    return Side(Group.of(axes, name), block, position)


def along_memory(each: Pass, first: int) -> list[Side]:
    """The sides of a pass in the form ``rows``: what lies behind one another in memory, and around it what does not."""
    count = lanes(each.axes, expressions(each.steps), places(each.steps))
    outer, inner = each.axes[: len(each.axes) - count], each.axes[len(each.axes) - count :]
    sides = [named(outer, "outer", "MIDDLE", first)] if outer else []
    return [*sides, named(inner, "col", "INNER" if outer else "COLS", first + 1)]


def rows(kernel: Kernel, name: str) -> Launch:
    """A row a place of the grid, several rows a program where they are short."""
    looping = [each for each in kernel.passes if each.axes]
    split = {id(each): along_memory(each, 1) for each in looping}
    grid = [named(kernel.grid, "row", "ROWS", 0)] if kernel.grid else []
    ndim = packed([*grid, *(side for sides in split.values() for side in sides)])
    function = Function(name, _everything(kernel), ndim=ndim)
    regrouping = Regrouping([side.group for side in (*grid, *(side for sides in split.values() for side in sides))])
    passes = Passes(function, regrouping)
    settle(kernel, regrouping)
    begin_programs(function, grid)
    for each in kernel.passes:
        passes.write(each, split.get(id(each), []))
    launch = Launch(
        function=function, warps="ROW_WARPS", tiles=row_tiles(grid, split.values()), programs=tuple(side.block for side in grid)
    )
    launch.held = held(kernel, name, launch, "rows")
    return launch


def row_tiles(grid: Sequence[Side], split: Iterable[Sequence[Side]]) -> list[tuple[str, list[tuple[str, Extents]]]]:
    """The tile of passes along memory, and that of those which go through it in two axes."""
    plain = [side for sides in split if len(sides) == 1 for side in sides]
    nested = [side for sides in split if len(sides) == 2 for side in sides]
    if not nested or not plain:
        return [("ROW_TILE", _blocks([*grid, *plain, *nested]))]
    limit = "ROW_TILE // row_block" if grid else "ROW_TILE"
    return [("ROW_TILE", _blocks([*grid, *plain])), (limit, _blocks(nested))]


def columns(kernel: Kernel, name: str) -> Launch:
    """Lanes along the grid's last axis; the passes' axes are one side of the tile, short grids another."""
    looping = [each for each in kernel.passes if each.axes]
    grid = grid_of_columns(kernel, "COLS" if looping else "")
    split = {id(each): [named(each.axes, "step", "STEPS", 1)] for each in looping}
    everything = [*grid, *(side for sides in split.values() for side in sides)]
    function = Function(name, _everything(kernel), ndim=packed(everything))
    regrouping = Regrouping([side.group for side in everything])
    passes = Passes(function, regrouping)
    settle(kernel, regrouping)
    begin_programs(function, grid)
    for each in kernel.passes:
        passes.write(each, split.get(id(each), []))
    launch = Launch(
        function=function,
        warps="COLUMN_WARPS" if looping else "WARPS",
        tiles=[("COLUMN_TILE" if looping else "TILE", _blocks(everything))],
        programs=tuple(side.block for side in grid),
    )
    if looping:
        launch.cut["COLS"] = "LANES"
        launch.held = held(kernel, name, launch, "columns")
    return launch


def grid_of_columns(kernel: Kernel, block: str) -> list[Side]:
    """The grid's sides: what lies behind one another in memory, and around it what does not. ``block``: of the former, or by itself."""
    count = lanes(kernel.grid, expressions(kernel.steps), places(kernel.steps))
    outer, inner = kernel.grid[: len(kernel.grid) - count], kernel.grid[len(kernel.grid) - count :]
    found = [named(outer, "row", "ROWS", 0)] if outer else []
    return found + ([named(inner, "col" if outer else "place", block or ("COLS" if outer else "BLOCK"), 2)] if inner else [])


def held(kernel: Kernel, name: str, long: Launch, form: str) -> Launch | None:
    """The same without loops, for several passes over the same places that the tile holds: what one has read the next need not read."""
    looping = [each for each in kernel.passes if each.axes]
    extents = [[axis.extent for axis in each.axes] for each in looping]
    if len(looping) < 2 or any(one != extents[0] for one in extents) or kernel.form == "whole":
        return None
    long.function.name = f"{name.removesuffix('_kernel')}_long_kernel"
    axes = looping[0].axes
    same = {axis: one for each in looping[1:] for axis, one in zip(each.axes, axes, strict=True)}
    if form == "rows":
        count = min(lanes(each.axes, expressions(each.steps), places(each.steps)) for each in looping)
        outer, inner = axes[: len(axes) - count], axes[len(axes) - count :]
        sides = [named(outer, "outer", "MIDDLE", 1)] if outer else []
        sides.append(named(inner, "col", "INNER" if outer else "COLS", 2))
        grid = [named(kernel.grid, "row", "ROWS", 0)] if kernel.grid else []
    else:
        grid, sides = grid_of_columns(kernel, "COLS"), [named(axes, "step", "STEPS", 1)]
    everything = [*grid, *sides]
    function = Function(name, expressions(kernel.steps), ndim=packed(everything))
    regrouping = Regrouping([side.group for side in everything], same)
    settle(kernel, regrouping)
    begin_programs(function, grid)
    Passes(function, regrouping).hold(kernel, sides)
    limit = "ROW_TILE" if form == "rows" else "COLUMN_TILE"
    return Launch(function=function, warps=long.warps, tiles=[(limit, _blocks(everything))], programs=long.programs, cut=long.cut)


def _everything(kernel: Kernel) -> list[Expression]:
    return expressions(kernel.steps)


def packed(sides: Sequence[Side]) -> int:
    """Number the sides without gaps. Returns how many there are."""
    positions = sorted({side.position for side in sides})
    for side in sides:
        side.position = positions.index(side.position)
    return len(positions)


def settle(kernel: Kernel, regrouping: Regrouping, without: Step | None = None) -> None:
    """Ask for everything once, so that the axes that are worked out from a side's flat one are known where the side is defined."""
    for value in expressions([step for step in kernel.steps if step is not without]):
        regrouping.expression(value)
    for index in places(kernel.steps):
        regrouping.index(index)
    for step in kernel.steps:
        if step.combine.startswith("arg"):
            regrouping.index(row_major(step.inner))


def begin_programs(function: Function, grid: Sequence[Side]) -> None:
    """Begin: which part of the grid a program has."""
    if len(grid) == 1:
        function.place(grid[0], f"tl.program_id(0).to(tl.int64) * {grid[0].block}")
    elif len(grid) == 2:
        outer, inner = grid
        program, count = function.new("program"), function.new(f"{inner.group.flat.name}_blocks")
        function.line(f"{program} = tl.program_id(0).to(tl.int64)")
        function.line(f"{count} = tl.cdiv({function.extent(inner)}, {inner.block})")
        function.place(outer, f"{program} // {count} * {outer.block}")
        function.place(inner, f"{program} % {count} * {inner.block}")


def _blocks(sides: Sequence[Side]) -> list[tuple[str, Extents]]:
    """Each block with the extents that it must do for, in the tile's order."""
    found: dict[int, tuple[str, Extents]] = {}
    for side in sides:
        block, extents = found.get(side.position, (side.block, ()))
        extent = side.group.flat.extent
        found[side.position] = (block, extents if extent in extents else (*extents, extent))
    return [found[position] for position in sorted(found)]


def whole_number(buffer: Buffer) -> bool:
    """Whether it holds whole numbers."""
    return buffer.dtype.startswith(("int", "uint", "bool"))
