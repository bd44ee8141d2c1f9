"""Selection policies: which nodes to work from next. Stateless over the graph, registered under ``kevolve.policies``.

What they share: a draft phase of about ten independent samples (KernelEvolve, section "The search"), then expansion; and the repair of a
model's failures, which only a model can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kevolve.search.node import Graph, Node
from kevolve.search.step import Step

__all__ = ["DRAFTS", "Policy", "Step", "draft", "drafting", "repair", "withheld"]

DRAFTS = 10
DRAFTED, FEWEST = 1 / 4, 2  # of a search's evaluations, with a model
REPAIRED = 1 / 3  # of the steps, where a failure waits to be repaired and other nodes work


class Policy(Protocol):
    """Ask/tell: telling is the graph's growth, so a policy keeps no state of its own."""

    def ask(self, graph: Graph, count: int, pending: Sequence[Step]) -> list[Step]:
        """At most ``count`` steps in order of preference, knowing those already under way. Chance comes from ``graph.around``."""
        ...


def draft(graph: Graph) -> Step:
    """An independent sample: once there are nodes, a restart that remembers nothing of them."""
    return Step(parents=(), memory="restart" if graph.nodes else "parent")


def drafting(graph: Graph, pending: Sequence[Step], drafts: int = DRAFTS) -> bool:
    """Whether the draft phase goes on: fewer begun or under way than ``drafts``, and somebody still has one.

    Models' drafts are dear: a short search keeps most of its steps for what follows from them.
    """
    if graph.around.with_model and graph.around.evaluations is not None:
        drafts = min(drafts, max(FEWEST, int(graph.around.evaluations * DRAFTED)))
    begun = graph.index.drafts + sum(1 for step in pending if not step.parents)
    return begun < drafts and () not in withheld(graph, pending)


def withheld(graph: Graph, pending: Sequence[Step]) -> frozenset[tuple[int, ...]]:
    """The parents not to work from now: nobody has a proposal, or one without a model is under way, which would be the same again.

    Where a model can be asked, it has another: evaluating the first may take minutes (elsewhere, hours).
    """
    same = (step.parents for step in pending if not step.model and not graph.around.with_model)
    return frozenset((*(step.parents for step in graph.around.exhausted), *same))


def repair(graph: Graph, pending: Sequence[Step]) -> Step | None:
    """A model's failure to mend: always where nothing works, else now and then; the latest first."""
    around, index = graph.around, graph.index
    if not (around.with_model and index.broken):
        return None
    if index.fittest is not None and around.random("repair").random() >= REPAIRED:
        return None
    taken = {parent for step in (*pending, *around.exhausted) for parent in step.parents}
    waiting: Node | None = next((node for number, node in reversed(index.broken.items()) if number not in taken), None)
    return None if waiting is None else Step(parents=(waiting.id,))
