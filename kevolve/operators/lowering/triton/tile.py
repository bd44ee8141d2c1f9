"""Axes gathered into the sides of a tile: each side is one flat axis, cut into blocks, from which the reference's own are worked out.

What is contiguous in memory stays one product: ``row * cols + col`` of a flat axis ``place`` is ``place`` again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kevolve.operators.lowering.expression import Expression, as_index, call, called, make, place, visit
from kevolve.operators.lowering.index import Atom, Axis, Bounded, Index, Quotient, Read, Remainder, bounded

Run = tuple[int, int]  # of a group's axes: from, up to and with


def product(indices: Iterable[Index]) -> Index:
    """The product of extents."""
    result = Index.of(1)
    for index in indices:
        result = result * index
    return result


@dataclass(eq=False, slots=True)
class Group:
    """Axes as one, ``flat``; ``runs``: the axes made of neighbours of them that were asked for."""

    axes: tuple[Axis, ...]
    flat: Axis
    runs: dict[Run, Axis] = field(default_factory=dict)

    @staticmethod
    def of(axes: Sequence[Axis], name: str) -> Group:
        """A group; of one axis it is that. Axes of one place are left out."""
        axes = [axis for axis in axes if axis.extent.number != 1] or axes[:1]
        flat = axes[0] if len(axes) == 1 else Axis(name, product(axis.extent for axis in axes))
        return Group(tuple(axes), flat)

    def run(self, first: int, last: int) -> Axis:
        """The axis that is made of a run."""
        if (first, last) == (0, len(self.axes) - 1):
            return self.flat
        if (first, last) not in self.runs:
            part = self.axes[first : last + 1]
            self.runs[first, last] = Axis("_".join(axis.name for axis in part), product(axis.extent for axis in part))
        return self.runs[first, last]

    def derived(self) -> list[tuple[Axis, Index]]:
        """The axes in use other than ``flat``, each with what it is: ``row // heads % batch``."""
        found = []
        for (first, last), axis in sorted(self.runs.items()):
            behind = product(each.extent for each in self.axes[last + 1 :])
            index = Index.of(self.flat) if behind.number == 1 else Index.of(Quotient(Index.of(self.flat), behind))
            found.append((axis, index if first == 0 else Index.of(Remainder(index, axis.extent))))
        return found

    def whole(self) -> bool:
        """Whether only ``flat`` is in use."""
        return not self.runs


class Regrouping:
    """Rewrites expressions and indices of a kernel in terms of its groups."""

    def __init__(self, groups: Sequence[Group], axes: dict[Axis, Axis] | None = None) -> None:
        self._groups = groups
        self._of = {axis: (group, number) for group in groups for number, axis in enumerate(group.axes)}
        self._same = axes or {}
        self._known: dict[int, Expression] = {}

    def expression(self, value: Expression) -> Expression:
        """An expression in flat axes."""
        if id(value) not in self._known:
            self._known[id(value)] = made = self._made(value)
            name = called(value)
            if name is not None:
                call(made, name)
        return self._known[id(value)]

    def _made(self, value: Expression) -> Expression:
        if value.op == "place":
            return place(self.index(value.value))
        content = self._result(*value.value) if value.op == "result" else self._inner(value.value)
        return make(value.op, value.dtype, tuple(map(self.expression, value.arguments)), content)

    def _result(self, step: Any, places: tuple[Index, ...]) -> tuple[Any, tuple[Index, ...]]:
        """A result has a variable for the whole tile: all that is asked is along which sides it varies."""
        axes = {axis for place in places for axis in place.axes}
        return step, tuple(Index.of(group.flat) for group in self._groups if axes & set(group.axes))

    def _inner(self, content: Any) -> Any:
        if isinstance(content, Index):
            return self.index(content)
        return tuple(map(self._inner, content)) if isinstance(content, tuple) else content

    def index(self, index: Index) -> Index:
        """An index in flat axes: what goes through neighbouring axes without a gap goes through their run."""
        index = index.replaced(self._atom)
        for group in self._groups:
            index = self._collapsed(index, group)
        return index.replaced(lambda atom: self._alone(atom) if isinstance(atom, Axis) else None)

    def _atom(self, atom: Atom) -> Index | None:
        if isinstance(atom, Axis) and atom in self._same:
            return Index.of(self._same[atom])
        if isinstance(atom, Axis) and atom.extent.number == 1 and atom not in self._of:
            return Index.of(0)
        if isinstance(atom, Read):
            return as_index(self.expression(atom.value))
        if isinstance(atom, Quotient):
            return self.index(atom.above) // self.index(atom.below)
        if isinstance(atom, Remainder):
            return self.index(atom.above) % self.index(atom.below)
        if isinstance(atom, Bounded):
            return bounded(self.index(atom.first), self.index(atom.second), largest=atom.largest)
        return None

    def _alone(self, axis: Axis) -> Index | None:
        if axis not in self._of:
            return None
        group, number = self._of[axis]
        return Index.of(group.run(number, number))

    def _collapsed(self, index: Index, group: Group) -> Index:
        steps = [index.coefficient(axis) for axis in group.axes]
        first = 0
        while first < len(steps):
            last = first
            while last + 1 < len(steps) and _continues(steps[last], steps[last + 1], group.axes[last + 1]):
                last += 1
            if last > first and (inner := steps[last]) is not None:
                for number in range(first, last + 1):
                    index = index - (steps[number] or Index.of(0)) * group.axes[number]
                index = index + inner * group.run(first, last)
            first = last + 1
        return index


def _continues(outer: Index | None, inner: Index | None, axis: Axis) -> bool:
    return outer is not None and inner is not None and bool(outer.terms) and outer == inner * axis.extent


def lanes(axes: Sequence[Axis], values: Sequence[Expression], places: Sequence[Index]) -> int:
    """How many of the last axes every index goes through as one, without a gap, or not at all; at least one."""
    for first in range(len(axes) - 1):
        group = Group.of(axes[first:], "lane")
        regrouping = Regrouping([group])
        for value in values:
            regrouping.expression(value)
        for index in places:
            regrouping.index(index)
        if group.whole():
            return len(axes) - first
    return min(1, len(axes))


def row_major(axes: Sequence[Axis]) -> Index:
    """The number of an element in the order of these axes."""
    number = Index.of(0)
    for axis in axes:
        number = number * axis.extent + axis
    return number


def reads(index: Index) -> list[Expression]:
    """The expressions that an index reads."""
    return [atom.value for atom in index.atoms if isinstance(atom, Read)]


def any_part(values: Iterable[Expression], holds: Callable[[Expression], bool]) -> bool:
    """Whether a part of the expressions is so."""
    seen: set[int] = set()
    return any(holds(part) for value in values for part in visit(value, seen))
