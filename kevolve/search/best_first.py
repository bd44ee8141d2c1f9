"""Best first: work from the fittest node that still has something to give, after a short draft phase."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from kevolve.search.bandit import memory
from kevolve.search.node import Graph
from kevolve.search.policies import DRAFTS, Step, draft, drafting, repair, withheld


class BestFirst:
    """Drafts until there are ten, then the fittest working nodes in order; a draft again once nothing can be expanded.

    The steps are ordered by preference: where the first yields no proposal the next is taken. With equal fitness (nothing can be timed)
    the node expanded least often comes first. Several steps under way are on several nodes.
    """

    def __init__(self, *, drafts: int = DRAFTS) -> None:
        self._drafts = drafts

    def ask(self, graph: Graph, count: int, pending: Sequence[Step]) -> list[Step]:
        """At most ``count`` steps in order of preference, none of them pending."""
        return list(islice(self._steps(graph, pending), count))

    def _steps(self, graph: Graph, pending: Sequence[Step]) -> Iterator[Step]:
        free = () not in withheld(graph, pending)
        first = drafting(graph, pending, self._drafts)
        if free and first:
            yield draft(graph)
        elif (mended := repair(graph, pending)) is not None:
            yield mended
        taken = {step.parents for step in (*pending, *graph.around.exhausted)}
        for node in graph.index.by_promise():
            if (node.id,) not in taken:
                yield Step(parents=(node.id,), memory=memory(graph, node))
        if free and not first:
            yield draft(graph)
