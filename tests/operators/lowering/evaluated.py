"""A lowered program worked out by PyTorch, whole tensors at a time: what a printer's text must give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from kevolve.operators.lowering.expression import Buffer, Expression
from kevolve.operators.lowering.index import Axis, Bounded, Index, Quotient, Read, Remainder, Size
from kevolve.operators.lowering.program import Kernel, Program, Step

DTYPES = {"float32": torch.float64, "float64": torch.float64, "int64": torch.int64, "int32": torch.int32, "bool": torch.bool}
UNARY = {
    **{
        name: getattr(torch, name) for name in ("exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos")
    },
    **{name: getattr(torch, name) for name in ("tan", "tanh", "erf", "sigmoid", "floor", "ceil", "round", "trunc", "sign", "abs", "neg")},
    "isnan": torch.isnan,
    "isinf": torch.isinf,
    "not": torch.logical_not,
}
BINARY = {
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "maximum", "minimum", "pow", "eq", "ne", "lt", "le", "gt", "ge")},
    "div": torch.true_divide,
    "floordiv": torch.floor_divide,
    "mod": torch.remainder,
    "and": torch.bitwise_and,
    "or": torch.bitwise_or,
    "xor": torch.bitwise_xor,
    "shl": torch.bitwise_left_shift,
    "shr": torch.bitwise_right_shift,
}


def dtype_of(name: str) -> torch.dtype:
    return DTYPES.get(name) or getattr(torch, name)


class Evaluated:
    """One call of a program."""

    def __init__(self, program: Program, arguments: Sequence[Any]) -> None:
        self.program = program
        self.sizes: dict[str, int] = {}
        self.numbers: dict[str, float] = {}
        self.memory: dict[int, torch.Tensor] = {}
        self.results: dict[int, tuple[tuple[Axis, ...], torch.Tensor]] = {}
        self.axes: tuple[Axis, ...] = ()
        named = {}
        for argument, value in zip(program.arguments, arguments, strict=True):
            named[argument.name] = value
            if argument.buffer is not None:
                self.memory[id(argument.buffer)] = value.contiguous().flatten().to(dtype_of(str(value.dtype).removeprefix("torch.")))
            elif isinstance(value, float):
                self.numbers[argument.name] = value
        for size, how in program.sizes:
            if isinstance(how, Index):
                self.sizes[size.name] = int(self.index(how))
            else:
                self.sizes[size.name] = int(named[how]) if isinstance(how, str) else int(named[how[0]].shape[how[1]])
        for name, expression in program.scalars:
            self.numbers[name] = float(self.value(expression))
        for buffer in [*program.workspaces, *program.outputs]:
            if id(buffer) not in self.memory:
                kind = torch.float64 if buffer.dtype in ("float16", "bfloat16", "float32") else dtype_of(buffer.dtype)
                self.memory[id(buffer)] = torch.zeros(self.count(buffer), dtype=kind)
        for buffer, content in program.fills:
            target = self.memory[id(buffer)]
            if isinstance(content, Buffer):
                target.copy_(self.memory[id(content)])
            else:
                target.fill_(content)

    def run(self) -> list[torch.Tensor]:
        """The outputs in their shapes, then the mutated inputs."""
        for kernel in self.program.kernels:
            self.kernel(kernel)
        return [self.shaped(buffer) for buffer in [*self.program.outputs, *self.program.mutated]]

    def shaped(self, buffer: Buffer) -> torch.Tensor:
        return self.memory[id(buffer)].reshape([int(self.index(size)) for size in buffer.shape])

    def count(self, buffer: Buffer) -> int:
        return math.prod(int(self.index(size)) for size in buffer.shape)

    def kernel(self, kernel: Kernel) -> None:
        assert kernel.form != "call"
        for each in kernel.passes:
            for step in each.steps:
                if step.kind != "map":
                    self.step(step, kernel, each.axes)
            for step in each.steps:
                if step.kind == "map":
                    self.step(step, kernel, each.axes)

    def step(self, step: Step, kernel: Kernel, inner: tuple[Axis, ...]) -> None:
        own = (*step.axes, *(axis for axis in step.inner if axis not in step.axes))
        assert set(own) <= {*kernel.grid, *inner, *step.inner}, (step, kernel.grid, inner)
        self.axes = own
        if step.kind in ("reduce", "product"):
            self.keep(step, self.reduced(step))
        elif step.kind == "scan":
            body = self.spread(self.value(step.body))
            scanned = torch.cumsum(body, -1) if step.combine == "sum" else torch.cumprod(body, -1)
            self.keep(step, scanned)
        else:
            values = [(store, self.spread(self.value(store.value)), self.spread(self.index(store.place))) for store in step.stores]
            for store, value, place in values:
                self.write(step, store, value.flatten(), place.flatten())

    def write(self, step: Step, store: Any, value: torch.Tensor, place: torch.Tensor) -> None:
        target = self.memory[id(store.buffer)]
        value = value.to(target.dtype)
        if store.condition is not None:
            kept = self.spread(self.value(store.condition)).flatten()
            value, place = value[kept], place[kept]
        if step.kind == "scatter" and step.combine != "set":
            reductions = {"add": "sum", "max": "amax", "min": "amin", "prod": "prod"}
            target.scatter_reduce_(0, place, value, reductions[step.combine])
        else:
            target[place] = value

    def reduced(self, step: Step) -> torch.Tensor:
        body = self.spread(self.value(step.body))
        dims = list(range(len(step.axes), body.dim()))
        if step.combine.startswith("arg"):
            flat = body.flatten(len(step.axes))
            return flat.argmax(-1) if step.combine == "argmax" else flat.argmin(-1)
        function = {"sum": torch.sum, "prod": torch.prod, "max": torch.amax, "min": torch.amin, "any": torch.any, "all": torch.all}[
            step.combine
        ]
        if step.combine == "prod":
            return body.flatten(len(step.axes)).prod(-1)
        return function(body, dim=dims) if dims else body

    def keep(self, step: Step, result: torch.Tensor) -> None:
        self.results[id(step)] = (step.axes, result)
        if step.buffer is not None:
            self.memory[id(step.buffer)] = result.flatten().to(self.memory[id(step.buffer)].dtype)

    def spread(self, value: torch.Tensor) -> torch.Tensor:
        return value.expand([int(self.index(axis.extent)) for axis in self.axes]) if self.axes else value

    def turn(self, axis: Axis) -> torch.Tensor:
        extent = int(self.index(axis.extent))
        shape = [extent if other is axis else 1 for other in self.axes]
        return torch.arange(extent).reshape(shape)

    def index(self, index: Index) -> torch.Tensor:
        total: Any = torch.tensor(0)
        for monomial, factor in index.terms:
            product: Any = torch.tensor(factor)
            for atom in monomial:
                product = product * self.atom(atom)
            total = total + product
        return total

    def atom(self, atom: Any) -> Any:
        if isinstance(atom, Size):
            return self.sizes[atom.name]
        if isinstance(atom, Axis):
            return self.turn(atom)
        if isinstance(atom, Quotient):
            return torch.div(self.index(atom.above), self.index(atom.below), rounding_mode="floor")
        if isinstance(atom, Remainder):
            return torch.remainder(self.index(atom.above), self.index(atom.below))
        if isinstance(atom, Bounded):
            return (torch.maximum if atom.largest else torch.minimum)(self.index(atom.first), self.index(atom.second))
        assert isinstance(atom, Read)
        return self.value(atom.value).long()

    def value(self, expression: Expression | None) -> torch.Tensor:
        assert expression is not None
        op, content = expression.op, expression.value
        parts = [self.value(argument) for argument in expression.arguments] if op not in ("load", "result") else []
        if op == "constant":
            return torch.tensor(content, dtype=dtype_of(expression.dtype))
        if op == "scalar":
            return torch.tensor(self.numbers[content], dtype=torch.float64)
        if op == "place":
            return self.index(content)
        if op == "load":
            return self.load(expression)
        if op == "result":
            _, result = self.results[id(content[0])]
            places = [self.index(place) for place in content[1]]
            return result[tuple(places)] if places else result
        if op == "search":
            buffer, begin, length, right = content
            row = self.index(begin)[..., None] + torch.arange(int(self.index(length)))
            borders = self.memory[id(buffer)][row]
            if borders.dim() == 1:
                return torch.searchsorted(borders, parts[0].to(borders.dtype).contiguous(), right=right)
            shape = parts[0].shape
            borders = borders.expand(*shape, borders.shape[-1]).contiguous()
            return torch.searchsorted(borders, parts[0].to(borders.dtype)[..., None].contiguous(), right=right)[..., 0]
        if op == "cast":
            return parts[0].to(dtype_of(expression.dtype))
        if op == "where":
            return torch.where(*parts)
        return UNARY[op](parts[0]) if len(parts) == 1 else BINARY[op](*parts)

    def load(self, expression: Expression) -> torch.Tensor:
        buffer, place = expression.value
        memory = self.memory[id(buffer)]
        where = self.index(place)
        if expression.arguments:
            allowed = self.value(expression.arguments[0])
            where = torch.where(allowed, where, 0)
        elif where.numel() and memory.numel():
            where, outside = where.clamp(0, memory.numel() - 1), (where < 0) | (where >= memory.numel())
            assert not bool(outside.any()), f"{buffer.name}[{place}] outside"
        found = memory[where] if memory.numel() else torch.zeros(where.shape, dtype=memory.dtype)
        return found.to(torch.float64) if found.is_floating_point() else found
