"""Expressions as Triton: what is computed for one element, written for a tile of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from kevolve.operators.lowering.expression import FLOATS, Expression
from kevolve.operators.lowering.index import Axis, Index, Size
from kevolve.operators.lowering.printing import ATOM, PLUS, TIMES, UNARY, IndexStyle, Unprintable, index_text

SHIFT, AND, XOR, OR, COMPARED = 60, 50, 45, 40, 30
TYPES = {
    "bool": "tl.int1",
    "float16": "tl.float32",  # narrow in memory only
    "bfloat16": "tl.float32",
} | {name: f"tl.{name}" for name in ("float32", "float64", "uint8", "int8", "int16", "int32", "int64")}
BINARY = {
    "add": ("+", PLUS),
    "sub": ("-", PLUS),
    "mul": ("*", TIMES),
    "div": ("/", TIMES),
    "and": ("&", AND),
    "or": ("|", OR),
    "xor": ("^", XOR),
    "shl": ("<<", SHIFT),
    "shr": (">>", SHIFT),
    "eq": ("==", COMPARED),
    "ne": ("!=", COMPARED),
    "lt": ("<", COMPARED),
    "le": ("<=", COMPARED),
    "gt": (">", COMPARED),
    "ge": (">=", COMPARED),
}
ONE_SIDED = frozenset({"sub", "div", "shl", "shr", "eq", "ne", "lt", "le", "gt", "ge"})  # a - (b - c) keeps its brackets
CALLS = {name: f"tl.{name}" for name in "abs exp exp2 log log2 sin cos erf sigmoid floor ceil".split()}
FUNCTIONS = {"round": "rounded", "trunc": "truncated", "sign": "sign_of", "pow": "power_of"} | {
    name: name for name in ("tanh", "expm1", "log1p")
}
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})


def is_float(dtype: str) -> bool:
    """Whether it is a floating-point dtype."""
    return dtype in FLOATS


def number(value: float | int | bool) -> str:
    """A constant as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return 'float("nan")' if math.isnan(value) else 'float("inf")' if value > 0 else '-float("inf")'
    return repr(value)


def _plain(value: Expression, beside: Expression) -> Expression:
    """A size without its cast beside a tensor of floats, which it becomes anyway."""
    size = value.op == "cast" and value.arguments[0].op == "place" and not value.axes and is_float(value.dtype)
    return value.arguments[0] if size and is_tensor(beside) else value


def is_tensor(value: Expression) -> bool:
    """Whether it holds more than numbers from the wrapper."""
    return bool(value.axes) or value.op in ("load", "result", "search") or any(map(is_tensor, value.arguments))


@dataclass(slots=True)
class Writer:
    """Writes expressions. ``names``: of those that have one; ``variable``: of sizes, axes; ``scalar``: of a number from the arguments.

    ``functions``: the helper functions that were used.
    """

    variable: Callable[[Size | Axis], str]
    scalar: Callable[[str], str]
    special: Callable[[Expression], str]  # loads, results, searches: what has a statement of its own
    prepare: Callable[[Index], Index]  # what of an index is worked out elsewhere
    names: dict[int, str] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)

    @property
    def style(self) -> IndexStyle:
        """How indices are written."""
        return IndexStyle(
            name=self.variable,
            read=self._read,
            floor_divide="floor_divided",
            floor_remainder="floor_remainder",
            smaller="tl.minimum",
            larger="tl.maximum",
        )

    def index(self, index: Index, needs: int = 0) -> str:
        """An index as text."""
        text = index_text(self.prepare(index), self.style, needs)
        self.functions |= {name for name in ("floor_divided", "floor_remainder") if f"{name}(" in text}
        return text

    def _read(self, value: Expression) -> str:
        return self.text(value, ATOM) if value.dtype == "int64" else f"{self.text(value, ATOM)}.to(tl.int64)"

    def text(self, value: Expression, needs: int = 0) -> str:
        """An expression, in brackets where it binds less tightly than ``needs``."""
        text, binds = self._bound(value)
        return f"({text})" if binds < needs else text

    def _bound(self, value: Expression) -> tuple[str, int]:
        if id(value) in self.names:
            return self.names[id(value)], ATOM
        if value.op == "constant":
            text = number(value.value)
            return text, UNARY if text.startswith("-") else ATOM
        if value.op == "scalar":
            return self.scalar(value.value), ATOM
        if value.op == "place":
            return self._place(value)
        if value.op in ("load", "result", "search"):
            return self.special(value), ATOM
        return self._operation(value)

    def _place(self, value: Expression) -> tuple[str, int]:
        """As an int64, whatever its variables are."""
        if not value.axes:
            return f"tl.cast({self.index(value.value)}, tl.int64)", ATOM
        return f"{self.index(value.value, ATOM)}.to(tl.int64)", ATOM

    def _bare(self, value: Expression, needs: int = 0) -> str:
        """Where the width of a whole number does not matter."""
        if value.op == "place" and id(value) not in self.names:
            return self.index(value.value, needs)
        return self.text(value, needs)

    def _size(self, value: Expression, needs: int = 0) -> str:
        """Of sizes alone: as they are, where the other operand says what they become; others in a comparison."""
        if value.op == "place" and (not value.axes):
            return self._bare(value, needs)
        return self.text(value, needs)

    def _operation(self, value: Expression) -> tuple[str, int]:
        op, arguments = value.op, value.arguments
        if op in BINARY:
            return self._binary(value)
        if op == "cast":
            return self._cast(arguments[0], value.dtype)
        if op == "where":
            condition, then, otherwise = arguments
            return f"tl.where({self.text(condition)}, {self.text(then)}, {self.text(otherwise)})", ATOM
        if op in ("maximum", "minimum"):
            return self._extreme(value)
        if op in ("neg", "not"):
            return f"{'-' if op == 'neg' else '~'}{self.text(arguments[0], ATOM)}", UNARY
        if op in ("floordiv", "mod"):
            return self._rounded_down(value)
        if op in ("isnan", "isinf"):
            return self._odd(value)
        if op == "reciprocal":
            return f"1.0 / {self.text(arguments[0], UNARY)}", TIMES
        if op in ("sqrt", "rsqrt"):
            return self._root(value)
        if op == "tan":
            return f"tl.sin({self.text(arguments[0])}) / tl.cos({self.text(arguments[0])})", TIMES
        if op in CALLS:
            return f"{CALLS[op]}({self.text(arguments[0])})", ATOM
        if op in FUNCTIONS and (is_float(value.dtype) or op == "sign"):
            return f"{self._function(FUNCTIONS[op])}({', '.join(map(self.text, arguments))})", ATOM
        raise Unprintable(f"Triton: no way to write {op} of {value.dtype}")

    def _root(self, value: Expression) -> tuple[str, int]:
        """Rounded rightly in float32: ``tl.sqrt`` and ``tl.rsqrt`` are linked from the device's library, a third of a short compilation."""
        name = "tl.sqrt_rn" if value.dtype == "float32" else "tl.sqrt"
        root = f"{name}({self.text(value.arguments[0])})"
        return (root, ATOM) if value.op == "sqrt" else (f"1.0 / {root}", TIMES)

    def _function(self, name: str) -> str:
        self.functions.add(name)
        return name

    def _binary(self, value: Expression) -> tuple[str, int]:
        sign, binds = BINARY[value.op]
        first, second = value.arguments
        free = is_tensor(first) != is_tensor(second)
        write = self._bare if value.op in COMPARISONS else self._size if free else self.text
        # Python would chain comparisons, and a difference changes with its brackets
        if value.dtype != "float64":
            first, second = _plain(first, second), _plain(second, first)
        left = write(first, binds + (value.op in COMPARISONS))
        swappable = value.op not in ONE_SIDED and second.op == value.op and not is_float(value.dtype)
        right = write(second, binds if swappable else binds + 1)
        return f"{left} {sign} {right}", binds

    def _cast(self, of: Expression, dtype: str) -> tuple[str, int]:
        kind = TYPES[dtype]
        if of.op == "constant":
            return number(float(of.value) if is_float(dtype) else bool(of.value) if dtype == "bool" else int(of.value)), ATOM
        if TYPES[of.dtype] == kind:
            return self._bound(of)
        if dtype == "bool":
            return f"{self.text(of, COMPARED + 1)} != 0", COMPARED
        if not of.axes:
            return f"tl.cast({self._bare(of)}, {kind})", ATOM
        return f"{self._bare(of, ATOM)}.to({kind})", ATOM

    def _extreme(self, value: Expression) -> tuple[str, int]:
        if is_float(value.dtype):
            name = self._function("larger_of" if value.op == "maximum" else "smaller_of")
        else:
            name = f"tl.{value.op}"
        write = self._size if any(map(is_tensor, value.arguments)) and not is_float(value.dtype) else self.text
        return f"{name}({', '.join(map(write, value.arguments))})", ATOM

    def _rounded_down(self, value: Expression) -> tuple[str, int]:
        first, second = value.arguments
        if is_float(value.dtype) and value.op == "floordiv":
            return f"tl.floor({self.text(first, TIMES)} / {self.text(second, UNARY)})", ATOM
        if value.dtype == "uint8":
            return f"{self.text(first, TIMES)} {'//' if value.op == 'floordiv' else '%'} {self.text(second, UNARY)}", TIMES
        name = self._function("floor_divided" if value.op == "floordiv" else "floor_remainder")
        return f"{name}({self.text(first)}, {self.text(second)})", ATOM

    def _odd(self, value: Expression) -> tuple[str, int]:
        (of,) = value.arguments
        if value.op == "isnan":
            return f"{self.text(of, COMPARED + 1)} != {self.text(of, COMPARED + 1)}", COMPARED
        return f'tl.abs({self.text(of)}) == float("inf")', COMPARED
