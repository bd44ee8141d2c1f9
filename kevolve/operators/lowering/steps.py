"""What steps read and write, and how to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kevolve.operators.lowering.expression import Buffer, Expression, as_index, rewritten, sorted_reads, visit
from kevolve.operators.lowering.index import Axis, Index, Read
from kevolve.operators.lowering.program import Step


def expressions(step: Step) -> list[Expression]:
    """All that a step computes."""
    found = [part for part in (step.body, step.first, step.second) if part is not None]
    for store in step.stores:
        found += [store.value, *([store.condition] if store.condition is not None else [])]
    return found


def parts(step: Step) -> list[Expression]:
    """Every expression in a step once, those inside the places of its stores too."""
    seen: set[int] = set()
    found: list[Expression] = []
    for expression in expressions(step):
        found += visit(expression, seen)
    for store in step.stores:
        for read in sorted_reads(store.place):
            found += visit(read.value, seen)
    return found


def results(step: Step) -> list[tuple[Step, tuple[Index, ...]]]:
    """Which steps' results it uses, and where."""
    return [part.value for part in parts(step) if part.op == "result"]


def loaded(step: Step) -> set[Buffer]:
    """The memory that it reads."""
    found = {part.value[0] for part in parts(step) if part.op in ("load", "search")}
    return found | set(step.operands)


def written(step: Step) -> set[Buffer]:
    """The memory that it writes."""
    return {store.buffer for store in step.stores} | set(step.results) | ({step.buffer} if step.buffer else set())


def change(step: Step, axes: Mapping[Axis, Index], rewrite: Callable[[Expression], Expression | None] = lambda _: None) -> None:
    """Replace axes in all that a step computes."""

    def of(value: Expression | None) -> Expression | None:
        return None if value is None else rewritten(value, rewrite, axes)

    def atom(found: Any) -> Index | None:
        if isinstance(found, Axis):
            return axes.get(found)
        if isinstance(found, Read):
            return as_index(rewritten(found.value, rewrite, axes))
        return None

    step.body, step.first, step.second = of(step.body), of(step.first), of(step.second)
    for store in step.stores:
        store.value, store.condition = rewritten(store.value, rewrite, axes), of(store.condition)
        store.place = store.place.replaced(atom)


def indices(value: Any) -> Iterator[Index]:
    """The indices in what an expression holds."""
    if isinstance(value, Index):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from indices(item)
