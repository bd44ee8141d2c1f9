"""The search graph's values: immutable nodes, the edges their parents make, and a view over many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search.index import Index
from kevolve.search.lazy import Text
from kevolve.search.step import Around

_FAILED = re.compile(r"model failed \(([a-z-]+)\): ")


@dataclass(frozen=True, kw_only=True)  # without slots: two of its fields are read lazily
class Proposal:
    """A candidate that an operator proposes: a whole source file and where it came from.

    ``problem``: why there is no candidate (an edit that does not apply, a reply without a kernel, a model that failed): the step is kept
    all the same, with what it cost, and told to the next. ``source`` is then what the reply held, perhaps nothing.
    ``predicted_gain``: the fitness its author expects, as a factor of the best parent's.
    ``transcript``: the exchange that led here as JSON (prompt, replies, tools), for whoever asks; kept as an artifact.
    """

    language: str
    source: Text = Text()  # noqa: RUF009 - a descriptor, shared by all instances as descriptors are
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
    transcript: Text = Text("")  # noqa: RUF009 - as above
    problem: str = ""

    @property
    def undrafted(self) -> bool:
        """Whether it only says why an operator without a model has no candidate: nothing was tried."""
        return bool(self.problem) and not self.model


def model_failed(kind: str, message: str) -> str:
    """The ``problem`` of a step whose model gave no reply."""
    return f"model failed ({kind}): {message}"


def failure_of(problem: str) -> str | None:
    """The kind of the model's failure that a ``problem`` tells of, or None."""
    found = _FAILED.match(problem)
    return found[1] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One completed step: a proposal, its outcome and its fitness. Failures are nodes too.

    ``fitness``: geometric mean over cases of the paired speedup over the first baseline; 0 on any failure.
    ``source_hash``: the artifact's content address; ``normal_hash``: of the normalised source (duplicates). ``seconds``: evaluating it.
    ``step``: its number within its search, 0 for nodes of older versions.
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
    step: int = 0

    @property
    def works(self) -> bool:
        """Whether it is correct and was timed, or is correct where nothing can be timed."""
        return self.outcome.status in (Status.PASSED, Status.TOO_SLOW, Status.NOT_MEASURED)

    @property
    def repeats(self) -> bool:
        """Whether it is a duplicate of an earlier node."""
        return self.outcome.stage is Stage.DUPLICATE


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes of one spec and target, in the order they were completed.

    ``around``: what a policy may know besides. The index is made when first asked for; the search hands its own in, which grows with it.
    """

    nodes: tuple[Node, ...] = ()
    around: Around = field(default_factory=Around)
    _index: list[Index] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Graph:
        """A graph over ``nodes``, sorted by id."""
        return cls(tuple(sorted(nodes, key=lambda node: node.id)))

    @property
    def index(self) -> Index:
        """What is counted over the nodes: children, ranks, gains."""
        if not self._index:
            self._index.append(Index(self.nodes))
        return self._index[0]

    def get(self, node_id: int) -> Node | None:
        """The node with this id."""
        return self.index.by_id.get(node_id)

    def best(self, language: str | None = None) -> Node | None:
        """The fittest working node, the earliest of equals."""
        working = [node for node in self.nodes if node.works and language in (None, node.proposal.language)]
        return max(working, key=lambda node: (node.fitness, -node.id), default=None)

    def children(self, node_id: int) -> tuple[Node, ...]:
        """The nodes that name ``node_id`` as a parent."""
        return tuple(self.index.children.get(node_id, ()))

    def normal_hashes(self) -> frozenset[str]:
        """What has been tried, to refuse duplicates."""
        return frozenset(node.normal_hash for node in self.nodes)
