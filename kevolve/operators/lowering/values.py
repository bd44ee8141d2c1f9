"""Tensors as functions of indices. A view changes the indices, an operation makes an expression; nothing is computed or stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kevolve.operators.lowering.expression import FLOATS, Buffer, Expression, call, constant, make
from kevolve.operators.lowering.index import Axis, Index, Size
from kevolve.operators.lowering.program import Step

Places = tuple[Index, ...]
At = Callable[[Places], Expression]


@dataclass(eq=False)
class Value:
    """A tensor. ``dtype``: as computed, float32 for all that is floating and no double. ``at``: the element at a place.

    ``buffer``: where it lies whole and contiguous, if it does. ``step``: the step that gives it, where it is exactly that.
    ``pieces``: of a concatenation the axis, and where each part begins: stored one by one they need no condition.
    """

    shape: tuple[Index, ...]
    dtype: str
    make_at: At
    buffer: Buffer | None = None
    step: Step | None = None
    pieces: tuple[int, list[tuple[Index, Value]]] | None = None
    view: tuple[Buffer, tuple[int, ...]] | None = None  # the buffer whose axes in this order it is
    name: str = ""
    lines: tuple[str, ...] = ()
    _known: dict[Places, Expression] = field(default_factory=dict)

    def at(self, places: Places) -> Expression:
        """The element at ``places``; the same object for the same places."""
        if places not in self._known:
            self._known[places] = self.make_at(places)
            if self.name:
                call(self._known[places], self.name, self.lines)
        return self._known[places]

    @property
    def rank(self) -> int:
        """How many axes it has."""
        return len(self.shape)


def computed(dtype: str) -> str:
    """The dtype in which something of ``dtype`` is computed."""
    return "float32" if dtype in FLOATS and dtype != "float64" else dtype


def cast(value: Expression, dtype: str) -> Expression:
    """As ``dtype``; between floating dtypes nothing happens, but for float64."""
    if value.dtype == dtype:
        return value
    if value.op == "constant":
        return constant(value.value, dtype)
    return make("cast", dtype, (value,))


def broadcast(value: Value, shape: Sequence[Index]) -> Value:
    """With the shape of an operation that it takes part in."""
    if tuple(shape) == value.shape:
        return value
    ahead = len(shape) - value.rank
    one = Index.of(1)
    kept = [size != one or shape[ahead + axis] == one for axis, size in enumerate(value.shape)]

    def at(places: Places) -> Expression:
        return value.at(tuple(place if keep else Index.of(0) for place, keep in zip(places[ahead:], kept, strict=True)))

    return Value(shape=tuple(shape), dtype=value.dtype, make_at=at)


def pointwise(shape: Sequence[Index], dtype: str, operands: Sequence[Value], body: Callable[..., Expression]) -> Value:
    """``body`` of the operands' elements."""
    spread = [broadcast(operand, shape) for operand in operands]
    value = Value(shape=tuple(shape), dtype=dtype, make_at=lambda places: body(*(operand.at(places) for operand in spread)))
    value.pieces = _pieces(shape, dtype, operands, body)
    return value


def _pieces(
    shape: Sequence[Index], dtype: str, operands: Sequence[Value], body: Callable[..., Expression]
) -> tuple[int, list[tuple[Index, Value]]] | None:
    """Of an operation on one concatenation and things that do not run along its axis, or on concatenations that are cut alike."""
    cut = [operand for operand in operands if operand.pieces is not None and operand.shape == tuple(shape)]
    if not cut or cut[0].pieces is None:
        return None
    axis, parts = cut[0].pieces
    starts = [(start, part.shape[axis]) for start, part in parts]
    results = []
    for number, (start, part) in enumerate(parts):
        inner = list(shape)
        inner[axis] = part.shape[axis]
        chosen = []
        for operand in operands:
            if operand.pieces is not None and operand.shape == tuple(shape):
                if operand.pieces[0] != axis or [(begin, one.shape[axis]) for begin, one in operand.pieces[1]] != starts:
                    return None
                chosen.append(operand.pieces[1][number][1])
                continue
            own = axis - (len(shape) - operand.rank)
            if own >= 0 and operand.shape[own] != Index.of(1):
                return None
            chosen.append(operand)
        results.append((start, pointwise(inner, dtype, chosen, body)))
    return axis, results


def reshaped(value: Value, shape: Sequence[Index]) -> Value:
    """The same elements in row-major order under another shape."""
    old, new = value.shape, tuple(shape)
    if old == new:
        return value
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    old_middle, new_middle = old[head : len(old) - tail], new[head : len(new) - tail]

    def at(places: Places) -> Expression:
        middle = places[head : len(new) - tail]
        last = places[len(new) - tail :]
        return value.at((*places[:head], *_unflattened(_flattened(middle, new_middle), old_middle), *last))

    return Value(shape=new, dtype=value.dtype, make_at=at, buffer=value.buffer, pieces=_stacked(value, new))


def _stacked(value: Value, shape: tuple[Index, ...]) -> tuple[int, list[tuple[Index, Value]]] | None:
    """The pieces of a concatenation of equal parts whose axis a view cuts between them: a stack."""
    if value.pieces is None:
        return None
    axis, parts = value.pieces
    size = parts[0][1].shape[axis]
    cut = (*value.shape[:axis], Index.of(len(parts)), size, *value.shape[axis + 1 :])
    if size == Index.of(1):
        cut = value.shape
    if shape != cut or any(part.shape[axis] != size for _, part in parts):
        return None
    if cut == value.shape:
        return value.pieces

    def lifted(part: Value) -> Value:
        inner = (*part.shape[:axis], Index.of(1), *part.shape[axis:])
        return moved(part, inner, lambda places: (*places[:axis], *places[axis + 1 :]))

    return axis, [(Index.of(number), lifted(part)) for number, (_, part) in enumerate(parts)]


def _flattened(places: Sequence[Index], shape: Sequence[Index]) -> Index:
    place = Index.of(0)
    for index, size in zip(places, shape, strict=True):
        place = place * size + index
    return place


def _unflattened(place: Index, shape: Sequence[Index]) -> list[Index]:
    one = Index.of(1)
    found: list[Index] = []
    left = [size for size in shape if size != one]
    for size in reversed(shape):
        if size == one:
            found.append(Index.of(0))
            continue
        left.pop()
        if left:
            found.append(place % size)
            place = place // size
        else:
            found.append(place)
    return list(reversed(found))


def moved(value: Value, shape: Sequence[Index], source: Callable[[Places], Places]) -> Value:
    """A view: the element at ``places`` is the value's at ``source(places)``."""
    return Value(shape=tuple(shape), dtype=value.dtype, make_at=lambda places: value.at(source(places)))


def from_buffer(buffer: Buffer) -> Value:
    """What lies in memory."""
    dtype = computed(buffer.dtype)

    def at(places: Places) -> Expression:
        return make("load", dtype, (), (buffer, buffer.place(places)))

    return Value(shape=buffer.shape, dtype=dtype, make_at=at, buffer=buffer, view=(buffer, tuple(range(len(buffer.shape)))))


def from_step(step: Step, shape: Sequence[Index], kept: Sequence[int] | None = None) -> Value:
    """What a step gives. ``kept``: which of ``shape``'s axes are the step's, where others are of size 1."""
    own = list(range(len(shape))) if kept is None else list(kept)

    def at(places: Places) -> Expression:
        return make("result", step.dtype, (), (step, tuple(places[axis] for axis in own)))

    return Value(shape=tuple(shape), dtype=step.dtype, make_at=at, step=step if len(own) == len(shape) else None)


def filled(number: Any, shape: Sequence[Index], dtype: str) -> Value:
    """One number everywhere."""
    content = number if isinstance(number, Expression) else constant(number, computed(dtype))
    return Value(shape=tuple(shape), dtype=computed(dtype), make_at=lambda _: content)


def guarded(value: Expression, condition: Expression) -> Expression:
    """With every read from memory allowed only where ``condition`` holds."""
    from kevolve.operators.lowering.expression import rewritten

    def change(part: Expression) -> Expression | None:
        if part.op not in ("load", "result"):
            return None
        both = make("and", "bool", (*part.arguments, condition)) if part.arguments else condition
        return make(part.op, part.dtype, (both,), part.value)

    return rewritten(value, change)


def axes(names: Sequence[str], shape: Sequence[Index]) -> tuple[Axis, ...]:
    """A loop variable for each axis."""
    return tuple(Axis(name, size) for name, size in zip(names, shape, strict=True))


_LOOPS = {
    "batch": "item",
    "dim": "d",
    "time": "t",
    "height": "y",
    "width": "x",
    "each": "k",
    "classes": "label",
    "indices": "index",
    "queries": "query",
    "entries": "entry",
    "axes": "axis",
    "boxes": "box",
    "matrices": "matrix",
    "vertices": "vertex",
}


def axis_name(size: Index, number: int) -> str:
    """What a loop over ``size`` is called: row of rows, col of cols, else a letter."""
    named = [atom.name for monomial, factor in size.terms for atom in monomial if isinstance(atom, Size) and factor == 1]
    if len(size.terms) == 1 and len(named) == 1:
        name = str(named[0])
        name = name.removesuffix("_each")
        if name in _LOOPS:
            return _LOOPS[name]
        if name.endswith("s") and not name.endswith("ss") and len(name) > 2 and "_" not in name:
            return name[:-1]
        return name[0]
    return "ijklmnpq"[number % 8]
