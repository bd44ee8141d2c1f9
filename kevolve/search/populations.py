"""Which island a node lives on: that of its first parent; a draft founds by its step's number. Derived from the graph alone."""

from __future__ import annotations

import bisect

from kevolve.search.index import Index
from kevolve.search.node import Node

ISLANDS = 4


class Populations:
    """The working nodes of each island, the fittest first; follows an index."""

    def __init__(self) -> None:
        self.ranked: list[list[tuple[float, int]]] = [[] for _ in range(ISLANDS)]  # (-fitness, id)
        self.founded = [0] * ISLANDS  # drafts
        self._island: dict[int, int] = {}
        self._seen = 0

    def follow(self, index: Index) -> Populations:
        """Count what the index has more."""
        for node in index.order[self._seen :]:
            self._add(node)
        self._seen = len(index.order)
        return self

    def island(self, node_id: int) -> int:
        """Where a node lives."""
        return self._island[node_id]

    def _add(self, node: Node) -> None:
        parents = [self._island[parent] for parent in node.proposal.parents if parent in self._island]
        island = parents[0] if parents else (node.step or node.id) % ISLANDS
        self._island[node.id] = island
        self.founded[island] += not node.proposal.parents and not node.repeats
        if node.works and not node.repeats:
            bisect.insort(self.ranked[island], (-node.fitness, node.id))
