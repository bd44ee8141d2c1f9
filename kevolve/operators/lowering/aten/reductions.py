"""Aten operators that combine elements: reductions, matrix products, scans, windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from kevolve.operators.lowering.expression import Expression, constant, make, place
from kevolve.operators.lowering.front import Front, dimension, handles
from kevolve.operators.lowering.index import Index
from kevolve.operators.lowering.program import Step
from kevolve.operators.lowering.values import Value, cast, from_step, guarded, moved, pointwise

Given = dict[str, Any]


def _dims(given: Given, value: Value) -> list[int]:
    dims = given.get("dim")
    if dims is None or dims == []:
        return list(range(value.rank))
    return sorted(dimension(dim, value.rank) for dim in (dims if isinstance(dims, list) else [dims]))


def _count(value: Value, dims: Sequence[int]) -> Index:
    count = Index.of(1)
    for dim in dims:
        count = count * value.shape[dim]
    return count


@handles("sum", "prod", "amax", "amin", "any", "all")
def _reduce(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    name = node.target.overloadpacket.__name__
    combine = {"amax": "max", "amin": "min"}.get(name, name)
    value: Value = given["self"]
    if combine in ("any", "all") and value.dtype != "bool":
        source = value
        value = pointwise(source.shape, "bool", [source], lambda x: make("ne", "bool", (x, constant(0, source.dtype))))
    words = {"sum": "total", "max": "peak", "min": "least", "prod": "product", "any": "found", "all": "holds"}
    return front.reduce(
        value, _dims(given, value), combine, front.dtype(), keepdim=bool(given.get("keepdim")), name=front.named(words[combine])
    )


@handles("mean")
def _mean(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    return mean(front, value, _dims(given, value), keepdim=bool(given.get("keepdim")), name=front.named("mean"))


def mean(front: Front, value: Value, dims: Sequence[int], *, keepdim: bool, name: str) -> Value:
    """The sum over the count."""
    total = front.reduce(value, dims, "sum", value.dtype, keepdim=keepdim, name=f"{name}_sum" if not name.endswith("sum") else name)
    count = cast(place(_count(value, dims)), value.dtype)
    return pointwise(total.shape, value.dtype, [total], lambda x: make("div", value.dtype, (x, count)))


@handles("var_mean", "var")
def _variance(front: Front, node: Any, _: list[Any], given: Given) -> Any:
    value: Value = given["self"]
    dims, keepdim = _dims(given, value), bool(given.get("keepdim"))
    centre = mean(front, value, dims, keepdim=True, name="mean")
    dtype = value.dtype

    def squared(x: Expression, m: Expression) -> Expression:
        distance = make("sub", dtype, (x, m))
        return make("mul", dtype, (distance, distance))

    squares = pointwise(value.shape, dtype, [value, centre], squared)
    total = front.reduce(squares, dims, "sum", dtype, keepdim=keepdim, name="squares")
    correction = given.get("correction", 1)
    freedom = _count(value, dims) - int(1 if correction is None else correction)
    divisor = cast(place(freedom), dtype)
    variance = pointwise(total.shape, dtype, [total], lambda x: make("div", dtype, (x, divisor)))
    if node.target.overloadpacket.__name__ == "var":
        return variance
    if keepdim:
        return variance, centre
    kept = [axis for axis in range(value.rank) if axis not in dims]

    def source(places: tuple[Index, ...]) -> tuple[Index, ...]:
        full = [Index.of(0)] * value.rank
        for axis, at in zip(kept, places, strict=True):
            full[axis] = at
        return tuple(full)

    return variance, moved(centre, [value.shape[axis] for axis in kept], source)


@handles("max", "min")
def _largest(front: Front, node: Any, _: list[Any], given: Given) -> Any:
    name = node.target.overloadpacket.__name__
    value: Value = given["self"]
    if "other" in given:
        op = "maximum" if name == "max" else "minimum"
        dtype = front.dtype()
        other = front.tensor(given["other"], dtype)
        return pointwise(front.shape(), dtype, [value, other], lambda a, b: make(op, dtype, (cast(a, dtype), cast(b, dtype))))
    if "dim" not in given:
        return front.reduce(value, list(range(value.rank)), name, front.dtype(), keepdim=False, name=front.named("peak"))
    dims, keepdim = _dims(given, value), bool(given.get("keepdim"))
    best = front.reduce(value, dims, name, value.dtype, keepdim=keepdim, name="largest" if name == "max" else "smallest")
    where = front.reduce(value, dims, f"arg{name}", "int64", keepdim=keepdim, name="where_largest" if name == "max" else "where_smallest")
    return best, where


@handles("argmax", "argmin")
def _where_largest(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    name = node.target.overloadpacket.__name__
    value: Value = given["self"]
    return front.reduce(value, _dims(given, value), name, "int64", keepdim=bool(given.get("keepdim")), name=front.named("place"))


@handles("mm", "bmm", "matmul")
def _product(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    first, second = given["self"], given["mat2"]
    return product(front, first, second, front.shape(), front.named("product"))


def product(front: Front, first: Value, second: Value, shape: tuple[Index, ...], name: str) -> Value:
    """``first @ second`` with an optional batch axis ahead. One row or one column alone is a reduction."""
    inner_size = first.shape[-1]
    loops, places = front.turns((*shape, inner_size))
    *outer, row, column, inner = places
    left = cast(first.at((*outer, row, inner)), "float32")
    right = cast(second.at((*outer, inner, column)), "float32")
    body = make("mul", "float32", (left, right))
    kept = [axis for axis, here in enumerate(places[:-1]) if here.terms]
    few = inner_size.number is not None and inner_size.number <= 4
    step = Step(name, "product", loops[:-1], "float32", loops[-1:], body, "sum", lines=front.line())
    if inner_size == Index.of(1):
        return Value(shape=shape, dtype="float32", make_at=lambda at: _outer(first, second, at))
    if not row.terms or not column.terms or few:
        step.kind = "reduce"
    else:
        step.first, step.second, step.across = left, right, ((loops[-3],), (loops[-2],))
    front.steps.append(step)
    return from_step(step, shape, kept)


def _outer(first: Value, second: Value, at: tuple[Index, ...]) -> Expression:
    left = first.at((*at[:-1], Index.of(0)))
    right = second.at((*at[:-2], Index.of(0), at[-1]))
    return make("mul", "float32", (cast(left, "float32"), cast(right, "float32")))


@handles("cumsum", "cumprod", "cummax", "cummin")
def _scan(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    name = node.target.overloadpacket.__name__
    combine = {"cumsum": "sum", "cumprod": "prod", "cummax": "max", "cummin": "min"}[name]
    value: Value = given["self"]
    dim = dimension(given["dim"], value.rank)
    dtype = front.dtype()
    loops, places = front.turns(value.shape)
    if not places[dim].terms:
        return value
    order = [axis for axis, here in enumerate(places) if axis != dim and here.terms] + [dim]
    by_axis = dict(zip([axis for axis, here in enumerate(places) if here.terms], loops, strict=True))
    body = cast(value.at(places), dtype)
    step = Step(
        front.named("running"),
        "scan",
        tuple(by_axis[axis] for axis in order),
        dtype,
        (by_axis[dim],),
        body,
        combine,
        lines=front.line(),
    )
    front.steps.append(step)
    return from_step(step, value.shape, order)


@handles("max_pool2d_with_indices")
def _max_pool(front: Front, node: Any, _: list[Any], given: Given) -> Any:
    value: Value = given["self"]
    kernel, stride, padding, dilation = (_pair(given.get(name)) for name in ("kernel_size", "stride", "padding", "dilation"))
    stride = stride or kernel
    shape, dtype = front.shape(front.meta[0]), value.dtype
    lowest = constant(-math.inf, dtype)

    def at(places: tuple[Index, ...]) -> Expression:
        found: Expression | None = None
        for offset in itertools.product(range(kernel[0]), range(kernel[1])):
            here = [
                places[axis] * stride[number] + offset[number] * dilation[number] - padding[number]
                for number, axis in enumerate(range(value.rank - 2, value.rank))
            ]
            condition: Expression | None = None
            for number, index in enumerate(here):
                size = value.shape[value.rank - 2 + number]
                tests = []
                if padding[number] and offset[number] * dilation[number] < padding[number]:
                    tests.append(make("ge", "bool", (place(index), place(Index.of(0)))))
                if padding[number] or node.args[0] is None:
                    tests.append(make("lt", "bool", (place(index), place(size))))
                for test in tests:
                    condition = test if condition is None else make("and", "bool", (condition, test))
            element = value.at((*places[:-2], *here))
            if condition is not None:
                element = make("where", dtype, (condition, guarded(element, condition), lowest))
            found = element if found is None else make("maximum", dtype, (found, element))
        assert found is not None
        return found

    return Value(shape=shape, dtype=dtype, make_at=at), None


def _pair(value: Any) -> list[int]:
    if not value:
        return [] if value == [] or value is None else [int(value)] * 2
    return [int(item) for item in value] * (2 if len(value) == 1 else 1) if isinstance(value, list) else [int(value)] * 2
