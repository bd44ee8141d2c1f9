"""Aten operators that find their elements by numbers from memory: gather, scatter, sorted search, segments."""

from __future__ import annotations

from typing import Any

from kevolve.operators.lowering.capture import Uncovered
from kevolve.operators.lowering.expression import Buffer, Expression, constant, make
from kevolve.operators.lowering.front import Front, dimension, gathered, handles
from kevolve.operators.lowering.index import Index
from kevolve.operators.lowering.program import Step, Store
from kevolve.operators.lowering.values import Value, broadcast, cast, from_buffer, moved

Given = dict[str, Any]


@handles("index", "_unsafe_index")
def _index(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value, indices = given["self"], given["indices"]
    indices = [*indices, *[None] * (value.rank - len(indices))]
    chosen = [axis for axis, index in enumerate(indices) if index is not None]
    if any(indices[axis].dtype == "bool" for axis in chosen):
        raise Uncovered("nothing here lowers a choice by a mask: its size depends on the data")
    shape = front.shape()
    rank = max(indices[axis].rank for axis in chosen)
    begin = chosen[0] if chosen == list(range(chosen[0], chosen[0] + len(chosen))) else 0
    picked = shape[begin : begin + rank]

    def source(places: tuple[Index, ...]) -> tuple[Index, ...]:
        inner = places[begin : begin + rank]
        rest = iter((*places[:begin], *places[begin + rank :]))
        return tuple(next(rest) if index is None else gathered(broadcast(index, picked).at(inner)) for index in indices)

    return moved(value, shape, source)


@handles("index_select")
def _index_select(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value, index = given["self"], given["index"]
    dim = dimension(given["dim"], value.rank)
    return moved(value, front.shape(), lambda places: (*places[:dim], gathered(index.at((places[dim],))), *places[dim + 1 :]))


@handles("gather")
def _gather(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    value, index = given["self"], given["index"]
    dim = dimension(given["dim"], value.rank)
    return moved(value, front.shape(), lambda places: (*places[:dim], gathered(index.at(places)), *places[dim + 1 :]))


@handles("embedding")
def _embedding(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    table, index = given["weight"], given["indices"]
    return moved(table, front.shape(), lambda places: (gathered(index.at(places[:-1])), places[-1]))


# sorted search


@handles("bucketize", "searchsorted")
def _search(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    borders: Value = given["boundaries"] if "boundaries" in given else given["sorted_sequence"]
    wanted: Value = front.tensor(given["self"], borders.dtype)
    right = bool(given.get("right")) or given.get("side") == "right"
    if given.get("sorter") is not None:
        raise Uncovered("nothing here lowers a sorted search through a sorter")
    buffer = front.stored(borders, "borders")
    length, shape = borders.shape[-1], front.shape()

    def at(places: tuple[Index, ...]) -> Expression:
        begin = Index.of(0)
        if borders.rank > 1:
            for stride, here in zip(buffer.strides[:-1], places[:-1], strict=True):
                begin = begin + stride * here
        found = make("search", "int64", (cast(broadcast(wanted, shape).at(places), borders.dtype),), (buffer, begin, length, right))
        return cast(found, front_dtype)

    front_dtype = front.dtype()
    return Value(shape=shape, dtype=front_dtype, make_at=at)


@handles("repeat_interleave")
def _repeat_interleave(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    """To which repeated element each place belongs: a search in the running sum of the counts."""
    counts: Value = given["repeats"] if "repeats" in given else given["self"]
    if counts.rank != 1 or ("self" in given and "repeats" in given):
        raise Uncovered("nothing here lowers repeat_interleave of a tensor; index with that of its counts")
    loops = front.loops(counts.shape)
    body = cast(counts.at((Index.of(loops[0]),)), "int64")
    step = Step("ends", "scan", loops, "int64", loops, body, "sum", lines=front.line())
    front.steps.append(step)
    ends = front.workspace("ends", counts.shape, "int64")
    step.buffer = ends
    shape = front.shape()

    def at(places: tuple[Index, ...]) -> Expression:
        from kevolve.operators.lowering.expression import place

        return make("search", "int64", (place(places[0]),), (ends, Index.of(0), counts.shape[0], True))

    return Value(shape=shape, dtype="int64", make_at=at)


# scatter


def _scatter(front: Front, base: Value, combine: str, loops: Any, place: Index, value: Expression, name: str) -> Value:
    """A step that writes ``value`` at ``place`` of a copy of ``base`` for every place of ``loops``."""
    dtype = base.dtype
    buffer = Buffer(front.sizes.unused(name), base.shape, dtype, "workspace")
    content = base.at(tuple(Index.of(0) for _ in base.shape)) if base.buffer is None else None
    if base.buffer is not None and base.buffer.shape == base.shape:
        front.fills.append((buffer, base.buffer))
        front.workspaces.append(buffer)
    elif content is not None and content.op == "constant":
        front.fills.append((buffer, content.value))
        front.workspaces.append(buffer)
    else:
        front.workspaces.append(buffer)
        front.store(base, buffer, Index.of(0), buffer.strides)
    store = Store(buffer, place, cast(value, dtype))
    front.steps.append(Step(name, "scatter", tuple(loops), dtype, combine=combine, stores=[store], lines=front.line()))
    result = from_buffer(buffer)
    result.lines = front.line()
    return result


@handles("index_add", "index_copy")
def _index_add(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    base, index = given["self"], given["index"]
    source: Value = given["source"]
    dim = dimension(given["dim"], base.rank)
    alpha = given.get("alpha", 1)
    loops, turns = front.turns(source.shape)
    places = list(turns)
    value = cast(source.at(tuple(places)), base.dtype)
    if alpha != 1:
        value = make("mul", base.dtype, (value, front.tensor(alpha, base.dtype).at(())))
    places[dim] = gathered(index.at((places[dim],)))
    combine = "add" if node.target.overloadpacket.__name__ == "index_add" else "set"
    return _scatter(front, base, combine, loops, _flat(base, places), value, front.named("gathered_sum" if combine == "add" else "written"))


@handles("scatter_add", "scatter_reduce", "scatter")
def _scatter_along(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    base, index = given["self"], given["index"]
    source: Value = given["src"] if given.get("src") is not None else front.tensor(given["value"], base.dtype)
    name = node.target.overloadpacket.__name__
    reductions = {"sum": "add", "amax": "max", "amin": "min", "prod": "prod", "add": "add", "multiply": "prod"}
    combine = "add" if name == "scatter_add" else reductions.get(str(given.get("reduce")), "set")
    if given.get("include_self") is False or given.get("reduce") == "mean":
        raise Uncovered(f"nothing here lowers {name} without what is there already, or by mean")
    dim = dimension(given["dim"], base.rank)
    loops, turns = front.turns(index.shape)
    places = list(turns)
    value = cast((source if source.rank else broadcast(source, index.shape)).at(tuple(places)), base.dtype)
    places[dim] = gathered(index.at(tuple(places)))
    return _scatter(front, base, combine, loops, _flat(base, places), value, front.named("scattered"))


@handles("index_put")
def _index_put(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    base, indices, source = given["self"], given["indices"], given["values"]
    indices = [*indices, *[None] * (base.rank - len(indices))]
    chosen = [axis for axis, index in enumerate(indices) if index is not None]
    if any(indices[axis].dtype == "bool" for axis in chosen):
        raise Uncovered("nothing here lowers writing by a mask; use where")
    rank = max(indices[axis].rank for axis in chosen)
    begin = chosen[0] if chosen == list(range(chosen[0], chosen[0] + len(chosen))) else 0
    picked = max((indices[axis].shape for axis in chosen), key=len)
    shape = list(base.shape)
    rest = [size for axis, size in enumerate(shape) if axis not in chosen]
    whole = (*rest[:begin], *picked, *rest[begin:])
    loops, places = front.turns(whole)
    value = cast(broadcast(source, whole).at(places), base.dtype)
    inner = places[begin : begin + rank]
    left = iter((*places[:begin], *places[begin + rank :]))
    target = [next(left) if index is None else gathered(broadcast(index, picked).at(inner)) for index in indices]
    combine = "add" if given.get("accumulate") else "set"
    return _scatter(front, base, combine, loops, _flat(base, target), value, front.named("written"))


@handles("embedding_dense_backward")
def _embedding_backward(front: Front, node: Any, _: list[Any], given: Given) -> Value:
    from kevolve.operators.lowering.values import filled

    grad, index = given["grad_output"], given["indices"]
    shape, padding = front.shape(), given["padding_idx"]
    base = filled(0.0, shape, "float32")
    loops, places = front.turns(grad.shape)
    row = cast(index.at(places[:-1]), "int64")
    value = grad.at(places)
    if isinstance(padding, int) and padding >= 0:
        kept = make("ne", "bool", (row, constant(padding, "int64")))
        value = make("where", "float32", (kept, value, constant(0.0, "float32")))
    return _scatter(front, base, "add", loops, _flat(base, [gathered(row), places[-1]]), value, front.named("grad_table"))


def _flat(base: Value, places: Any) -> Index:
    flat = Index.of(0)
    for size, here in zip(base.shape, places, strict=True):
        flat = flat * size + here
    return flat
