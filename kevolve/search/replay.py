"""A recorded search told again: its operators and its evaluator answer from the store, in the order in which they once completed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kevolve.search.crew import Decided, Evaluated, Event, Numbered, Operation, Proposed
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.records import StepRecord
from kevolve.search.step import Step


class Diverged(Exception):
    """The replayed search asks for something that the recorded one did not; the message says for what, at which step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A search as it is stored: its steps and the nodes of its spec and target.

    ``earlier``: the new id of each node that was there before the search, where it is replayed into another store. ``reason``: why it
    ended; a search that its time ended is ended after the last thing that it heard of.
    """

    steps: Mapping[int, StepRecord]
    nodes: Mapping[int, Node]
    earlier: Mapping[int, int] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def of(
        cls, steps: Iterable[StepRecord], nodes: Iterable[Node], *, earlier: Mapping[int, int] | None = None, reason: str = ""
    ) -> Recording:
        """From what ``GraphStore.steps``, ``GraphStore.nodes`` and ``GraphStore.searches`` return."""
        known = {step.number: step for step in steps}
        return cls(steps=known, nodes={node.id: node for node in nodes}, earlier=dict(earlier or {}), reason=reason)

    @property
    def events(self) -> int:
        """How many things the search heard of."""
        return max((max(step.proposed or 0, step.done or 0) for step in self.steps.values()), default=0)

    def proposal(self, number: int) -> Proposal | None:
        """What was proposed in a step; None where the search ended before."""
        node = self.node(number)
        return self.steps[number].proposal if node is None else node.proposal

    def node(self, number: int) -> Node | None:
        """What came of a step; None where the search ended before."""
        done = self.steps[number].node
        return None if done is None else self.nodes[done]


class Recorded:
    """A crew that answers from a recording. ``clock`` is the search's: it stands still until the recording is at its end.

    Steps are told apart by their numbers; parents are nodes of the recorded graph, translated into those of the replayed one.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._waiting: dict[int, tuple[int, Event]] = {}  # by step: when it completed, and what the search then heard
        self._ids = dict(recording.earlier)  # recorded node -> replayed node
        self._seen = 0
        self._ended = False
        self._last = recording.events if recording.reason.endswith(" minutes") else None

    def clock(self) -> float:
        """Seconds: none, then more than any budget, for a search that was stopped by its time."""
        return 1e12 if self._ended else 0.0

    def answer(self, operation: Operation, graph: Graph, step: Step, count: int) -> Sequence[Proposal]:
        """What the operator answered then: the steps from ``step``'s number on that were asked for in the same way."""
        self._follow(graph)
        found: list[Proposal] = []
        while len(found) < count and self._same(step, step.number + len(found)):
            number = step.number + len(found)
            found.append(self._translated(number))
        return found

    def ask(self, operation: Operation, graph: Graph, step: Step) -> None:
        """Remember when the recorded step was answered."""
        self._follow(graph)
        if not self._same(step, step.number):
            raise Diverged(f"step {step.number}: expected {self._shown(step.number)}, the replayed search asks for {_shown(step)}")
        proposed = self._recording.steps[step.number].proposed
        if proposed is not None:
            self._waiting[step.number] = proposed, Proposed(number=step.number, proposal=self._translated(step.number))

    def evaluate(self, batch: Sequence[Numbered]) -> None:
        """Remember when the recorded candidates were decided."""
        for number, proposal in batch:
            node = self._recording.node(number) if number in self._recording.steps else None
            done = self._recording.steps[number].done if node is not None else None
            if node is None or done is None:
                continue  # the search ended before
            if node.proposal.source != proposal.source:
                raise Diverged(f"step {number}: expected the source of node {node.id}, the replayed search evaluates another")
            result = Evaluated(proposal=proposal, outcome=node.outcome, fitness=node.fitness, seconds=node.seconds)
            self._waiting[number] = done, Decided(number=number, result=result)

    def next(self, timeout_s: float | None) -> Event | None:
        """What completed next; after the last, nothing, and the clock says that time is over."""
        if not self._waiting:
            if self._ended:
                raise Diverged("the replayed search waits for more than was recorded")
            self._ended = True
            return None
        number = min(self._waiting, key=lambda step: self._waiting[step][0])
        place, event = self._waiting.pop(number)
        self._ended = place == self._last
        return event

    def close(self, *, wait: bool) -> None:
        """Nothing is under way."""

    def _same(self, step: Step, number: int) -> bool:
        record = self._recording.steps.get(number)
        if record is None:
            return False
        then = record.step
        parents = tuple(self._ids.get(parent, -parent) for parent in then.parents)
        asked = (then.operator, then.model, then.memory, then.language, parents)
        return asked == (step.operator, step.model, step.memory, step.language, step.parents)

    def _translated(self, number: int) -> Proposal:
        proposal = self._recording.proposal(number)
        if proposal is None:
            raise Diverged(f"step {number}: its candidate was not recorded")
        return replace(proposal, parents=tuple(self._ids.get(parent, parent) for parent in proposal.parents))

    def _follow(self, graph: Graph) -> None:
        """Learn the ids of nodes that were completed since."""
        for node in graph.nodes[self._seen :]:
            record = self._recording.steps.get(node.step)
            if node.step and record is not None and record.node is not None:
                self._ids.setdefault(record.node, node.id)
        self._seen = len(graph.nodes)

    def _shown(self, number: int) -> str:
        record = self._recording.steps.get(number)
        return "the recording's end" if record is None else _shown(record.step)


def _shown(step: Step) -> str:
    return f"{step.operator} with {step.model or 'no model'} from {step.parents or 'nothing'} ({step.memory}, {step.language})"


def same_graph(one: Sequence[Node], other: Sequence[Node]) -> str | None:
    """The first difference between two graphs but for ids, runs and times of day; None where they are the same."""
    if len(one) != len(other):
        return f"expected {len(one)} nodes, got {len(other)}"
    places, others = _places(one), _places(other)
    for place, (a, b) in enumerate(zip(one, other, strict=True)):
        for (name, left), (_, right) in zip(_told(a, places), _told(b, others), strict=True):
            if left != right:
                return f"node {place + 1} of {len(one)}: {name}: expected {left!r}, got {right!r}"
    return None


def _places(nodes: Sequence[Node]) -> dict[int, int]:
    return {node.id: place for place, node in enumerate(nodes)}


def _told(node: Node, places: Mapping[int, int]) -> list[tuple[str, object]]:
    proposal, outcome = node.proposal, node.outcome
    repeats = {"node": places.get(outcome.detail["node"])} if node.repeats else dict(outcome.detail)
    told: list[tuple[str, object]] = [
        (name, getattr(node, name)) for name in ("step", "spec", "target", "source_hash", "fitness", "seconds")
    ]
    told += [(name, getattr(proposal, name)) for name in ("language", "operator", "idea", "family", "memory", "model", "hypothesis")]
    told += [(name, getattr(proposal, name)) for name in ("predicted_gain", "usage", "problem", "transcript")]
    told += [("knobs", dict(proposal.knobs)), ("parents", tuple(places.get(parent, parent) for parent in proposal.parents))]
    told += [("status", outcome.status), ("stage", outcome.stage), ("detail", repeats)]
    return told if node.repeats else [*told, ("message", outcome.message)]
