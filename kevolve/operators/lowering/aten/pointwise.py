"""Aten operators on single elements, and tensors made from nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kevolve.operators.lowering.capture import Uncovered
from kevolve.operators.lowering.expression import Expression, constant, make, place
from kevolve.operators.lowering.front import Front, handles
from kevolve.operators.lowering.values import Value, cast, computed, filled, pointwise

Given = dict[str, Any]
_NARROW = ("int8", "uint8", "int16", "int32")
_UNARY = {
    **{name: name for name in ("exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tan")},
    **{name: name for name in ("tanh", "erf", "sigmoid", "floor", "ceil", "round", "trunc", "abs", "neg", "sign")},
}
_BINARY = {"maximum": "maximum", "minimum": "minimum", "fmax": "maximum", "fmin": "minimum", "remainder": "mod"}
_COMPARE = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_BITS = {
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_xor": "xor",
    "__and__": "and",
    "__or__": "or",
    "__xor__": "xor",
    "bitwise_left_shift": "shl",
    "bitwise_right_shift": "shr",
    "__rshift__": "shr",
    "__lshift__": "shl",
    "logical_and": "and",
    "logical_or": "or",
    "logical_xor": "xor",
    "logical_and_": "and",
    "logical_or_": "or",
}
_SAME = ("alias", "detach", "clone", "lift_fresh", "lift_fresh_copy", "contiguous", "view_of", "positive")


def _elementwise(
    front: Front, operands: list[Any], body: Callable[..., Expression], dtype: str | None = None, inside: str | None = None
) -> Value:
    """``body`` of the operands, each cast to the dtype of the work (the result's, or ``inside``)."""
    result = dtype or front.dtype()
    work = inside or result
    values = [front.tensor(operand, work) for operand in operands]
    return pointwise(front.shape(), result, values, lambda *parts: body(*(cast(part, work) for part in parts)))


def _promoted(front: Front, *operands: Any) -> str:
    """The dtype in which operands are compared or combined."""
    import torch

    dtypes = []
    for node_argument in front.node.args:
        found = node_argument.meta["val"] if isinstance(node_argument, torch.fx.Node) else node_argument
        if isinstance(found, torch.Tensor | bool | int | float):
            dtypes.append(found)
        elif isinstance(found, torch.SymInt):
            dtypes.append(1)
        elif isinstance(found, torch.SymFloat):
            dtypes.append(1.0)
    result = dtypes[0].dtype if isinstance(dtypes[0], torch.Tensor) else torch.get_default_dtype()
    if len(dtypes) > 1:
        result = torch.result_type(dtypes[0], dtypes[1])
    return computed(str(result).removeprefix("torch."))


def _wrapped(value: Expression, dtype: str) -> Expression:
    """Narrow whole numbers wrap around: worked out in int32, then narrowed."""
    return value if value.dtype == dtype else make("cast", dtype, (value,))


def _arithmetic(op: str) -> Callable[..., Any]:
    def handler(front: Front, node: Any, _: list[Any], given: Given) -> Value:
        dtype = front.dtype()
        work = "int32" if dtype in _NARROW else dtype
        alpha = given.get("alpha", 1)
        names = ("other", "self") if op == "rsub" else ("self", "other")
        name = "sub" if op == "rsub" else op

        def body(first: Expression, second: Expression) -> Expression:
            if not (isinstance(alpha, int | float) and alpha == 1):
                scaled = "self" if op == "rsub" else "other"
                factor = front.sizes.scalar(alpha) if work == "float32" else constant(alpha, work)
                if scaled == names[1]:
                    second = make("mul", work, (second, factor))
                else:
                    first = make("mul", work, (first, factor))
            if work == "bool":
                return make({"add": "or", "mul": "and"}[name], "bool", (first, second))
            return _wrapped(simplified(name, work, first, second), dtype)

        return _elementwise(front, [given[names[0]], given[names[1]]], body, inside=work)

    return handler


def simplified(op: str, dtype: str, first: Expression, second: Expression) -> Expression:
    """Arithmetic without what changes nothing: places stay places."""
    if dtype in ("int64", "int32") and op in ("add", "sub", "mul"):
        from kevolve.operators.lowering.expression import as_index

        if dtype == "int64" and all(part.op in ("place", "constant") for part in (first, second)):
            a, b = as_index(first), as_index(second)
            return place(a + b if op == "add" else a - b if op == "sub" else a * b)
    if op == "mul" and dtype in ("float32", "float64") and second.op == "constant" and second.value == 1.0:
        return first
    if op == "mul" and dtype in ("float32", "float64") and first.op == "constant" and first.value == 1.0:
        return second
    if op == "div" and second.op == "constant" and second.value == 1.0:
        return first
    if op == "add" and first.op == "tanh" and second.op == "constant" and second.value == 1.0:
        return _one_more(first)
    return make(op, dtype, (first, second))


def _one_more(tanh: Expression) -> Expression:
    """Tanh z + 1 as 2 / (1 + e^-2z), in GELU's approximation: one exponential where tanh near 0 needs more, and nothing cancels."""
    two = constant(2.0, tanh.dtype)
    return make("mul", tanh.dtype, (make("sigmoid", tanh.dtype, (make("mul", tanh.dtype, (tanh.arguments[0], two)),)), two))


for _op in ("add", "sub", "mul", "rsub"):
    handles(_op)(_arithmetic(_op))


@handles("div")
def _divide(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    mode = given.get("rounding_mode")
    dtype = front.dtype()
    if mode is None:
        return _elementwise(front, [given["self"], given["other"]], lambda a, b: simplified("div", dtype, a, b))
    if dtype in ("float32", "float64"):
        return _elementwise(front, [given["self"], given["other"]], lambda a, b: make(mode, dtype, (make("div", dtype, (a, b)),)))
    if mode == "floor":
        return _elementwise(front, [given["self"], given["other"]], lambda a, b: make("floordiv", dtype, (a, b)))
    raise Uncovered("nothing here lowers whole division towards zero")


@handles("floor_divide")
def _floor_divide(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    op = "floordiv" if dtype not in ("float32", "float64") else ""
    body = (lambda a, b: make(op, dtype, (a, b))) if op else (lambda a, b: make("floor", dtype, (make("div", dtype, (a, b)),)))
    return _elementwise(front, [given["self"], given["other"]], body)


def _unary(op: str) -> Callable[..., Any]:
    def handler(front: Front, node: Any, _: list[Any], given: Given) -> Value:
        dtype = front.dtype()
        if dtype not in ("float32", "float64") and op in ("floor", "ceil", "round", "trunc"):
            return given["self"]  # type: ignore[no-any-return]
        return _elementwise(front, [given["self"]], lambda x: make(op, dtype, (x,)))

    return handler


for _name, _op in _UNARY.items():
    handles(_name)(_unary(_op))


def _binary(op: str) -> Callable[..., Any]:
    def handler(front: Front, node: Any, _: list[Any], given: Given) -> Value:
        dtype = front.dtype()
        return _elementwise(front, [given["self"], given["other"]], lambda a, b: make(op, dtype, (a, b)))

    return handler


for _name, _op in _BINARY.items():
    handles(_name)(_binary(_op))


def _comparison(op: str) -> Callable[..., Any]:
    def handler(front: Front, node: Any, _: list[Any], given: Given) -> Value:
        inside = _promoted(front)
        return _elementwise(front, [given["self"], given["other"]], lambda a, b: make(op, "bool", (a, b)), "bool", inside)

    return handler


for _name, _op in _COMPARE.items():
    handles(_name)(_comparison(_op))


def _bits(op: str) -> Callable[..., Any]:
    def handler(front: Front, node: Any, _: list[Any], given: Given) -> Value:
        dtype = front.dtype()
        return _elementwise(front, [given["self"], given["other"]], lambda a, b: _bitwise(op, dtype, a, b))

    return handler


def _bitwise(op: str, dtype: str, first: Expression, second: Expression) -> Expression:
    if dtype == "bool" and op in ("and", "or"):
        for known, other in ((first, second), (second, first)):
            if known.op == "constant":
                return other if known.value == (op == "and") else known
    return make(op, dtype, (first, second))


for _name, _op in _BITS.items():
    handles(_name)(_bits(_op))


@handles("bitwise_not", "logical_not")
def _not(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    return _elementwise(front, [given["self"]], lambda x: make("not", dtype, (x,)))


@handles("isnan", "isinf")
def _odd(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    name = node.target.overloadpacket.__name__
    return _elementwise(front, [given["self"]], lambda x: make(name, "bool", (x,)), "bool", given["self"].dtype)


@handles("square")
def _square(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    return _elementwise(front, [given["self"]], lambda x: make("mul", dtype, (x, x)))


@handles("relu")
def _relu(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    return _elementwise(front, [given["self"]], lambda x: make("maximum", dtype, (x, constant(0, dtype))))


@handles("pow")
def _power(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    base, exponent = given["self"], given["exponent"]
    if isinstance(exponent, int | float) and float(exponent) in (2.0, 3.0, 0.5, -0.5, 1.0, -1.0):

        def body(x: Expression) -> Expression:
            if exponent == 1:
                return x
            if exponent in (2, 3):
                squared = make("mul", dtype, (x, x))
                return squared if exponent == 2 else make("mul", dtype, (squared, x))
            return make({0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}[float(exponent)], dtype, (x,))

        return _elementwise(front, [base], body)
    return _elementwise(front, [base, exponent], lambda a, b: make("pow", dtype, (a, b)))


@handles("clamp", "clamp_min", "clamp_max")
def _clamp(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    bounds = [(name, op) for name, op in (("min", "maximum"), ("max", "minimum")) if given.get(name) is not None]

    def body(x: Expression, *limits: Expression) -> Expression:
        for (_name, op), limit in zip(bounds, limits, strict=True):
            x = make(op, dtype, (x, limit))
        return x

    return _elementwise(front, [given["self"], *(given[name] for name, _op in bounds)], body)


@handles("where")
def _where(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    operands = [front.tensor(given["condition"], "bool"), front.tensor(given["self"], dtype), front.tensor(given["other"], dtype)]
    return pointwise(front.shape(), dtype, operands, lambda c, a, b: make("where", dtype, (c, cast(a, dtype), cast(b, dtype))))


@handles("_to_copy", "to", "convert_element_type", "type_as")
def _to(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value, dtype = given["self"], front.dtype()
    if value.dtype == dtype:
        return value  # type: ignore[no-any-return]
    return pointwise(front.shape(), dtype, [value], lambda x: cast(x, dtype))


@handles(*_SAME)
def _same(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    return given["self"]  # type: ignore[no-any-return]


@handles("copy")
def _copy(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    return pointwise(front.shape(), dtype, [given["src"]], lambda x: cast(x, dtype))


@handles("copy_")
def _copy_in_place(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    target, source = given["self"], given["src"]
    if target.buffer is None or target.buffer.role != "input":
        later = list(front.captured.graph.nodes)
        if any(user is not node and later.index(user) > later.index(node) for user in node.args[0].users):
            raise Uncovered("it writes into a part of a tensor")
        dtype = front.dtype()
        return pointwise(front.shape(), dtype, [source], lambda x: cast(x, dtype))
    front.mutated.append((target.buffer, source))
    return source  # type: ignore[no-any-return]


# what is made from nothing


@handles("full", "full_like", "new_full", "scalar_tensor", "fill")
def _full(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    number = next(given[name] for name in ("fill_value", "s", "value") if name in given)
    dtype = front.dtype()
    if isinstance(number, Value):
        return pointwise(front.shape(), dtype, [number], lambda x: cast(x, dtype))
    if isinstance(number, bool | int | float):
        return filled(number, front.shape(), dtype)
    return filled(front.tensor(number, dtype).at(()), front.shape(), dtype)


@handles(
    "zeros",
    "zeros_like",
    "new_zeros",
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "ones",
    "ones_like",
    "new_ones",
    "empty_permuted",
)
def _constant(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    name = node.target.overloadpacket.__name__
    return filled(1 if "ones" in name else 0, front.shape(), front.dtype())


@handles("arange", "iota")
def _arange(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    dtype = front.dtype()
    start, step = given.get("start", 0), given.get("step", 1)
    if isinstance(start, float) or isinstance(step, float):
        raise Uncovered("nothing here lowers arange with steps that are no whole numbers")
    first, by = front.index(start), front.index(step)
    return Value(shape=front.shape(), dtype=dtype, make_at=lambda places: cast(place(first + places[0] * by), dtype))
