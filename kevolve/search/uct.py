"""Monte Carlo tree search: a walk from the root to the node to expand, by upper confidence bounds (UCT; Kocsis and Szepesvári, 2006).

An expansion makes a new child, so a node's moves are not known beforehand: it may have about ``WIDENING * sqrt(visits)`` children
(progressive widening) before the walk must go down into one of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from kevolve.search.bandit import memory
from kevolve.search.node import Graph
from kevolve.search.policies import DRAFTS, Step, draft, drafting, repair, withheld
from kevolve.search.visits import ROOT, Visits

EXPLORATION = 0.7  # of a worth between 0 and 1; sqrt(2) is for worths that are noise, these are measured
WIDENING = 1.0


class UCT:
    """Visits are counted from descendants, failures among them; a step under way counts as a visit that was worth nothing."""

    def __init__(self, *, drafts: int = DRAFTS) -> None:
        self._drafts = drafts

    def ask(self, graph: Graph, count: int, pending: Sequence[Step]) -> list[Step]:
        """At most ``count`` steps, each as if those before it were under way."""
        graph.index.view(Visits).follow(graph.index)
        found: list[Step] = []
        while len(found) < count and (step := self._next(graph, [*pending, *found], found)) is not None:
            found.append(step)
        return found

    def _next(self, graph: Graph, under_way: Sequence[Step], found: Sequence[Step]) -> Step | None:
        blocked = withheld(graph, under_way)
        if drafting(graph, under_way, self._drafts):
            return draft(graph)
        if not found and (mended := repair(graph, under_way)) is not None:
            return mended
        chosen = _Walk(graph, under_way, blocked).down()
        if chosen is None:
            return None
        return draft(graph) if chosen == ROOT else Step(parents=(chosen,), memory=memory(graph, graph.index.by_id[chosen]))


class _Walk:
    """One walk down a graph's tree."""

    def __init__(self, graph: Graph, under_way: Sequence[Step], blocked: frozenset[tuple[int, ...]]) -> None:
        self._index = graph.index
        self._tree = graph.index.view(Visits)
        self._blocked = blocked
        self._loss: Counter[int] = Counter()
        for step in under_way:
            self._lose(step.parents[0] if step.parents and step.parents[0] in self._tree.parent else ROOT)

    def down(self) -> int | None:
        """The node to expand, ``ROOT`` for a draft, or None where nobody has anything left.

        The walk goes back up where everything below is exhausted.
        """
        closed: set[int] = set()
        path = [ROOT]
        while path:
            place = path[-1]
            if self._open(place) and self._widens(place):
                return place
            if children := self._children(place, closed):
                path.append(max(children, key=lambda child: (self._bound(place, child), -child)))
            elif self._open(place):
                return place
            else:
                closed.add(path.pop())
        return None

    def _children(self, place: int, closed: set[int]) -> list[int]:
        """The children that may be gone down into: of those never expanded the fittest that nothing is under way from."""
        found = [child for child in self._tree.inner(place) if child not in closed and self._tree.working[child]]
        for child in self._tree.leaves(place):
            if child not in closed:
                found.append(child)
                if not self._loss[child]:
                    break
        return found

    def _open(self, place: int) -> bool:
        """Whether the node itself can be expanded now."""
        if place == ROOT:
            return () not in self._blocked
        node = self._index.by_id[place]
        return node.works and not node.repeats and (place,) not in self._blocked

    def _widens(self, place: int) -> bool:
        return self._tree.below[place] < WIDENING * math.sqrt(self._tree.visits[place] + self._loss[place])

    def _bound(self, place: int, child: int) -> float:
        visits = self._tree.visits[child]
        tried = visits + self._loss[child]
        worth = self._tree.mean(child) * visits / tried
        return worth + EXPLORATION * math.sqrt(math.log(self._tree.visits[place] + self._loss[place] + 1) / tried)

    def _lose(self, place: int) -> None:
        while place != ROOT:
            self._loss[place] += 1
            place = self._tree.parent[place]
        self._loss[ROOT] += 1
