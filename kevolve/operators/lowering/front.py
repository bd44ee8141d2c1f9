"""From a captured graph to steps: each aten operator either changes how elements are found and computed, or becomes a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kevolve.operators.lowering.capture import Captured, Uncovered
from kevolve.operators.lowering.expression import Buffer, Expression, as_index, constant, make
from kevolve.operators.lowering.index import Axis, Index, Size
from kevolve.operators.lowering.program import Argument, Step, Store
from kevolve.operators.lowering.sizes import SizeTable
from kevolve.operators.lowering.values import Value, axis_name, cast, computed, filled, from_buffer, from_step

UNROLLED = 9  # elements up to which a reduction over axes of fixed size is written out
Handler = Callable[["Front", Any, list[Any], dict[str, Any]], Any]
HANDLERS: dict[str, Handler] = {}
PYTHON = {
    "add",
    "sub",
    "mul",
    "neg",
    "floordiv",
    "truediv",
    "pow",
    "mod",
    "sym_float",
    "sym_sqrt",
    "sym_max",
    "sym_min",
    "sym_int",
    "trunc",
}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Registers a handler for aten operators by name, without overload."""

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


@dataclass(eq=False)
class Front:
    """The walk over one graph."""

    captured: Captured
    sizes: SizeTable
    callable: frozenset[str] = frozenset()  # aten names of library operators that a kernel may call
    steps: list[Step] = field(default_factory=list)
    arguments: list[Argument] = field(default_factory=list)
    workspaces: list[Buffer] = field(default_factory=list)
    fills: list[tuple[Buffer, float | int | bool | Buffer]] = field(default_factory=list)
    inputs: dict[str, Buffer] = field(default_factory=dict)
    mutated: list[tuple[Buffer, Value]] = field(default_factory=list)
    outputs: list[Value | None] = field(default_factory=list)
    node: Any = None
    _values: dict[Any, Any] = field(default_factory=dict)
    _stored: dict[int, tuple[Value, Buffer]] = field(default_factory=dict)  # the values are held: an id is of what lives

    def run(self) -> None:
        """Walk the graph. Raises ``Uncovered`` at an operator that no handler knows."""
        from kevolve.operators.lowering.aten import indexing, pointwise, reductions, views

        del indexing, pointwise, reductions, views  # they register their handlers
        waiting = iter(self.captured.inputs)
        for node in self.captured.graph.nodes:
            self.node = node
            if node.op == "placeholder":
                self._values[node] = self._placeholder(next(waiting))
            elif node.op == "output":
                self._output(node.args[0])
            elif node.op == "get_attr":
                raise Uncovered("it holds a tensor of its own; make it an argument")
            else:
                self._values[node] = self._call(node)

    def _placeholder(self, item: Any) -> Any:
        import torch

        if not isinstance(item.value, torch.Tensor):
            kind = "bool" if isinstance(item.value, bool) else "int" if isinstance(item.value, int) else "float"
            self.arguments.append(Argument(item.name, kind))
            return item.fake
        shape = tuple(self.sizes.of(size) for size in item.fake.shape)
        buffer = Buffer(item.name, shape, _dtype(item.value.dtype), "input", item.like)
        self.inputs[item.name] = buffer
        self.arguments.append(Argument(item.name, "tensor", buffer))
        value = from_buffer(buffer)
        value.name = item.name
        return value

    def _call(self, node: Any) -> Any:
        import operator

        target = node.target
        if target is operator.getitem:
            found = self._values[node.args[0]]
            return found[node.args[1]]
        name = getattr(target, "__name__", str(target)).split(".")[0]
        if not hasattr(target, "overloadpacket"):
            if name.lstrip("_") in PYTHON:
                return node.meta["val"]
            raise Uncovered(f"nothing here lowers {name}")
        if name in ("sym_size", "sym_numel", "sym_stride"):
            return node.meta["val"]
        called = f"{target.namespace}::{name}"
        handler = HANDLERS.get(name)
        if called in self.callable:
            handler = _library
        if handler is None:
            line = self.captured.lines.get(node.name, ("", ""))[0]
            raise Uncovered(f"{called} is not covered" + (f' (in "{line}")' if line else ""))
        arguments, keywords = self._given(node)
        result = handler(self, node, arguments, keywords)
        text, variable = self.captured.lines.get(node.name, ("", ""))
        for value in result if isinstance(result, tuple) else (result,):
            if isinstance(value, Value) and not value.name:
                value.name, value.lines = variable, (text,) if text else ()
        return result

    def _given(self, node: Any) -> tuple[list[Any], dict[str, Any]]:
        """All arguments by the operator's schema, defaults filled in, nodes replaced by what they gave."""
        schema = node.target._schema.arguments
        named: dict[str, Any] = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        for argument, value in zip(schema, node.args, strict=False):
            named[argument.name] = value
        named |= node.kwargs
        given = {name: self._known(value) for name, value in named.items()}
        if "a" in given:  # prims
            given.setdefault("self", given["a"])
        return [], given

    def _known(self, value: Any) -> Any:
        import torch

        if isinstance(value, torch.fx.Node):
            return self._values[value]
        if isinstance(value, list | tuple):
            return [self._known(item) for item in value]
        return value

    def _output(self, returned: Any) -> None:
        found = returned if isinstance(returned, list | tuple) else [returned]
        self.outputs = [self._values[item] if item is not None else None for item in found]

    # what handlers ask for

    @property
    def meta(self) -> Any:
        """The node's fake result."""
        return self.node.meta["val"]

    def shape(self, of: Any = None) -> tuple[Index, ...]:
        """The result's shape."""
        return tuple(self.sizes.of(size) for size in (self.meta if of is None else of).shape)

    def dtype(self, of: Any = None) -> str:
        """The result's dtype as computed."""
        return computed(_dtype((self.meta if of is None else of).dtype))

    def tensor(self, value: Any, dtype: str) -> Value:
        """A tensor or a number as a value of ``dtype``."""
        if isinstance(value, Value):
            return value
        if dtype in ("float32", "float64"):
            return filled(cast(self.sizes.scalar(value), dtype), (), dtype)
        if isinstance(value, bool | int | float):
            return filled(value, (), dtype)
        from kevolve.operators.lowering.expression import place

        return filled(cast(place(self.sizes.of(value)), dtype), (), dtype)

    def index(self, value: Any) -> Index:
        """A whole number argument."""
        return self.sizes.of(value)

    def named(self, fallback: str) -> str:
        """What the node's result is called in the reference."""
        return self.captured.lines.get(self.node.name, ("", ""))[1] or fallback

    def line(self) -> tuple[str, ...]:
        """The reference's line of the node."""
        text = self.captured.lines.get(self.node.name, ("", ""))[0]
        return (text,) if text else ()

    def loops(self, shape: Sequence[Index]) -> tuple[Axis, ...]:
        """A loop variable for each axis, those of one size told apart."""
        used: set[str] = set()
        found = []
        for number, size in enumerate(shape):
            name = axis_name(Index.of(Size(self.sizes.called[size])) if size in self.sizes.called else size, number)
            while name in used:  # two axes of one size
                name = f"other_{name}"
            used.add(name)
            found.append(Axis(name, size))
        return tuple(found)

    def turns(self, shape: Sequence[Index]) -> tuple[tuple[Axis, ...], tuple[Index, ...]]:
        """Loop variables over all elements, and the place of each: an axis of size 1 needs no loop."""
        loops = self.loops(shape)
        one = Index.of(1)
        places = tuple(Index.of(0) if size == one else Index.of(axis) for axis, size in zip(loops, shape, strict=True))
        return tuple(axis for axis, size in zip(loops, shape, strict=True) if size != one), places

    def workspace(self, name: str, shape: Sequence[Index], dtype: str) -> Buffer:
        """Memory between kernels."""
        buffer = Buffer(self.sizes.unused(name), tuple(shape), dtype, "workspace")
        self.workspaces.append(buffer)
        return buffer

    def stored(self, value: Value, name: str) -> Buffer:
        """Where a value lies whole: where it is already, or a workspace that a step writes."""
        if value.buffer is not None and value.shape == value.buffer.shape:
            return value.buffer
        if id(value) not in self._stored:
            buffer = self.workspace(name, value.shape, value.dtype)
            self.store(value, buffer, Index.of(0), buffer.strides)
            self._stored[id(value)] = (value, buffer)
        return self._stored[id(value)][1]

    def store(self, value: Value, buffer: Buffer, begin: Index, strides: Sequence[Index]) -> None:
        """Steps that write a value, a concatenation part by part."""
        if value.pieces is not None:
            axis, parts = value.pieces
            for start, part in parts:
                self.store(_named(part, value), buffer, begin + start * strides[axis], strides)
            return
        loops, places = self.turns(value.shape)
        at = begin
        for place, stride in zip(places, strides, strict=True):
            at = at + place * stride
        store = Store(buffer, at, value.at(places))
        self.steps.append(Step(value.name or buffer.name, "map", loops, value.dtype, stores=[store], lines=value.lines))

    def reduce(self, value: Value, dims: Sequence[int], combine: str, dtype: str, *, keepdim: bool, name: str) -> Value:
        """A combination over axes: written out where they are few and fixed, else a step."""
        kept = [axis for axis in range(value.rank) if axis not in dims]
        shape = [Index.of(1) if axis in dims else size for axis, size in enumerate(value.shape)]
        if not keepdim:
            shape = [size for axis, size in enumerate(value.shape) if axis not in dims]
        numbers = [value.shape[axis].number for axis in dims]
        count = 1
        for number in numbers:
            count *= UNROLLED + 1 if number is None else number
        if 0 < count <= UNROLLED and combine in ("sum", "prod", "max", "min", "any", "all"):
            return self._unrolled(value, dims, combine, dtype, shape, keepdim=keepdim)
        loops = self.loops(value.shape)
        places = tuple(Index.of(axis) for axis in loops)
        body = value.at(places)
        if combine not in ("argmax", "argmin"):
            body = cast(body, dtype)
        step = Step(
            name,
            "reduce",
            tuple(loops[axis] for axis in kept),
            dtype,
            tuple(loops[axis] for axis in dims),
            body,
            combine,
            lines=self.line(),
        )
        self.steps.append(step)
        return from_step(step, shape, kept if keepdim else None)

    def _unrolled(self, value: Value, dims: Sequence[int], combine: str, dtype: str, shape: Sequence[Index], *, keepdim: bool) -> Value:
        import itertools

        ranges = [range(value.shape[axis].number or 0) for axis in dims]
        operation = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "any": "or", "all": "and"}[combine]

        def at(places: tuple[Index, ...]) -> Expression:
            left = list(places)
            if not keepdim:
                for axis in sorted(dims):
                    left.insert(axis, Index.of(0))
            found: Expression | None = None
            for chosen in itertools.product(*ranges):
                for axis, number in zip(dims, chosen, strict=True):
                    left[axis] = Index.of(number)
                part = cast(value.at(tuple(left)), dtype)
                found = part if found is None else make(operation, dtype, (found, part))
            assert found is not None
            return found

        return Value(shape=tuple(shape), dtype=dtype, make_at=at)


def _library(front: Front, node: Any, _: list[Any], given: dict[str, Any]) -> Any:
    """A call of the library operator: its tensors lie in memory, views of permuted axes are handed over as such."""
    name = node.target.overloadpacket.__name__
    operands: list[Buffer] = []

    def handed(value: Any) -> Any:
        if isinstance(value, Value):
            buffer, order = value.view or (front.stored(value, value.name or "operand"), tuple(range(value.rank)))
            operands.append(buffer)
            return buffer if order == tuple(range(value.rank)) else ("permute", buffer, order)
        if isinstance(value, list):
            return [handed(item) for item in value]
        if value is None or isinstance(value, bool | float | str):
            return value
        return front.index(value)

    arguments = tuple(handed(given[argument.name]) for argument in node.target._schema.arguments if argument.name in given)
    fakes = front.meta if isinstance(front.meta, tuple | list) else (front.meta,)
    results = tuple(front.workspace(front.named(name), front.shape(fake), front.dtype(fake)) for fake in fakes)
    step = Step(
        front.named(name), "call", (), "float32", lines=front.line(), operator=f"aten::{name}", operands=tuple(operands), results=results
    )
    step.arguments = arguments
    front.steps.append(step)
    values = tuple(from_buffer(buffer) for buffer in results)
    return values if isinstance(front.meta, tuple | list) else values[0]


def _loop(place: Index) -> list[Axis]:
    return [atom for atom in place.atoms if isinstance(atom, Axis)]


def _named(part: Value, whole: Value) -> Value:
    if not part.name:
        part.name = whole.name
    part.lines = whole.lines or part.lines
    return part


def _dtype(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def dimension(value: int, rank: int) -> int:
    """An axis counted from the front."""
    return value % rank if rank else 0


def gathered(index: Expression) -> Index:
    """A number from memory as a place."""
    return as_index(cast(index, "int64"))


def zero(dtype: str) -> Expression:
    """Nothing, as ``dtype``."""
    return constant(0, dtype)
