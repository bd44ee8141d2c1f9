"""The search graph's values: immutable nodes, the edges their parents make, and a view over many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kevolve.evaluate.outcome import Outcome, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that an operator proposes: a whole source file and where it came from."""

    language: str
    source: str
    operator: str
    idea: str  # one line for the header, the log and the graph
    parents: tuple[int, ...] = ()
    family: str = ""  # the sample or structure that `knobs` belong to
    knobs: Mapping[str, Any] = field(default_factory=dict)
    memory: str = "parent"  # parent | siblings | both | restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One completed step: a proposal, its outcome and its fitness. Failures are nodes too.

    ``fitness``: geometric mean over cases of the paired speedup over the first baseline; 0 on any failure.
    ``source_hash``: the artifact's content address; ``normal_hash``: of the normalised source (duplicates).
    """

    id: int
    run: int
    spec: str
    spec_hash: str
    target: str
    proposal: Proposal
    source_hash: str
    normal_hash: str
    outcome: Outcome
    fitness: float
    seconds: float
    created: str  # ISO 8601, UTC

    @property
    def works(self) -> bool:
        """Whether it is correct and was timed, or is correct where nothing can be timed."""
        return self.outcome.status in (Status.PASSED, Status.TOO_SLOW, Status.NOT_MEASURED)


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes of one spec and target, in the order they were completed."""

    nodes: tuple[Node, ...] = ()

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Graph:
        """A graph over ``nodes``, sorted by id."""
        return cls(tuple(sorted(nodes, key=lambda node: node.id)))

    def best(self, language: str | None = None) -> Node | None:
        """The fittest working node, the earliest of equals."""
        working = [node for node in self.nodes if node.works and language in (None, node.proposal.language)]
        return max(working, key=lambda node: (node.fitness, -node.id), default=None)

    def children(self, node_id: int) -> tuple[Node, ...]:
        """The nodes that name ``node_id`` as a parent."""
        return tuple(node for node in self.nodes if node_id in node.proposal.parents)

    def normal_hashes(self) -> frozenset[str]:
        """What has been tried, to refuse duplicates."""
        return frozenset(node.normal_hash for node in self.nodes)
