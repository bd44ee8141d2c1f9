"""The search graph's values: immutable nodes, the edges their parents make, and a view over many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kevolve.evaluate.outcome import Outcome, Status
from kevolve.models import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that an operator proposes: a whole source file and where it came from.

    ``problem``: why there is no candidate (an edit that does not apply, a reply without a kernel, a model that failed): the step is kept
    all the same, with what it cost, and told to the next. ``source`` is then what the reply held, perhaps nothing.
    ``predicted_gain``: the fitness its author expects, as a factor of the best parent's.
    ``transcript``: the exchange that led here as JSON (prompt, replies, tools), for whoever asks; kept as an artifact.
    """

    language: str
    source: str
    operator: str
    idea: str  # one line for the header, the log and the graph
    parents: tuple[int, ...] = ()
    family: str = ""  # the sample or structure that `knobs` belong to
    knobs: Mapping[str, Any] = field(default_factory=dict)
    memory: str = "parent"  # parent | siblings | both | restart
    model: str = ""  # who wrote it, as the user names models; empty: no model
    hypothesis: str = ""  # why it should be faster, in its author's words
    predicted_gain: float | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0  # proposing it, waiting for the model included
    transcript: str = ""
    problem: str = ""


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
