"""Running results in Triton: block by block along the row, with a carry."""

from __future__ import annotations

from kevolve.operators.lowering.printing import Unprintable
from kevolve.operators.lowering.program import Kernel, Pass, Step
from kevolve.operators.lowering.triton.expression import TYPES
from kevolve.operators.lowering.triton.function import Function
from kevolve.operators.lowering.triton.kernels import Launch, begin_programs, expressions, named, row_tiles, settle
from kevolve.operators.lowering.triton.passes import Passes, neutral
from kevolve.operators.lowering.triton.tile import Regrouping

COMBINES = {"sum": "+", "prod": "*", "max": "larger_of", "min": "smaller_of"}


def scan(kernel: Kernel, name: str) -> Launch:
    """One scan along each row, and what is stored of it at the same place."""
    only = next(each for each in kernel.passes if each.axes)
    step = next(step for step in only.steps if step.kind == "scan")
    if len(only.axes) != 1 or step.body is None or step.combine not in COMBINES:
        raise Unprintable(f"Triton: no running {step.combine} over {len(only.axes)} axes")
    grid = [named(kernel.grid, "row", "ROWS", 0)] if kernel.grid else []
    side = named(only.axes, "col", "COLS", len(grid))
    function = Function(name, expressions(kernel.steps), ndim=len(grid) + 1)
    regrouping = Regrouping([one.group for one in (*grid, side)])
    passes = Passes(function, regrouping)
    settle(kernel, regrouping)
    begin_programs(function, grid)
    carry = function.new(f"{step.name or 'running'}_before")
    start = neutral(step.combine, step.dtype)
    function.line(f"{carry} = tl.full({function.shape(grid)}, {start}, {TYPES[step.dtype]})")
    scanned, others = Pass(only.axes, [step]), [other for other in only.steps if other is not step]
    others += [other for each in kernel.passes if each is not only for other in each.steps]
    with passes.looped(scanned, [side]):
        _running(passes, step, carry, side.position)
        passes.keep(step)
        levels = function.plan(passes.roots(others), [])
        function.define([value for level in levels for value in level])
        passes.inner(others, [], [side])
        _carry(function, step, carry, side.position)
    return Launch(function=function, warps="ROW_WARPS", tiles=row_tiles(grid, [[side]]), programs=tuple(one.block for one in grid))


def _running(passes: Passes, step: Step, carry: str, axis: int) -> None:
    """The block's running results on top of what was before it."""
    function = passes.function
    assert step.body is not None
    body = passes.regrouping.expression(step.body)
    mask = function.mask(frozenset().union(*(side.axes for side in function.sides[-1:])), only=function.sides[-1:])
    cast = f".to({TYPES[step.dtype]})" if TYPES[body.dtype] != TYPES[step.dtype] else ""
    value = f"tl.where({mask}, {function.text(body, 100 if cast else 0, room=60)}{cast}, {neutral(step.combine, step.dtype)})"
    name = function.new(step.name or "running")
    function.results[id(step)] = name
    if step.combine == "sum":
        function.line(f"{name} = {carry} + tl.cumsum({value}, axis={axis})")
    elif step.combine == "prod":
        function.line(f"{name} = {carry} * tl.cumprod({value}, axis={axis})")
    else:
        helper = COMBINES[step.combine]
        function.writer.functions.add(helper)
        function.line(f"{name} = {helper}({carry}, tl.associative_scan({value}, {axis}, {helper}))")


def _carry(function: Function, step: Step, carry: str, axis: int) -> None:
    """The last running result, which is that of the block's last lane: lanes beyond the end change nothing."""
    last = function.along(function.sides[-1])
    block = function.sides[-1].block
    text = f"tl.where({last} == {block} - 1, {function.results[id(step)]}, 0)"
    function.line(f"{carry} = tl.sum({text}, axis={axis}, keep_dims=True)")
