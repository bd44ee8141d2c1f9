"""Expressions as C++: precedence, types, literals, and which helper each operation needs."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from kevolve.operators.lowering.expression import Buffer, Expression, make, sorted_reads
from kevolve.operators.lowering.index import Axis, Index, Size
from kevolve.operators.lowering.printing import ATOM, PLUS, TIMES, UNARY, IndexStyle, Unprintable, index_text

SHIFT, COMPARE, EQUAL, BITS, AND, OR, CHOICE, ASSIGN = 65, 60, 55, 50, 40, 35, 10, 5
Text = tuple[str, int]

TYPES = {
    "float32": "float",
    "float16": "float",
    "bfloat16": "float",
    "float64": "double",
    "int64": "int64_t",
    "int32": "int32_t",
    "int16": "int16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "bool": "bool",
}
STORED = {**TYPES, "float16": "Float16", "bfloat16": "Bfloat16", "bool": "uint8_t"}  # fixed dtypes of memory
_NARROW = ("int16", "int8", "uint8")
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_BINARY = {
    "add": ("+", PLUS, PLUS, TIMES),
    "sub": ("-", PLUS, PLUS, TIMES),
    "mul": ("*", TIMES, TIMES, UNARY),
    "div": ("/", TIMES, TIMES, UNARY),
}
_COMPARED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_LOGIC = {"and": "&", "or": "|", "xor": "^"}
# of float32: own versions that vectorise; of float64 those of the library
_FUNCTIONS = {
    "exp": "exp_of",
    "expm1": "expm1_of",
    "log": "log_of",
    "log1p": "log1p_of",
    "tanh": "tanh_of",
    "sigmoid": "sigmoid_of",
    "erf": "erf_of",
    "sin": "sin_of",
    "cos": "cos_of",
    "tan": "tan_of",
    "sqrt": "sqrt_of",
    "floor": "floor_of",
    "ceil": "ceil_of",
    "trunc": "trunc_of",
}
_LIBRARY = {
    **{
        name: name
        for name in ("exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "sin", "cos", "tan", "tanh", "erf", "floor", "ceil", "trunc")
    },
    "round": "nearbyint",
}
EXPENSIVE = frozenset("exp exp2 expm1 log log2 log1p tanh erf sigmoid sin cos tan pow search".split())


@dataclass(slots=True)
class Printer:
    """What expressions need to know of where they stand.

    ``named``: expressions that have a name; ``results``: what earlier steps gave; ``element``: memory at a place; ``use``: asks for a
    helper; ``name``: of sizes, axes and scalars; ``lanes``: whether loops around it are vectorised: no calls and no branches then.
    ``around``: axes of loops that are not.
    """

    name: Callable[[Size | Axis | str], str]
    element: Callable[[Buffer, Index], str]
    use: Callable[[str], str]
    results: dict[int, Text] = field(default_factory=dict)
    named: dict[int, Text] = field(default_factory=dict)
    lanes: bool = True
    around: frozenset[Axis] = frozenset()

    def text(self, value: Expression, needs: int = 0) -> str:
        """In brackets where it binds less tightly than what is needed."""
        text, binds = self._text(value)
        return f"({text})" if binds < needs else text

    def index(self, index: Index, needs: int = 0) -> str:
        """A place as text."""
        style = IndexStyle(
            name=self.name,
            read=self._read,
            divide="/",
            floor_divide="floor_divide",
            floor_remainder="floor_remainder",
            smaller="smaller<int64_t>",
            larger="larger<int64_t>",
        )
        text = index_text(index, style, needs)
        for helper, mark in (("floor_divide", "("), ("floor_remainder", "("), ("smaller", "<"), ("larger", "<")):
            if helper + mark in text:
                self.use(helper)
        return text

    def converted(self, value: Expression, dtype: str, needs: int = 0) -> str:
        """As a number of another dtype."""
        text, binds = self._cast(value, dtype)
        return f"({text})" if binds < needs else text

    def _read(self, value: Expression) -> str:
        text = self.text(value, UNARY)
        return text if value.dtype == "int64" else f"static_cast<int64_t>({self.text(value)})"

    def _text(self, value: Expression) -> Text:
        if id(value) in self.named:
            return self.named[id(value)]
        method = getattr(self, f"_{value.op}", None)
        if method is not None:
            return method(value)  # type: ignore[no-any-return]
        if value.op in _BINARY:
            return self._arithmetic(value)
        if value.op in _COMPARED:
            sign = _COMPARED[value.op]
            binds = EQUAL if sign in ("==", "!=") else COMPARE
            first, second = value.arguments
            return f"{self.text(first, SHIFT)} {sign} {self.text(second, SHIFT)}", binds
        if value.op in _LIBRARY or value.op in _FUNCTIONS:
            return self._function(value)
        raise Unprintable(f"C++ has no {value.op}")

    # --- leaves ---

    def _constant(self, value: Expression) -> Text:
        return literal(value.value, value.dtype, self.use)

    def _scalar(self, value: Expression) -> Text:
        return self.name(value.value), ATOM

    def _place(self, value: Expression) -> Text:
        text = self.index(value.value)
        return text, ATOM if text.isidentifier() or text.isdigit() else PLUS

    def _load(self, value: Expression) -> Text:
        buffer, place = value.value
        text = self.element(buffer, place)
        if buffer.like is not None or buffer.dtype in ("float16", "bfloat16"):
            text = f"{self.use('widen')}({text})"
        if buffer.dtype == "bool":  # memory as bytes: loops over bool do not vectorise
            return (f"{text} != 0", EQUAL) if not value.arguments else (f"{self.text(value.arguments[0], EQUAL)} && {text} != 0", AND)
        return self._guarded(value, text)

    def _result(self, value: Expression) -> Text:
        step, _ = value.value
        if id(step) not in self.results:
            raise Unprintable(f"{step.name} is used where its result is not known")
        text, binds = self.results[id(step)]
        return self._guarded(value, text) if value.arguments else (text, binds)

    def _guarded(self, value: Expression, text: str) -> Text:
        if not value.arguments:
            return text, ATOM
        nothing, _ = literal(False if value.dtype == "bool" else 0, value.dtype, self.use)
        return f"{self.text(value.arguments[0], OR)} ? {text} : {nothing}", CHOICE

    def _search(self, value: Expression) -> Text:
        buffer, begin, length, right = value.value
        helper = self.use("count_at_most" if right else "count_below")
        if buffer.dtype not in _FLOATS:
            self.use("widen_whole")
        row = f"&{self.element(buffer, begin)}"
        row = row.removesuffix("[0]").removeprefix("&") if row.endswith("[0]") else row
        return f"{helper}({row}, {self.index(length)}, {self.text(value.arguments[0])})", ATOM

    # --- conversions and choices ---

    def _cast(self, value: Expression, dtype: str | None = None) -> Text:
        inner, dtype = (value, dtype) if dtype is not None else (value.arguments[0], value.dtype)
        if TYPES[inner.dtype] == TYPES[dtype]:
            return self._text(inner)
        if inner.op == "constant":
            return literal(inner.value, dtype, self.use)
        if dtype == "bool":
            return f"{self.text(inner, SHIFT)} != {literal(0, inner.dtype, self.use)[0]}", EQUAL
        return f"static_cast<{TYPES[dtype]}>({self.text(inner)})", ATOM

    def _where(self, value: Expression) -> Text:
        condition, then, otherwise = value.arguments
        if _is_guarded(then, condition) and _is_guarded(otherwise, condition, opposite=True):
            return f"{self.text(condition, OR)} ? {self._unguarded(then)} : {self._unguarded(otherwise)}", CHOICE
        if self.lanes and value.dtype in _FLOATS and not (self._settled(then) and self._settled(otherwise)):
            self.use("select_double" if value.dtype == "float64" else "select")
            return f"select({self.text(condition)}, {self.text(then)}, {self.text(otherwise)})", ATOM
        return f"{self.text(condition, OR)} ? {self.text(then, OR)} : {self.text(otherwise, CHOICE)}", CHOICE

    def _unguarded(self, value: Expression) -> str:
        return self.text(make(value.op, value.dtype, (), value.value) if value.arguments else value, OR)

    def _settled(self, value: Expression) -> bool:
        """Whether it is there already: nothing is worked out or read in a branch."""
        return value.op in ("constant", "scalar", "result") or (id(value) in self.named and not value.axes)

    # --- arithmetic ---

    def _arithmetic(self, value: Expression) -> Text:
        sign, binds, left, right = _BINARY[value.op]
        first, second = value.arguments
        text = f"{self.text(first, left)} {sign} {self.text(second, right)}"
        return (f"static_cast<{TYPES[value.dtype]}>({text})", ATOM) if value.dtype in _NARROW else (text, binds)

    def _neg(self, value: Expression) -> Text:
        text = f"-{self.text(value.arguments[0], UNARY + 1)}"
        return (f"static_cast<{TYPES[value.dtype]}>({text})", ATOM) if value.dtype in _NARROW else (text, UNARY)

    def _reciprocal(self, value: Expression) -> Text:
        return f"{literal(1, value.dtype, self.use)[0]} / {self.text(value.arguments[0], UNARY)}", TIMES

    def _rsqrt(self, value: Expression) -> Text:
        return f"{literal(1, value.dtype, self.use)[0]} / {self._root(value.arguments[0], value.dtype)}", TIMES

    def _sqrt(self, value: Expression) -> Text:
        return self._root(value.arguments[0], value.dtype), ATOM

    def _root(self, value: Expression, dtype: str) -> str:
        vectorised = self.lanes and dtype != "float64" and not value.axes <= self.around
        return f"{self.use('sqrt_of') if vectorised else 'std::sqrt'}({self.text(value)})"

    def _abs(self, value: Expression) -> Text:
        return f"std::{'fabs' if value.dtype in _FLOATS else 'abs'}({self.text(value.arguments[0])})", ATOM

    def _maximum(self, value: Expression) -> Text:
        return self._extreme(value, "larger"), ATOM

    def _minimum(self, value: Expression) -> Text:
        return self._extreme(value, "smaller"), ATOM

    def _extreme(self, value: Expression, helper: str) -> str:
        first, second = value.arguments
        kind = "" if value.dtype in _FLOATS else f"<{TYPES[value.dtype]}>"
        return f"{self.use(helper)}{kind}({self.text(first)}, {self.text(second)})"

    def _pow(self, value: Expression) -> Text:
        base, exponent = value.arguments
        if exponent.op == "constant" and exponent.value in (1, 2):
            return (f"{self.use('square_of')}({self.text(base)})", ATOM) if exponent.value == 2 else self._text(base)
        if value.dtype in _FLOATS:
            return f"std::pow({self.text(base)}, {self.text(exponent)})", ATOM
        raise Unprintable("C++ has no pow of whole numbers")

    def _sigmoid(self, value: Expression) -> Text:
        if value.dtype == "float64":
            return f"1.0 / (1.0 + std::exp(-{self.text(value.arguments[0], UNARY + 1)}))", TIMES
        return self._function(value)

    def _function(self, value: Expression) -> Text:
        argument = self.text(value.arguments[0])
        if value.dtype != "float64" and value.op in _FUNCTIONS:
            return f"{self.use(_FUNCTIONS[value.op])}({argument})", ATOM
        return f"std::{_LIBRARY[value.op]}({argument})", ATOM

    def _sign(self, value: Expression) -> Text:
        return f"{self.use('sign_of')}({self.text(value.arguments[0])})", ATOM

    def _isnan(self, value: Expression) -> Text:
        text = self.text(value.arguments[0], SHIFT)
        return f"{text} != {text}", EQUAL

    def _isinf(self, value: Expression) -> Text:
        argument = value.arguments[0]
        return f"std::fabs({self.text(argument)}) == {literal(math.inf, argument.dtype, self.use)[0]}", EQUAL

    # --- whole numbers and truth ---

    def _floordiv(self, value: Expression) -> Text:
        first, second = value.arguments
        if value.dtype in _FLOATS:
            quotient = f"{self.text(first, TIMES)} / {self.text(second, UNARY)}"
            return f"{self.use('round_down') if value.dtype != 'float64' else 'std::floor'}({quotient})", ATOM
        self.use("integer_floor_divide")
        return f"floor_quotient<{TYPES[value.dtype]}>({self.text(first)}, {self.text(second)})", ATOM

    def _mod(self, value: Expression) -> Text:
        first, second = value.arguments
        if value.dtype in _FLOATS:
            return f"{self.use('float_remainder')}({self.text(first)}, {self.text(second)})", ATOM
        self.use("integer_floor_remainder")
        return f"floor_rest<{TYPES[value.dtype]}>({self.text(first)}, {self.text(second)})", ATOM

    def _and(self, value: Expression) -> Text:
        return self._logic(value, "&&", AND)

    def _or(self, value: Expression) -> Text:
        return self._logic(value, "||", OR)

    def _xor(self, value: Expression) -> Text:
        return self._logic(value, "!=", EQUAL) if value.dtype == "bool" else self._bits(value, "^")

    def _logic(self, value: Expression, sign: str, binds: int) -> Text:
        if value.dtype != "bool":
            return self._bits(value, sign[0])
        if self.lanes and value.axes and sign != "!=":  # no branch
            return self._bits(value, sign[0])
        same = binds if all(argument.op in (value.op, "eq", "lt", "le", "gt", "ge", "ne") for argument in value.arguments) else UNARY
        same = SHIFT if sign == "!=" else same
        return f" {sign} ".join(self.text(argument, same) for argument in value.arguments), binds

    def _bits(self, value: Expression, sign: str) -> Text:
        text = f" {sign} ".join(self.text(argument, UNARY) for argument in value.arguments)
        return (f"static_cast<{TYPES[value.dtype]}>({text})", ATOM) if value.dtype in _NARROW else (text, BITS)

    def _not(self, value: Expression) -> Text:
        sign = "!" if value.dtype == "bool" else "~"
        text = f"{sign}{self.text(value.arguments[0], UNARY)}"
        return (f"static_cast<{TYPES[value.dtype]}>({text})", ATOM) if value.dtype in _NARROW else (text, UNARY)

    def _shl(self, value: Expression) -> Text:
        return self._shift(value, "<<")

    def _shr(self, value: Expression) -> Text:
        return self._shift(value, ">>")

    def _shift(self, value: Expression, sign: str) -> Text:
        first, second = value.arguments
        text = f"{self.text(first, UNARY)} {sign} {self.text(second, UNARY)}"
        return (f"static_cast<{TYPES[value.dtype]}>({text})", ATOM) if value.dtype in _NARROW else (text, SHIFT)


_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def _is_guarded(value: Expression, condition: Expression, *, opposite: bool = False) -> bool:
    """Whether it is memory that is read under this condition (or its opposite) and no other."""
    if value.op != "load" or len(value.arguments) != 1:
        return False
    (own,) = value.arguments
    if not opposite:
        return own is condition
    turned = own.op == "not" and own.arguments[0] is condition
    return turned or (_OPPOSITE.get(condition.op) == own.op and own.arguments == condition.arguments)


def literal(value: float | int | bool, dtype: str, use: Callable[[str], str]) -> Text:
    """A number of a dtype."""
    if dtype == "bool":
        return ("true" if value else "false"), ATOM
    if dtype not in _FLOATS:
        return (str(int(value)), ATOM) if value >= 0 else (f"({int(value)})", ATOM)
    number, kind = float(value), "double" if dtype == "float64" else "float"
    if math.isnan(number):
        return f"std::numeric_limits<{kind}>::quiet_NaN()", ATOM
    if kind == "float" and math.isfinite(number):
        number = _rounded(number)
    if math.isinf(number):
        name = use("kInfinity") if kind == "float" else "std::numeric_limits<double>::infinity()"
        return (name, ATOM) if number > 0 else (f"-{name}", UNARY)
    text = repr(number) if kind == "double" else _shortest(number)
    text = text if any(mark in text for mark in ".e") else f"{text}.0"
    text += "f" if kind == "float" else ""
    return text, UNARY if number < 0 else ATOM


def _rounded(number: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def _shortest(number: float) -> str:
    """The fewest digits that give the same float32."""
    for digits in range(1, 10):
        text = f"{number:.{digits}g}"
        if _rounded(float(text)) == number:
            break
    plain = f"{float(text):.12f}".rstrip("0")
    return plain if "e" in text and 1e-4 <= abs(number) < 1e7 and float(plain) == float(text) else text


def reads(index: Index) -> list[Expression]:
    """The expressions that an index reads."""
    return [read.value for read in sorted_reads(index)]
