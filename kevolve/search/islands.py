"""Evolution on islands: populations that breed among themselves, with a migrant now and then.

The island whose turn it is follows from the step's number, the island of a node from its first parent: nothing is remembered. Parents are
chosen by tournament among the best of their island; two of them where the step is a crossover.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from kevolve.search.bandit import memory
from kevolve.search.node import Graph
from kevolve.search.policies import DRAFTS, Step, draft, drafting, repair, withheld
from kevolve.search.populations import ISLANDS, Populations

POPULATION = 12  # the fittest of an island, that breed
TOURNAMENT = 3
CROSSOVER = 0.4  # of the steps
MIGRATION = 0.1  # of the steps: the second parent is a neighbouring island's best


class Islands:
    """Drafts found the islands; then each breeds in turn, an empty one by a draft of its own."""

    def __init__(self, *, drafts: int = DRAFTS) -> None:
        self._drafts = drafts

    def ask(self, graph: Graph, count: int, pending: Sequence[Step]) -> list[Step]:
        """At most ``count`` steps, of one island after the other."""
        populations = graph.index.view(Populations).follow(graph.index)
        if drafting(graph, pending, self._drafts):
            return [draft(graph)][:count]
        if (mended := repair(graph, pending)) is not None:
            return [mended][:count]
        blocked = withheld(graph, pending)
        number = graph.around.number + len(graph.around.exhausted)
        random = graph.around.random(f"islands {len(graph.around.exhausted)}")
        steps: list[Step] = []
        for turn in range(ISLANDS):
            step = _bred(graph, populations, (number + turn) % ISLANDS, blocked | {step.parents for step in steps}, random)
            if step is not None:
                steps.append(step)
        return steps[:count]


def _bred(graph: Graph, populations: Populations, island: int, blocked: frozenset[tuple[int, ...]], random: Random) -> Step | None:
    """One step of an island: two parents or one; a draft where it is empty; None where all that it has is exhausted."""
    best = [number for _, number in populations.ranked[island][:POPULATION]]
    if not best:
        return None if () in blocked else draft(graph)
    able = [number for number in best if (number,) not in blocked]
    if not able:
        return None
    first, other = _tournament(able, random), _other(best, populations.ranked[(island - 1) % ISLANDS], random)
    if graph.around.with_model and other is not None and other != first:  # without a model nobody would look at the second
        return Step(parents=(first, other), memory="both")
    return Step(parents=(first,), memory=memory(graph, graph.index.by_id[first]))


def _other(best: Sequence[int], neighbour: Sequence[tuple[float, int]], random: Random) -> int | None:
    """The second parent: now and then a migrant, often one of the same island, else none."""
    if random.random() < MIGRATION and neighbour:
        return neighbour[0][1]
    return _tournament(best, random) if random.random() < CROSSOVER else None


def _tournament(ranked: Sequence[int], random: Random) -> int:
    """The fittest of a few chosen at random; ``ranked`` has the fittest first."""
    return ranked[min(random.randrange(len(ranked)) for _ in range(TOURNAMENT))]
