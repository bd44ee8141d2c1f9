"""Matrix products in Triton: tiles by ``tl.dot``, with what follows them on the tile."""

from __future__ import annotations

from kevolve.operators.lowering.expression import Expression
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.printing import Unprintable
from kevolve.operators.lowering.program import Kernel, Step
from kevolve.operators.lowering.triton.expression import TYPES, is_float
from kevolve.operators.lowering.triton.function import Function, Side
from kevolve.operators.lowering.triton.kernels import Launch, expressions, named, settle
from kevolve.operators.lowering.triton.passes import Passes, vanishes
from kevolve.operators.lowering.triton.tile import Group, Regrouping


def product(kernel: Kernel, name: str) -> Launch:
    """A tile of the product a program."""
    step = next(step for step in kernel.steps if step.kind == "product")
    if step.first is None or step.second is None or not is_float(step.dtype):
        raise Unprintable(f"Triton: no matrix product of {step.dtype}")
    down, along = step.across
    batch = tuple(axis for axis in kernel.grid if axis not in (*down, *along))
    m, n = named(down, "m", "TILE_ROWS", 0), named(along, "n", "TILE_COLS", 1)
    k = _copied(step.inner)
    right, below = named(step.inner, "k", "TILE_DEPTH", 1), named(tuple(k.values()), "k", "TILE_DEPTH", 0)
    function = Function(name, expressions(kernel.steps), ndim=2)
    items = [Side(Group.of(batch, "item"), "1", 0)] if batch else []
    tile = Regrouping([side.group for side in (*items, m, n)])
    settle(kernel, tile, without=step)
    passes = Passes(function, tile)
    first = Regrouping([side.group for side in (*items, m, right)]).expression(step.first)
    second = Regrouping([side.group for side in (*items, below, n)], k).expression(step.second)
    _begin(function, items, m, n)
    _multiply(function, step, (first, right), (second, below))
    passes.keep(step)
    for each in kernel.passes:
        for other in each.steps:
            if other is not step:
                levels = function.plan(passes.roots([other]), [])
                passes.share([other])
                function.define(levels[0])
                passes.inner([other], [], [])
    sizes = [("TILE_ROWS", "TILE_M", m), ("TILE_COLS", "TILE_N", n), ("TILE_DEPTH", "TILE_K", right)]
    return Launch(
        function=function,
        warps="PRODUCT_WARPS",
        tiles=[],
        dots=[(block, limit, side.group.flat.extent) for block, limit, side in sizes],
        programs=("TILE_ROWS", "TILE_COLS"),
        batch=items[0].group.flat.extent if items else None,
        constants={"KIND": _kind(first, second)} if _kind(first, second) else {},
    )


def _copied(axes: tuple[Axis, ...]) -> dict[Axis, Axis]:
    """The axes that are summed, once more: in the second operand they run down the tile."""
    return {axis: Axis(f"{axis.name}_down", axis.extent) for axis in axes}


def _begin(function: Function, items: list[Side], m: Side, n: Side) -> None:
    """Which tile a program has."""
    program, rows, cols = function.new("program"), function.new("row_tiles"), function.new("col_tiles")
    function.line(f"{program} = tl.program_id(0).to(tl.int64)")
    function.line(f"{cols} = tl.cdiv({function.extent(n)}, {function.block(n.block)})")
    if items:
        function.line(f"{rows} = tl.cdiv({function.extent(m)}, {function.block(m.block)})")
        function.scalar(items[0], f"{program} // ({rows} * {cols})")
        function.place(m, f"{program} // {cols} % {rows} * {m.block}")
    else:
        function.place(m, f"{program} // {cols} * {m.block}")
    function.place(n, f"{program} % {cols} * {n.block}")


def _multiply(function: Function, step: Step, first: tuple[Expression, Side], second: tuple[Expression, Side]) -> None:
    """The loop over what is summed."""
    name = function.new(step.name or "product")
    m, n = function.sides[-2:]
    function.line(f"{name} = tl.zeros({function.shape([m, n])}, {TYPES[step.dtype]})")
    levels = function.plan([first[0], second[0]], [first[1], second[1]])
    function.define(levels[0])
    narrow = _kind(first[0], second[0])
    start = function.local("start")
    with function.inside(f"for {start} in range(0, {function.extent(first[1])}, {function.block(first[1].block)}):"):
        texts = []
        for value, side in (first, second):
            function.place(side, start, wide=True)
            function.define([part for level in function.plan([value], [side])[1:] for part in level if part is not value])
            texts.append(_operand(function, value, side, narrow=bool(narrow)))
        if narrow:
            function.block("KIND")
        function.line(f'{name} = tl.dot({texts[0]}, {texts[1]}, {name}, input_precision="ieee")')
    function.results[id(step)] = name


def _operand(function: Function, value: Expression, side: Side, *, narrow: bool) -> str:
    """A block of an operand; zero beyond the end of what is summed."""
    if narrow:
        load = _load(value)
        assert load is not None
        name = function.new(load.value[0].name)
        function.line(f"{name} = {function.load(load, narrow=True)}")
        return f"{name}.to(KIND)"
    if value.op != "load" and not vanishes(value, [side]):
        text = f"tl.where({function.mask(side.axes, only=[side])}, {function.text(value, room=40)}, 0.0)"
    else:
        text = function.load(value) if value.op == "load" else function.text(value)
    name = function.new(value.value[0].name if value.op == "load" else "factor")
    function.line(f"{name} = {text}")
    return name


def _load(value: Expression) -> Expression | None:
    """A load alone, widened or not."""
    while value.op == "cast":
        value = value.arguments[0]
    return value if value.op == "load" and value.value[0].like is not None else None


def _kind(first: Expression, second: Expression) -> str:
    """What the wrapper hands over where both operands are in memory as they are multiplied."""
    one, other = _load(first), _load(second)
    return f"dot_type({one.value[0].name}, {other.value[0].name})" if one is not None and other is not None else ""


__all__ = ["Index", "product"]
