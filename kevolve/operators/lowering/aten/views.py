"""Aten operators that change where elements are found: views, concatenations, padding."""

from __future__ import annotations

from typing import Any

from kevolve.operators.lowering.expression import Expression, make, place
from kevolve.operators.lowering.front import Front, dimension, handles
from kevolve.operators.lowering.index import Index, bounded
from kevolve.operators.lowering.values import Value, broadcast, cast, guarded, moved, pointwise, reshaped

Given = dict[str, Any]


@handles("view", "reshape", "_unsafe_view", "_reshape_alias", "view_copy")
def _view(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    return reshaped(given["self"], front.shape())


@handles("unsqueeze")
def _unsqueeze(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    dim = dimension(given["dim"], value.rank + 1)
    return _inserted(value, dim, front.shape())


def _inserted(value: Value, dim: int, shape: tuple[Index, ...]) -> Value:
    found = moved(value, shape, lambda places: places[:dim] + places[dim + 1 :])
    if value.pieces is not None:
        axis, parts = value.pieces
        shift = axis + (dim <= axis)
        made = []
        for start, part in parts:
            inner = list(shape)
            inner[shift] = part.shape[axis]
            made.append((start, _inserted(part, dim, tuple(inner))))
        found.pieces = (shift, made)
    if value.buffer is not None:
        found.buffer = value.buffer
    return found


@handles("squeeze")
def _squeeze(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    dims = given.get("dimensions", given.get("dim"))
    chosen = range(value.rank) if dims is None else [dimension(dim, value.rank) for dim in (dims if isinstance(dims, list) else [dims])]
    gone = [axis for axis in chosen if value.shape[axis].number == 1]
    kept = [axis for axis in range(value.rank) if axis not in gone]

    def source(places: tuple[Index, ...]) -> tuple[Index, ...]:
        full = [Index.of(0)] * value.rank
        for axis, at in zip(kept, places, strict=True):
            full[axis] = at
        return tuple(full)

    found = moved(value, [value.shape[axis] for axis in kept], source)
    found.buffer = value.buffer
    return found


@handles("expand")
def _expand(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    return broadcast(given["self"], front.shape())


@handles("permute", "transpose", "t", "movedim")
def _permute(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    if "dims" in given:
        order = [dimension(dim, value.rank) for dim in given["dims"]]
    else:
        order = list(range(value.rank))
        first, second = (dimension(given.get(name, other), value.rank) for name, other in (("dim0", 0), ("dim1", 1)))
        order[first], order[second] = order[second], order[first]

    def source(places: tuple[Index, ...]) -> tuple[Index, ...]:
        full = [Index.of(0)] * value.rank
        for at, axis in zip(places, order, strict=True):
            full[axis] = at
        return tuple(full)

    found = moved(value, [value.shape[axis] for axis in order], source)
    if value.view is not None:
        found.view = (value.view[0], tuple(value.view[1][axis] for axis in order))
    return found


@handles("slice")
def _slice(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    dim = dimension(given["dim"], value.rank)
    size = value.shape[dim]
    start, step = given.get("start"), given.get("step", 1)
    first = Index.of(0) if start is None else front.index(start)
    if first.number is not None and first.number < 0:
        first = bounded(size + first, Index.of(0), largest=True) if size.number is not None else size + first
    by = front.index(step)
    shape = front.shape()
    if shape == value.shape and first.number == 0 and by.number == 1:
        return value
    return moved(value, shape, lambda places: (*places[:dim], first + places[dim] * by, *places[dim + 1 :]))


@handles("select")
def _select(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    dim, at = dimension(given["dim"], value.rank), front.index(given["index"])
    if at.number is not None and at.number < 0:
        at = value.shape[dim] + at
    return moved(value, front.shape(), lambda places: (*places[:dim], at, *places[dim:]))


@handles("split_with_sizes", "split")
def _split(front: Front, node: Any, _: list[Any], given: Given) -> tuple[Value, ...]:
    value: Value = given["self"]
    dim, start, found = dimension(given["dim"], value.rank), Index.of(0), []
    for part in front.meta:
        shape = front.shape(part)

        def source(places: tuple[Index, ...], start: Index = start) -> tuple[Index, ...]:
            return (*places[:dim], start + places[dim], *places[dim + 1 :])

        found.append(moved(value, shape, source))
        start = start + shape[dim]
    return tuple(found)


@handles("flip")
def _flip(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    dims = {dimension(dim, value.rank) for dim in given["dims"]}

    def source(places: tuple[Index, ...]) -> tuple[Index, ...]:
        return tuple(value.shape[axis] - 1 - at if axis in dims else at for axis, at in enumerate(places))

    return moved(value, value.shape, source)


@handles("cat")
def _cat(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    import torch

    fakes = [item.meta["val"] for item in node.args[0]]
    parts = [
        part
        for part, fake in zip(given["tensors"], fakes, strict=True)
        if not (isinstance(fake, torch.Tensor) and fake.dim() == 1 and fake.shape[0] == 0)
    ]
    shape, dtype = front.shape(), front.dtype()
    dim = dimension(given["dim"], len(shape))
    starts, start = [], Index.of(0)
    for part in parts:
        starts.append(start)
        start = start + part.shape[dim]

    def at(places: tuple[Index, ...]) -> Expression:
        here = places[dim]
        result: Expression | None = None
        for begin, part in reversed(list(zip(starts, parts, strict=True))):
            own = (*places[:dim], here - begin, *places[dim + 1 :])
            element = cast(part.at(own), dtype)
            below = make("lt", "bool", (place(here), place(begin + part.shape[dim])))
            above = make("ge", "bool", (place(here), place(begin)))
            if result is None:
                result = guarded(element, above)
            else:
                inside = below if begin.number == 0 else make("and", "bool", (above, below))
                result = make("where", dtype, (below, guarded(element, inside), result))
        assert result is not None
        return result

    def one(part: Value) -> Value:
        return pointwise(part.shape, dtype, [part], lambda x: cast(x, dtype))

    return Value(
        shape=shape, dtype=dtype, make_at=at, pieces=(dim, [(begin, one(part)) for begin, part in zip(starts, parts, strict=True)])
    )


@handles("constant_pad_nd")
def _pad(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value: Value = given["self"]
    dtype, shape = front.dtype(), front.shape()
    before = [Index.of(0)] * value.rank
    after = [Index.of(0)] * value.rank
    for number in range(len(given["pad"]) // 2):
        before[value.rank - 1 - number] = front.index(given["pad"][2 * number])
        after[value.rank - 1 - number] = front.index(given["pad"][2 * number + 1])
    other = cast(front.tensor(given["value"], dtype).at(()), dtype)

    def at(places: tuple[Index, ...]) -> Expression:
        own = tuple(here - begin for here, begin in zip(places, before, strict=True))
        condition: Expression | None = None
        for axis, here in enumerate(own):
            if before[axis].number != 0 or after[axis].number != 0:
                for test in (
                    make("ge", "bool", (place(here), place(Index.of(0)))),
                    make("lt", "bool", (place(here), place(value.shape[axis]))),
                ):
                    condition = test if condition is None else make("and", "bool", (condition, test))
        if condition is None:
            return value.at(own)
        return make("where", dtype, (condition, guarded(cast(value.at(own), dtype), condition), other))

    return Value(shape=shape, dtype=dtype, make_at=at)
