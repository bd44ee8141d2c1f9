"""Best first: work from the fittest node that still has something to give, after a short draft phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kevolve.evaluate.outcome import Stage
from kevolve.search.node import Graph, Node
from kevolve.search.policies import Step

DRAFTS = 10  # KernelEvolve, section "The search": about ten independent samples before expansion


class BestFirst:
    """Drafts until there are ten, then the fittest working nodes in order; a draft again once nothing can be expanded.

    The steps are ordered by preference: where the first yields no proposal the next is taken. With equal fitness (nothing can be timed)
    the node expanded least often comes first.
    """

    def __init__(self, *, drafts: int = DRAFTS) -> None:
        self._drafts = drafts

    def ask(self, graph: Graph, count: int, pending: Sequence[Step]) -> list[Step]:
        """At most ``count`` steps in order of preference, none of them pending."""
        draft = Step(parents=(), memory="restart" if graph.nodes else "parent")
        begun = sum(1 for node in graph.nodes if not node.proposal.parents and node.outcome.stage is not Stage.DUPLICATE)
        expansions = [Step(parents=(node.id,)) for node in _by_promise(graph)]
        steps = [draft, *expansions] if begun < self._drafts else [*expansions, draft]
        taken = {step.parents for step in pending}
        return [step for step in steps if step.parents not in taken][:count]


def _by_promise(graph: Graph) -> list[Node]:
    children = Counter(parent for node in graph.nodes for parent in node.proposal.parents)
    working = [node for node in graph.nodes if node.works and node.outcome.stage is not Stage.DUPLICATE]
    return sorted(working, key=lambda node: (-node.fitness, children[node.id], node.id))
