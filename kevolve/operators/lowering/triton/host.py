"""Numbers that a Triton file's wrapper works out in Python floats."""

from __future__ import annotations

from collections.abc import Callable

from kevolve.operators.lowering.expression import Expression
from kevolve.operators.lowering.index import Index
from kevolve.operators.lowering.printing import ATOM, PLUS, TIMES, UNARY, Unprintable
from kevolve.operators.lowering.triton.expression import BINARY, ONE_SIDED, is_float, number

NAMES = "exp exp2 expm1 log log2 log1p sqrt sin cos tan tanh erf floor ceil trunc"
MATH = {name: f"math.{name}" for name in NAMES.split()}
POWER = 95


def host_number(value: Expression, index: Callable[[Index], str], needs: int = 0) -> str:
    """An expression of arguments and sizes as Python."""
    text, binds = _bound(value, index)
    return f"({text})" if binds < needs else text


def _bound(value: Expression, index: Callable[[Index], str]) -> tuple[str, int]:
    op, arguments = value.op, value.arguments

    def text(argument: Expression, needs: int = 0) -> str:
        return host_number(argument, index, needs)

    if op == "constant":
        return number(value.value), UNARY if str(value.value).startswith("-") else ATOM
    if op == "scalar":
        return str(value.value), ATOM
    if op == "place":
        found = index(value.value)
        return found, ATOM if found.isidentifier() else 0
    if op == "cast":
        if is_float(value.dtype):
            return (text(arguments[0]), 0) if is_float(arguments[0].dtype) else (f"float({text(arguments[0])})", ATOM)
        return f"{'bool' if value.dtype == 'bool' else 'int'}({text(arguments[0])})", ATOM
    if op == "neg":
        return f"-{text(arguments[0], UNARY)}", UNARY
    if op == "pow":
        return f"{text(arguments[0], POWER)} ** {text(arguments[1], POWER)}", POWER
    if op in ("maximum", "minimum"):
        return f"{op[:3]}({', '.join(map(text, arguments))})", ATOM
    if op in BINARY and op not in ("and", "or", "xor"):
        sign, binds = BINARY[op]
        inner = binds + 1 if op in ONE_SIDED or arguments[1].op != op else binds
        return f"{text(arguments[0], binds)} {sign} {text(arguments[1], inner)}", binds
    if op in ("floordiv", "mod"):
        return f"{text(arguments[0], TIMES)} {'//' if op == 'floordiv' else '%'} {text(arguments[1], UNARY)}", TIMES
    if op == "where":
        return f"({text(arguments[1])} if {text(arguments[0])} else {text(arguments[2])})", ATOM
    if op in ("rsqrt", "reciprocal"):
        return f"1.0 / {f'math.sqrt({text(arguments[0])})' if op == 'rsqrt' else text(arguments[0], UNARY)}", TIMES
    if op == "sigmoid":
        return f"1.0 / (1.0 + math.exp(-{text(arguments[0], UNARY)}))", TIMES
    if op == "abs":
        return f"abs({text(arguments[0])})", ATOM
    if op in MATH:
        return f"{MATH[op]}({text(arguments[0])})", ATOM
    raise Unprintable(f"Triton: no way to work out {op} on the host")


__all__ = ["PLUS", "host_number"]
