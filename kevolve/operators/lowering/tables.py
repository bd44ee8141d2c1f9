"""Expensive parts that do not run along every axis become tables: a power of a column's number once a column, not once a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kevolve.operators.lowering.expression import Buffer, Expression, children, make, substituted
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.program import Step, Store
from kevolve.operators.lowering.steps import change, expressions

EXPENSIVE = frozenset(
    ("pow", "exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "tan", "tanh", "erf", "sigmoid"),
)


def with_tables(steps: Sequence[Step], workspace: Callable[[str, Sequence[Index], str], Buffer]) -> list[Step]:
    """The steps, those that work out tables before the first that reads them."""
    made: list[Step] = []
    known: dict[int, tuple[Axis, Buffer]] = {}
    for step in steps:
        loops = (*step.axes, *(axis for axis in step.inner if axis not in step.axes))
        found = list(_found(step, loops)) if step.kind in ("map", "reduce", "scan") else []
        replaced: dict[int, Expression] = {}
        for value, axis in found:
            table = _table(value, axis, step, known, made, workspace)
            replaced[id(value)] = make("load", value.dtype, (), (table, Index.of(axis)))
        if replaced:
            change(step, {}, lambda part, replaced=replaced: replaced.get(id(part)))  # type: ignore[misc]
        made.append(step)
    return made


def _found(step: Step, loops: tuple[Axis, ...]) -> Iterator[tuple[Expression, Axis]]:
    """The largest expensive parts along one axis alone, which is not the outermost of several."""
    seen: set[int] = set()
    for root in expressions(step):
        waiting = [root]
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            axis = next(iter(value.axes)) if len(value.axes) == 1 else None
            if axis is not None and axis in loops[1:] and len(loops) > 1 and _is_expensive(value):
                yield value, axis
            elif value.axes:
                waiting += children(value)


def _is_expensive(value: Expression) -> bool:
    return not _uses(value, "result") and any(_uses(value, op) for op in EXPENSIVE)


def _uses(value: Expression, op: str) -> bool:
    return value.op == op or any(_uses(child, op) for child in children(value))


def _table(
    value: Expression,
    axis: Axis,
    step: Step,
    known: dict[int, tuple[Axis, Buffer]],
    made: list[Step],
    workspace: Callable[[str, Sequence[Index], str], Buffer],
) -> Buffer:
    own = Axis(axis.name, axis.extent)
    content = substituted(value, {axis: Index.of(own)})
    for other, buffer in known.values():
        if other.extent == axis.extent and known.get(id(substituted(value, {axis: Index.of(other)}))) == (other, buffer):
            return buffer
    from kevolve.operators.lowering.expression import called

    name = called(value) or f"{axis.name}_table"
    buffer = workspace(name, [axis.extent], value.dtype)
    made.append(Step(name, "map", (own,), value.dtype, stores=[Store(buffer, Index.of(own), content)], lines=step.lines))
    known[id(content)] = (own, buffer)
    return buffer
