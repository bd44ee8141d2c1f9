"""What a search knows of itself: its nodes, what was tried, the best, and what it has cost. All of it follows from the store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from kevolve.evaluate.outcome import Status
from kevolve.models import Usage
from kevolve.search.budget import IMPROVEMENT
from kevolve.search.index import Index
from kevolve.search.node import Graph, Node, Proposal, failure_of
from kevolve.search.step import Around

FAILURES = 3  # of a model in a row, after which it is not asked again
HOPELESS = ("auth",)  # failures that the next request will meet too

Text: TypeAlias = tuple[str, str]  # language, address of the source


def address(source: str) -> str:
    """The content address of a source."""
    return hashlib.sha256(source.encode()).hexdigest()


def text_of(proposal: Proposal) -> Text:
    """What makes two candidates exact copies."""
    return proposal.language, address(proposal.source)


class Ledger:
    """The nodes of one spec and target with what is counted over them. ``mine``: ids of the nodes that this search made already."""

    def __init__(self, nodes: Iterable[Node], mine: Iterable[int] = ()) -> None:
        self.nodes: list[Node] = []
        self.index = Index()
        self.best: Node | None = None
        self.evaluations = 0
        self.since_improvement = 0
        self.usage = Usage()
        self.stopped: dict[str, str] = {}  # models that are not asked again, and why
        self.by_hash: dict[str, Node] = {}
        self.texts: set[Text] = set()
        self._failures: Counter[str] = Counter()
        own = frozenset(mine)
        for node in nodes:
            self.add(node, mine=node.id in own)

    def add(self, node: Node, *, mine: bool = True) -> None:
        """One more node; ``mine``: of this search, not of an earlier one."""
        self.nodes.append(node)
        self.index.add(node)
        if node.outcome.status is not Status.NO_CANDIDATE:
            self._decide(node)
        if mine:
            self._count(node)
        if node.works and not node.repeats and (self.best is None or node.fitness > self.best.fitness):
            self.best = node

    def graph(self, around: Around | None = None, *, shared: bool = True) -> Graph:
        """The nodes so far. ``shared``: with the index that grows with the search, for the loop's own thread only."""
        return Graph(tuple(self.nodes), around or Around(), [self.index] if shared else [])

    def twice(self, languages: Sequence[str], most: int) -> list[Node]:
        """The first candidates that ran out of time in one earlier run and in no other: the machine may have been busy."""
        tried = Counter(node.normal_hash for node in self.nodes if not node.repeats)
        again = [node for node in self.by_hash.values() if node.outcome.status is Status.TIMEOUT and tried[node.normal_hash] == 1]
        return [node for node in again if node.proposal.language in languages][:most]

    @property
    def reached(self) -> float:
        """The best fitness, or 0."""
        return self.best.fitness if self.best is not None else 0.0

    def _decide(self, node: Node) -> None:
        """The node that decides a normalised source: the first, unless it ran out of time and a later one did not."""
        known = self.by_hash.get(node.normal_hash)
        if known is None or (known.outcome.status is Status.TIMEOUT and not node.repeats):
            self.by_hash[node.normal_hash] = node
        self.texts.add((node.proposal.language, node.source_hash))

    def _count(self, node: Node) -> None:
        model = node.proposal.model
        self.usage += node.proposal.usage
        if node.proposal.undrafted or (node.repeats and not model):
            return
        self.evaluations += 1
        better = node.works and not node.repeats and (self.best is None or node.fitness > self.reached * IMPROVEMENT)
        self.since_improvement = 0 if better else self.since_improvement + 1
        if model:
            self._watch(model, node.proposal)

    def _watch(self, model: str, proposal: Proposal) -> None:
        """A model that fails for good, or again and again, is not asked any more: its failures would spend the budget."""
        kind = failure_of(proposal.problem)
        self._failures[model] = self._failures[model] + 1 if kind else 0
        if kind in HOPELESS or self._failures[model] >= FAILURES:
            times = "" if kind in HOPELESS else f" {FAILURES} times in a row, at last"
            self.stopped[model] = f"{model} is not asked any more:{times} {proposal.problem.splitlines()[0]}"
