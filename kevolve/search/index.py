"""What policies count over a graph, brought up to date with every node: a decision must not cost a walk over ten thousand."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from kevolve.evaluate.outcome import Status

if TYPE_CHECKING:
    from kevolve.search.node import Node
    from kevolve.search.step import ArmKey

T = TypeVar("T")

FADING = 0.9  # what a gain counts for after each further step of its arm: a neighbourhood is exhausted in the end
TUNING = "tuning"
REPAIRS = 3  # failures in a row from which nobody goes on


@dataclass(slots=True)
class Tally:
    """What an arm gave: steps, log gains and costs, older ones fading."""

    steps: float = 0.0
    gain: float = 0.0
    cost: float = 0.0

    def add(self, gain: float, cost: float) -> None:
        """One more step."""
        self.steps = FADING * self.steps + 1.0
        self.gain = FADING * self.gain + gain
        self.cost = FADING * self.cost + cost


class Index:
    """Counts over nodes in the order of their completion. ``add`` costs what the node's own parents cost, not the graph."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.by_id: dict[int, Node] = {}
        self.children: dict[int, list[Node]] = {}
        self.order: list[Node] = []
        self.drafts = 0  # begun without a parent, duplicates not among them
        self.arms: dict[ArmKey, Tally] = {}
        self.memories: dict[str, Tally] = {}
        self.tuned: dict[int, int] = {}  # steps of tuning by the node they began from
        self.broken: dict[int, Node] = {}  # a model's failures that nobody has tried to repair
        self.reached = 0.0  # the best fitness
        self._ranked: list[tuple[float, int, int]] = []  # (-fitness, children, id) of those that can be expanded, ascending
        self._failing: dict[int, int] = {}  # failures in a row up to and with this node
        self._views: dict[type[object], object] = {}
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Count one more completed node."""
        self.by_id[node.id] = node
        self.order.append(node)
        parents = dict.fromkeys(node.proposal.parents)
        for parent in parents:
            self._bear(parent, node)
            self.broken.pop(parent, None)
        self.drafts += not parents and not node.repeats
        self._tally(node)
        if node.works and not node.repeats:
            bisect.insort(self._ranked, (-node.fitness, 0, node.id))
            self.reached = max(self.reached, node.fitness)
        if not node.works and node.proposal.model and node.outcome.status is not Status.NO_CANDIDATE and not node.repeats:
            self._failing[node.id] = 1 + max((self._failing.get(parent, 0) for parent in parents), default=0)
            if self._failing[node.id] < REPAIRS:
                self.broken[node.id] = node

    def view(self, kind: type[T]) -> T:
        """What a policy counts for itself, made once: its own ``follow`` brings it up to date with ``order``."""
        if kind not in self._views:
            self._views[kind] = kind()
        return cast("T", self._views[kind])

    @property
    def fittest(self) -> Node | None:
        """The best node that can be expanded; of equals the one with the fewest children, then the earliest."""
        return self.by_id[self._ranked[0][-1]] if self._ranked else None

    def by_promise(self) -> Iterator[Node]:
        """Those that can be expanded, in the order that begins with ``fittest``."""
        return (self.by_id[number] for *_, number in self._ranked)

    def gain(self, node: Node) -> float:
        """The log of what a node, not counted yet, gained over its best parent (a draft: over the best so far, or over 1)."""
        if not node.works or node.fitness <= 0 or node.repeats:
            return 0.0
        known = [self.by_id[parent].fitness for parent in node.proposal.parents if parent in self.by_id]
        before = max(known, default=0.0) or self.reached or 1.0
        return max(0.0, math.log(node.fitness / before))

    def _bear(self, parent: int, child: Node) -> None:
        """One more child: among equals its parent comes later."""
        siblings = self.children.setdefault(parent, [])
        known = self.by_id.get(parent)
        if known is not None and known.works and not known.repeats:
            place = bisect.bisect_left(self._ranked, (-known.fitness, len(siblings), parent))
            del self._ranked[place]
            bisect.insort(self._ranked, (-known.fitness, len(siblings) + 1, parent))
        siblings.append(child)

    def _tally(self, node: Node) -> None:
        """A step costs its share of what is limited: one evaluation, and minutes."""
        proposal = node.proposal
        gain, cost = self.gain(node), 1.0 + (node.seconds + proposal.seconds) / 60
        self.arms.setdefault((proposal.operator, proposal.model), Tally()).add(gain, cost)
        if proposal.parents and proposal.operator == TUNING:
            self.tuned[proposal.parents[0]] = self.tuned.get(proposal.parents[0], 0) + 1
        if proposal.model:
            self.memories.setdefault(proposal.memory, Tally()).add(gain, cost)
