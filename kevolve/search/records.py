"""What the store keeps of a search besides its nodes, and what the loop asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, Unpack

from kevolve.evaluate.outcome import Outcome
from kevolve.search.node import Node, Proposal
from kevolve.search.step import Step

State: TypeAlias = Literal["asked", "proposed", "done", "dropped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """One search of a run for one spec on one target. ``ended``: None while it runs, and for ever after a kill until it is resumed.

    ``about``: what a search for another spec must know to begin from this one's kernels (``kevolve.search.warm``). ``seconds``: wall clock
    spent so far, over all its processes.
    """

    id: int
    run: int
    spec: str
    spec_hash: str
    target: str
    policy: str
    seed: int
    about: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    started: str = ""
    ended: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A step as it is kept. ``step`` is the policy's, its operator chosen; ``decision``: what the policy saw.

    ``asked``: its operator has been asked; ``proposed``: there is ``proposal``, to be evaluated; ``done``: ``node`` says what came of it;
    ``dropped``: the search ended before. ``proposal`` is read only of steps without a node. ``proposed`` and ``done``: when the search
    heard, counted over everything that it heard of.
    """

    search: int
    step: Step
    state: State
    decision: Mapping[str, Any] = field(default_factory=dict)
    proposal: Proposal | None = None
    node: int | None = None
    proposed: int | None = None
    done: int | None = None

    @property
    def number(self) -> int:
        """The step's number within its search."""
        return self.step.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Which step a node completes: the ``event``-th thing the search heard of, after ``seconds`` of it."""

    search: int
    number: int
    event: int
    seconds: float


class Done(TypedDict):
    """A completed step, as it becomes a ``Node``; see there."""

    run: int
    spec: str
    spec_hash: str
    target: str
    proposal: Proposal
    normal_hash: str
    outcome: Outcome
    fitness: float
    seconds: float


class SearchStore(Protocol):
    """What the loop needs of ``kevolve.store.graph_store.GraphStore``."""

    def nodes(self, spec: str, target: str, *, spec_hash: str | None = None) -> list[Node]:
        """The nodes of a spec and target, of one version of the spec or of all."""
        ...

    def begin(
        self, *, run: int, spec: str, spec_hash: str, target: str, policy: str, seed: int, about: Mapping[str, Any] | None = None
    ) -> tuple[SearchRecord, Sequence[StepRecord]]:
        """Begin a search, or take up the one that was killed, with its steps; nobody else takes it until ``release``."""
        ...

    def take(self, search: int, records: Sequence[StepRecord]) -> None:
        """Keep steps that are about to be taken, in one transaction."""
        ...

    def propose(self, search: int, number: int, proposal: Proposal, event: int) -> None:
        """Keep the candidate of a step that was asked for."""
        ...

    def add(self, *, decision: Mapping[str, Any] | None = None, completes: Completion | None = None, **done: Unpack[Done]) -> Node:
        """Insert one completed step in one transaction."""
        ...

    def end(self, search: int, reason: str, seconds: float) -> None:
        """A search is over: what was not completed is dropped."""
        ...

    def release(self, search: int) -> None:
        """Let another process take up the search, where it has not ended."""
        ...
