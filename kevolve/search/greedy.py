"""Greedy: always the fittest node (KernelEvolve's argmax of the fitness), after the draft phase."""

from __future__ import annotations

from collections.abc import Sequence

from kevolve.search.bandit import memory
from kevolve.search.node import Graph
from kevolve.search.policies import DRAFTS, Step, draft, drafting, repair, withheld


class Greedy:
    """The fittest node, however many steps from it are under way; the next fittest only where it has nothing left to give."""

    def __init__(self, *, drafts: int = DRAFTS) -> None:
        self._drafts = drafts

    def ask(self, graph: Graph, count: int, pending: Sequence[Step]) -> list[Step]:
        """One step: the best is one node."""
        blocked = withheld(graph, pending)
        if drafting(graph, pending, self._drafts):
            return [draft(graph)][:count]
        if graph.index.fittest is None and (mended := repair(graph, pending)) is not None:
            return [mended][:count]
        for node in graph.index.by_promise():
            if (node.id,) not in blocked:
                return [Step(parents=(node.id,), memory=memory(graph, node))][:count]
        return [] if () in blocked else [draft(graph)][:count]
