"""What is computed for one element: an expression over memory, loop variables and results of earlier steps.

Expressions are interned: what is equal is one object, so that a shared part is found by identity. Floating-point work is in float32
(float64 where the reference says so) however narrow the memory is: the oracle has no intermediate rounding either, and a cast between
floating dtypes inside a reference is none here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kevolve.operators.lowering.index import Axis, Index, Read, Size

FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(eq=False)
class Buffer:
    """Memory that kernels read and write: an input, an output or a workspace, contiguous when a kernel sees it.

    ``dtype``: torch's name without ``torch.``. ``like``: the name of an input whose floating dtype it has at the call (an input may name
    itself), None where the dtype is always the same. ``role``: ``input``, ``output``, ``workspace``.
    """

    name: str
    shape: tuple[Index, ...]
    dtype: str
    role: str
    like: str | None = None

    @property
    def strides(self) -> tuple[Index, ...]:
        """Of a contiguous tensor."""
        strides, step = [], Index.of(1)
        for size in reversed(self.shape):
            strides.append(step)
            step = step * size
        return tuple(reversed(strides))

    def place(self, indices: tuple[Index, ...]) -> Index:
        """The element's number from the beginning."""
        place = Index.of(0)
        for stride, index in zip(self.strides, indices, strict=True):
            place = place + stride * index
        return place


@dataclass(frozen=True, eq=False)
class Expression:
    """One operation, ``op``, and what it holds.

    ==============  ==============================================================================
    ``constant``    ``value``: a number or a bool
    ``scalar``      ``value``: the name of a number among the reference's arguments
    ``place``       ``value``: an ``Index``, as a number
    ``load``        ``value``: (Buffer, Index: the element's number); ``arguments``: () or (condition,): elsewhere it may not be read
    ``result``      ``value``: (Step, tuple of Index: the place), of an earlier step; ``arguments`` as of ``load``
    ``search``      ``value``: (Buffer, Index: where the sorted row begins, Index: its length, right: bool); ``arguments``: (wanted,)
    ``cast``        ``arguments``: (of,), to ``dtype``; from floating to whole numbers towards zero
    ``where``       ``arguments``: (condition, then, otherwise)
    others          by name: add sub mul div floordiv mod neg abs maximum minimum pow exp exp2 expm1 log log2 log1p sqrt rsqrt reciprocal
                    sin cos tan tanh erf sigmoid floor ceil round trunc sign eq ne lt le gt ge and or not xor shl shr isnan isinf
    ==============  ==============================================================================
    """

    op: str
    dtype: str
    arguments: tuple[Expression, ...] = ()
    value: Any = None
    axes: frozenset[Axis] = field(default=frozenset())

    def __repr__(self) -> str:
        inner = [*map(repr, self.arguments), *([str(self.value)] if self.value is not None else [])]
        return f"{self.op}({', '.join(inner)})"


_known: dict[tuple[Any, ...], Expression] = {}


def make(op: str, dtype: str, arguments: tuple[Expression, ...] = (), value: Any = None) -> Expression:
    """The expression, the same object for the same content. Nothing is simplified here."""
    content = tuple(map(id, arguments))
    key = (op, dtype, content, type(value).__name__, repr(value) if isinstance(value, float) else value)
    found = _known.get(key)
    if found is None:
        axes = frozenset[Axis]().union(*(argument.axes for argument in arguments), *(index.axes for index in _indices(value)))
        found = _known[key] = Expression(op, dtype, arguments, value, axes)
    return found


def forget() -> None:
    """Drop what is interned; nobody may hold an expression meanwhile."""
    _known.clear()
    _names.clear()


_names: dict[int, tuple[str, tuple[str, ...]]] = {}


def call(value: Expression, name: str, lines: tuple[str, ...] = ()) -> None:
    """Remember what the reference calls it, and in which lines; the first name counts."""
    if value.arguments:
        _names.setdefault(id(value), (name, lines))


def called(value: Expression) -> str | None:
    """What the reference calls it, if anything."""
    return _names[id(value)][0] if id(value) in _names else None


def lines_of(value: Expression) -> tuple[str, ...]:
    """The reference's lines of what it names so."""
    return _names[id(value)][1] if id(value) in _names else ()


def _indices(value: Any) -> list[Index]:
    if isinstance(value, Index):
        return [value]
    return [index for item in value for index in _indices(item)] if isinstance(value, tuple) else []


def constant(value: float | int | bool, dtype: str) -> Expression:
    """A number."""
    if dtype in FLOATS:
        return make("constant", dtype, (), float(value))
    return make("constant", dtype, (), bool(value) if dtype == "bool" else int(value))


def place(index: Index) -> Expression:
    """An index as a number."""
    if index.number is not None:
        return constant(index.number, "int64")
    if len(index.terms) == 1:
        (((atoms), factor),) = index.terms
        if factor == 1 and len(atoms) == 1 and isinstance(atoms[0], Read):
            return atoms[0].value
    return make("place", "int64", (), index)


def as_index(value: Expression) -> Index:
    """A whole number as an index: of sums and products of places their polynomial, of anything else what it reads."""
    if value.op == "constant":
        return Index.of(int(value.value))
    if value.op == "place":
        return value.value  # type: ignore[no-any-return]
    if value.op == "cast" and value.dtype in ("int64", "int32") and value.arguments[0].dtype in ("int64", "int32"):
        return as_index(value.arguments[0])
    if value.op in ("add", "sub", "mul") and value.dtype in ("int64", "int32"):
        first, second = map(as_index, value.arguments)
        return first + second if value.op == "add" else first - second if value.op == "sub" else first * second
    return Index.of(Read(value))


def children(value: Expression) -> tuple[Expression, ...]:
    """What an expression is made of: its arguments, and what its indices read."""
    inside = [atom.value for index in _indices(value.value) for atom in sorted_reads(index)]
    return (*value.arguments, *inside)


def sorted_reads(index: Index) -> list[Read]:
    """The numbers from memory in an index, in an order that does not change between runs."""
    found = [atom for atom in index.atoms if isinstance(atom, Read)]
    return sorted(found, key=lambda read: repr(read.value))


def rewritten(value: Expression, change: Callable[[Expression], Expression | None], axes: Mapping[Axis, Index] | None = None) -> Expression:
    """With parts changed (None: kept, its parts looked at) and axes replaced."""
    known: dict[int, Expression] = {}
    axes = axes or {}

    def atom(found: Any) -> Index | None:
        if isinstance(found, Axis):
            return axes.get(found)
        if isinstance(found, Read):
            return as_index(walk(found.value))
        return None

    def inner(content: Any) -> Any:
        if isinstance(content, Index):
            return content.replaced(atom)
        return tuple(map(inner, content)) if isinstance(content, tuple) else content

    def walk(expression: Expression) -> Expression:
        if id(expression) not in known:
            changed = change(expression)
            if changed is None:
                arguments = tuple(map(walk, expression.arguments))
                content = inner(expression.value)
                changed = place(content) if expression.op == "place" else make(expression.op, expression.dtype, arguments, content)
                if id(expression) in _names:
                    call(changed, *_names[id(expression)])
            known[id(expression)] = changed
        return known[id(expression)]

    return walk(value)


def substituted(value: Expression, axes: Mapping[Axis, Index]) -> Expression:
    """With axes replaced."""
    return rewritten(value, lambda _: None, axes) if axes else value


def visit(value: Expression, seen: set[int] | None = None) -> list[Expression]:
    """Every part once, arguments before what uses them."""
    seen = set() if seen is None else seen
    found: list[Expression] = []
    if id(value) not in seen:
        seen.add(id(value))
        for child in children(value):
            found += visit(child, seen)
        found.append(value)
    return found


__all__ = [
    "FLOATS",
    "Buffer",
    "Expression",
    "Size",
    "as_index",
    "call",
    "called",
    "children",
    "constant",
    "forget",
    "lines_of",
    "make",
    "place",
    "rewritten",
    "sorted_reads",
    "substituted",
    "visit",
]
