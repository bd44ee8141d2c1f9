"""The graph as the tree of first parents, with what a walk from its root counts: visits and worth of everything below a node."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator

from kevolve.search.index import Index
from kevolve.search.node import Node

ROOT = 0  # stands above all drafts; nodes are numbered from 1


class Visits:
    """Counts that follow an index: brought up to date from where they were, a node's ancestors at a time.

    A node's visits are itself and its descendants. Its worth is the sum of its working descendants' log fitness; failures add nothing.
    """

    def __init__(self) -> None:
        self.visits: dict[int, int] = {ROOT: 0}
        self.below: dict[int, int] = {ROOT: 0}  # children
        self.parent: dict[int, int] = {}
        self.working: dict[int, int] = {ROOT: 0}
        # Of ten thousand children most have none themselves, and of those only the fittest matters: a walk must not look at all.
        self._leaves: dict[int, list[tuple[float, int]]] = {ROOT: []}  # (-log fitness, id) of working children without children
        self._inner: dict[int, list[int]] = {ROOT: []}  # the other children
        self._log: dict[int, float] = {}  # of a working node itself
        self._logs: dict[int, float] = {ROOT: 0.0}  # of all that works below
        self._low, self._high = math.inf, -math.inf
        self._seen = 0

    def follow(self, index: Index) -> Visits:
        """Count what the index has more."""
        for node in index.order[self._seen :]:
            self._add(node, index)
        self._seen = len(index.order)
        return self

    def leaves(self, node_id: int) -> Iterator[int]:
        """The working children that have no children, the fittest first."""
        return (number for _, number in self._leaves[node_id])

    def inner(self, node_id: int) -> list[int]:
        """The children that have children."""
        return self._inner[node_id]

    def mean(self, node_id: int) -> float:
        """The mean worth of a visit below a node, between 0 (the worst that works, and failures) and 1 (the best)."""
        spread = self._high - self._low
        if not self.working[node_id]:
            return 0.0
        normalised = (self._logs[node_id] - self.working[node_id] * self._low) / spread if spread > 0 else float(self.working[node_id])
        return normalised / self.visits[node_id]

    def _add(self, node: Node, index: Index) -> None:
        above = next((parent for parent in node.proposal.parents if parent in index.by_id), ROOT)
        self.parent[node.id], self.below[node.id], self._leaves[node.id], self._inner[node.id] = above, 0, [], []
        self.below[above] += 1
        if above != ROOT and self.below[above] == 1:
            self._branch(above)
        works = node.works and not node.repeats
        log = math.log(node.fitness) if works and node.fitness > 0 else 0.0
        if works:
            self._low, self._high = min(self._low, log), max(self._high, log)
            bisect.insort(self._leaves[above], (-log, node.id))
            self._log[node.id] = log
        place: int | None = node.id
        while place is not None:
            self.visits[place] = self.visits.get(place, 0) + 1
            self.working[place] = self.working.get(place, 0) + works
            self._logs[place] = self._logs.get(place, 0.0) + log
            place = None if place == ROOT else self.parent[place]

    def _branch(self, node_id: int) -> None:
        """A node has its first child: it is no leaf any more."""
        above = self.parent[node_id]
        if node_id in self._log:
            leaves = self._leaves[above]
            del leaves[bisect.bisect_left(leaves, (-self._log[node_id], node_id))]
        self._inner[above].append(node_id)
