"""The search loop: a policy chooses steps, operators propose, an evaluator decides, the store keeps every step.

Nothing here reads a clock, draws a random number or touches the disk by itself: all of it is passed in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.search.budget import IMPROVEMENT, Budget
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Policy, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What the evaluator says of one proposal. ``fitness``: as in ``Node``; ``seconds``: spent on this candidate."""

    proposal: Proposal
    outcome: Outcome
    fitness: float
    seconds: float


# Evaluates a batch and yields each result as it completes, in any order. The iterator is closed early when the search stops:
# a generator then cancels what is still running.
Evaluate = Callable[[Sequence[Proposal]], Iterator[Evaluated]]
# (graph, step, language, at most so many) -> proposals: an operator bound to its spec (`kevolve.operators.bind`)
Propose = Callable[[Graph, Step, str, int], Sequence[Proposal]]
Normalise = Callable[[str, str], str]  # (language, source) -> the text without comments and layout


class NodeStore(Protocol):
    """What the loop needs of ``kevolve.store.graph_store.GraphStore``."""

    def nodes(self, spec: str, target: str, *, spec_hash: str | None = None) -> list[Node]:
        """The nodes of a spec and target, of one version of the spec or of all."""
        ...

    def add(
        self,
        *,
        run: int,
        spec: str,
        spec_hash: str,
        target: str,
        proposal: Proposal,
        normal_hash: str,
        outcome: Outcome,
        fitness: float,
        seconds: float,
        decision: Mapping[str, Any] | None = None,
    ) -> Node:
        """Insert one completed step in one transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One event for whoever watches.

    ``trying``: ``proposal`` goes to the evaluator; ``done``: ``node`` is what it gave; ``duplicate``: ``node`` repeats an earlier one;
    ``stopped``: ``reason`` says why. ``seconds_left``: of the wall-clock budget, None without one.
    """

    kind: Literal["trying", "done", "duplicate", "stopped"]
    proposal: Proposal | None = None
    node: Node | None = None
    best: Node | None = None
    evaluations: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None
    reason: str = ""


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a search ended. ``evaluations`` and ``seconds`` are this run's; ``graph`` holds earlier runs' nodes too."""

    best: Node | None
    reason: str
    evaluations: int
    seconds: float
    graph: Graph


def normal_hash(normalise: Normalise, language: str, source: str) -> str:
    """The hash under which two texts of one language are duplicates."""
    return hashlib.sha256(f"{language}\0{normalise(language, source)}".encode()).hexdigest()


class Search:
    """A search for one spec on one target.

    ``seeds``: candidates to begin with (the kernel file that stands beside the test). Nodes of the same spec hash are the graph to go
    on from and are not run again, but for ``inherit`` that ran out of time once, in an earlier run; the ``inherit`` best nodes of older
    versions of the spec are proposed anew when it has none.
    """

    def __init__(
        self,
        *,
        spec: str,
        spec_hash: str,
        target: str,
        languages: Sequence[str],
        run: int,
        store: NodeStore,
        policy: Policy,
        operators: Sequence[Propose],
        evaluate: Evaluate,
        normalise: Normalise,
        budget: Budget,
        monotonic: Callable[[], float],
        listener: Listener = lambda _progress: None,
        seeds: Sequence[Proposal] = (),
        batch: int = 4,
        inherit: int = 3,
    ) -> None:
        self._spec, self._spec_hash, self._target, self._run = spec, spec_hash, target, run
        self._languages, self._operators, self._policy = tuple(languages), tuple(operators), policy
        self._store, self._evaluate, self._normalise = store, evaluate, normalise
        self._budget, self._monotonic, self._listener = budget, monotonic, listener
        self._seeds, self._batch, self._inherit = tuple(seeds), batch, inherit
        self._begun = monotonic()
        self._evaluations = 0
        self._since_improvement = 0
        self._nodes = list(store.nodes(spec, target, spec_hash=spec_hash))
        self._by_hash = _verdicts(self._nodes)
        self._sources = {(node.proposal.language, node.source_hash) for node in self._nodes}
        self._best = self.graph.best()

    @property
    def graph(self) -> Graph:
        """The nodes so far."""
        return Graph(tuple(self._nodes))

    def run(self) -> Found:
        """Search until the budget is spent, the goal is reached or nobody has anything to propose.

        ``KeyboardInterrupt`` passes through: all completed steps are in the store.
        """
        reason = self._spent() or self._try([*self._seeds, *self._inherited(), *self._again()], {"step": "seeds"})
        while reason is None:
            reason = self._round()
        self._tell("stopped", reason=reason)
        return Found(best=self._best, reason=reason, evaluations=self._evaluations, seconds=self._seconds(), graph=self.graph)

    def _round(self) -> str | None:
        """One batch; why to stop afterwards, or None."""
        room = self._room()
        exhausted: list[Step] = []
        fresh: list[Proposal] = []
        while not fresh and (steps := self._policy.ask(self.graph, room, exhausted)):
            for step in steps:
                fresh += self._propose(step, room - len(fresh), fresh)
                if len(fresh) >= room:
                    break
            exhausted += steps
        if not fresh:
            return "nothing left to propose"
        decision = {"evaluations": self._evaluations, "graph": len(self._nodes), "asked": room, "considered": len(exhausted)}
        return self._try(fresh, decision)

    def _propose(self, step: Step, count: int, taken: Sequence[Proposal]) -> list[Proposal]:
        """At most ``count`` proposals for one step that are no exact copies of what is known."""
        known = {(proposal.language, _address(proposal.source)) for proposal in taken} | self._sources
        fresh: list[Proposal] = []
        for language in self._languages_of(step):
            for propose in self._operators:
                for proposal in propose(self.graph, step, language, count - len(fresh)) if len(fresh) < count else ():
                    key = (proposal.language, _address(proposal.source))
                    if key not in known:
                        known.add(key)
                        fresh.append(proposal)
        return fresh[:count]

    def _languages_of(self, step: Step) -> tuple[str, ...]:
        """A draft may be in any language; an expansion keeps its parents'."""
        parents = {node.proposal.language for node in self._nodes if node.id in step.parents}
        return tuple(language for language in self._languages if not parents or language in parents)

    def _try(self, proposals: Sequence[Proposal], decision: Mapping[str, Any]) -> str | None:
        """Refuse duplicates, evaluate the rest and keep each as it completes; why to stop, or None."""
        room = self._budget.room(self._evaluations)
        chosen: dict[str, Proposal] = {}
        copies: list[tuple[str, Proposal]] = []
        for proposal in proposals:
            key = normal_hash(self._normalise, proposal.language, proposal.source)
            if key in self._by_hash or key in chosen:
                copies.append((key, proposal))
            elif room is None or len(chosen) < room:
                chosen[key] = proposal
        self._refuse(copies, decision)
        reason = self._run_batch(chosen, decision) if chosen else self._spent()
        self._refuse(copies, decision)
        return reason

    def _run_batch(self, chosen: Mapping[str, Proposal], decision: Mapping[str, Any]) -> str | None:
        for proposal in chosen.values():
            self._tell("trying", proposal=proposal)
        results = self._evaluate(tuple(chosen.values()))
        keys = {(proposal.language, _address(proposal.source)): key for key, proposal in chosen.items()}
        before = self._evaluations
        try:
            for result in results:
                key = keys[result.proposal.language, _address(result.proposal.source)]
                self._evaluations += 1
                node = self._keep(key, result, decision)
                self._judge(node)
                self._tell("done", proposal=node.proposal, node=node)
                if reason := self._spent():
                    return reason
        finally:
            _close(results)
        if self._evaluations == before:  # the same candidates would be proposed for ever
            return "the evaluator gave no results"
        return self._spent()

    def _refuse(self, copies: list[tuple[str, Proposal]], decision: Mapping[str, Any]) -> None:
        """Keep duplicates of completed nodes with the original's verdict, so that a stateless operator sees they were tried.

        Exact copies say nothing new and are dropped; a duplicate of a candidate still under way waits.
        """
        for key, proposal in list(copies):
            original = self._by_hash.get(key)
            if original is None:
                continue
            copies.remove((key, proposal))
            if (proposal.language, _address(proposal.source)) in self._sources:
                continue
            message = f"the same as node {original.id} but for comments and layout"
            outcome = Outcome(status=original.outcome.status, stage=Stage.DUPLICATE, message=message, detail={"node": original.id})
            node = self._keep(key, Evaluated(proposal=proposal, outcome=outcome, fitness=original.fitness, seconds=0.0), decision)
            self._tell("duplicate", proposal=proposal, node=node)

    def _keep(self, key: str, result: Evaluated, decision: Mapping[str, Any]) -> Node:
        node = self._store.add(
            run=self._run,
            spec=self._spec,
            spec_hash=self._spec_hash,
            target=self._target,
            proposal=result.proposal,
            normal_hash=key,
            outcome=result.outcome,
            fitness=result.fitness,
            seconds=result.seconds,
            decision=decision,
        )
        self._nodes.append(node)
        self._by_hash.setdefault(key, node)
        self._sources.add((node.proposal.language, node.source_hash))
        return node

    def _judge(self, node: Node) -> None:
        """Whether ``node`` is an improvement, and how long there was none."""
        reached = self._best.fitness if self._best is not None else 0.0
        better = node.works and (self._best is None or node.fitness > reached * IMPROVEMENT)
        self._since_improvement = 0 if better else self._since_improvement + 1
        if node.works and (self._best is None or node.fitness > reached):
            self._best = node

    def _inherited(self) -> list[Proposal]:
        """The best texts of older versions of this spec, when this one has no nodes yet."""
        if self._nodes or not self._inherit:
            return []
        older = [node for node in self._store.nodes(self._spec, self._target) if node.proposal.language in self._languages]
        working = [node for node in older if node.works and node.outcome.stage is not Stage.DUPLICATE]
        best = sorted(working, key=lambda node: (-node.fitness, -node.id))[: self._inherit]
        return [replace(node.proposal, operator="inherited", parents=(node.id,)) for node in best]

    def _again(self) -> list[Proposal]:
        """The first candidates that ran out of time in one earlier run and in no other: the machine may have been busy."""
        tried = Counter(node.normal_hash for node in self._nodes if node.outcome.stage is not Stage.DUPLICATE)
        again = [node for node in self._by_hash.values() if node.outcome.status is Status.TIMEOUT and tried[node.normal_hash] == 1]
        chosen = [node for node in again if node.proposal.language in self._languages][: self._inherit]
        for node in chosen:
            del self._by_hash[node.normal_hash]
        return [node.proposal for node in chosen]

    def _room(self) -> int:
        room = self._budget.room(self._evaluations)
        return self._batch if room is None else min(self._batch, room)

    def _seconds(self) -> float:
        return self._monotonic() - self._begun

    def _spent(self) -> str | None:
        return self._budget.spent(
            evaluations=self._evaluations,
            seconds=self._seconds(),
            since_improvement=self._since_improvement,
            best=self._best.fitness if self._best is not None else 0.0,
        )

    def _tell(self, kind: Literal["trying", "done", "duplicate", "stopped"], **fields: Any) -> None:
        seconds = self._seconds()
        left = self._budget.seconds_left(seconds)
        self._listener(Progress(kind=kind, best=self._best, evaluations=self._evaluations, seconds=seconds, seconds_left=left, **fields))


def _verdicts(nodes: Sequence[Node]) -> dict[str, Node]:
    """The node that decided each normalised source: the first, unless it ran out of time and a later one did not."""
    found: dict[str, Node] = {}
    for node in nodes:
        known = found.get(node.normal_hash)
        if known is None or (known.outcome.status is Status.TIMEOUT and node.outcome.stage is not Stage.DUPLICATE):
            found[node.normal_hash] = node
    return found


def _address(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _close(results: Iterator[Evaluated]) -> None:
    """Close a generator, so that its candidates under way are cancelled; a plain iterator has nothing to close."""
    if isinstance(results, Generator):
        results.close()
