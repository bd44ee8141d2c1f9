"""Reductions of everything in Triton: each program reduces a share, one program joins the shares in order."""

from __future__ import annotations

from kevolve.operators.lowering.expression import Buffer
from kevolve.operators.lowering.printing import Names
from kevolve.operators.lowering.program import Kernel, Pass
from kevolve.operators.lowering.triton.expression import is_float
from kevolve.operators.lowering.triton.function import Function
from kevolve.operators.lowering.triton.kernels import Launch, along_memory, expressions, packed, row_tiles, settle
from kevolve.operators.lowering.triton.passes import NOWHERE, Partial, Passes, neutral
from kevolve.operators.lowering.triton.tile import Regrouping

Shares = list[tuple[Partial, Buffer, Buffer | None]]  # a reduction, its shares, their places


def whole(kernel: Kernel, name: str) -> list[Launch]:
    """Two functions, with the shares in memory between them."""
    (only,) = [each for each in kernel.passes if each.axes]
    sides = along_memory(only, 0)
    function = Function(name, expressions(kernel.steps), ndim=packed(sides))
    regrouping = Regrouping([side.group for side in sides])
    passes = Passes(function, regrouping)
    settle(kernel, regrouping)
    partials = passes.begin(only, sides)
    with passes.looped(only, sides, shared=True):
        passes.inner(only.steps, partials, sides)
    names = Names()
    shares = [_share(passes, partial, len(sides), names) for partial in partials]
    extent = sides[0].group.flat.extent
    function.name = f"{name.removesuffix('_kernel')}_parts_kernel"
    first = Launch(function=function, warps="ROW_WARPS", tiles=row_tiles([], [sides]), parts=(sides[0].block, extent))
    first.scratch = [(buffer.name, f"torch.{buffer.dtype}", "parts") for _, *buffers in shares for buffer in buffers if buffer is not None]
    return [first, _joined(kernel, name, only, shares)]


def _share(passes: Passes, partial: Partial, sides: int, names: Names) -> tuple[Partial, Buffer, Buffer | None]:
    """Leave a program's share in memory."""
    function, step = passes.function, partial.step
    name = step.buffer.name if step.buffer is not None else names.new(step.name or step.combine)
    passes.fold(partial, range(sides), best_too=True)
    dtype = partial.body.dtype if step.combine.startswith("arg") else step.dtype
    values = Buffer(f"{name}_parts", (), dtype, "workspace")
    function.line(f"tl.store({function.pointer(values)} + tl.program_id(0), {partial.lanes})")
    if not step.combine.startswith("arg"):
        return partial, values, None
    places = Buffer(f"{name}_part_places", (), "int64", "workspace")
    function.line(f"tl.store({function.pointer(places)} + tl.program_id(0), {partial.places})")
    return partial, values, places


def _joined(kernel: Kernel, name: str, only: Pass, shares: Shares) -> Launch:
    """One program for all shares, and for what is made of the results."""
    rest = [each for each in kernel.passes if each is not only]
    function = Function(name, expressions(kernel.steps), ndim=1)
    passes = Passes(function, Regrouping([]))
    place = function.new("part")
    parts = function.number("parts")
    function.line(f"{place} = tl.arange(0, {function.block('PARTS')})")
    for partial, values, places in shares:
        step = partial.step
        start = neutral(step.combine, values.dtype)
        partial.lanes = function.new(values.name)
        function.line(f"{partial.lanes} = tl.load({function.pointer(values)} + {place}, mask={place} < {parts}, other={start})")
        if places is not None:
            partial.places = function.new(places.name)
            text = f"tl.load({function.pointer(places)} + {place}, mask={place} < {parts}, other={NOWHERE})"
            function.line(f"{partial.places} = {text}")
        passes.fold(partial, range(1))
        function.results[id(step)] = partial.places or partial.lanes
        passes.keep(step)
    for each in rest:
        passes.write(each, [])
    constants = {"PARTS": "triton.next_power_of_2(parts)"}
    return Launch(function=function, warps="4", tiles=[], grid="1", constants=constants)


__all__ = ["is_float", "whole"]
