"""The search loop: a policy chooses steps, operators propose, an evaluator decides, the store keeps every step.

Nothing here reads a clock, draws a random number or touches the disk by itself: all of it is passed in. What the loop decides follows
from the store and from the order in which it hears of proposals and results (``Crew.next``); that order is kept with every step, so that
a killed search goes on as it would have gone on, and a recorded one can be replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search import bandit
from kevolve.search.budget import Budget
from kevolve.search.choosing import Ask, Choice, Chooser, Take, UnderWay
from kevolve.search.crew import Crew, Decided, Evaluate, Evaluated, Event, Inline, Operation, Propose, Proposed, Threads, Undecided
from kevolve.search.ledger import Ledger, text_of
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Policy
from kevolve.search.records import Completion, SearchStore, StepRecord
from kevolve.search.step import Arm, Around, Step, seed_of

__all__ = [
    "Evaluate",
    "Evaluated",
    "Found",
    "Listener",
    "Normalise",
    "Operation",
    "Progress",
    "Propose",
    "Search",
    "normal_hash",
    "unpriced",
]

Normalise = Callable[[str, str], str]  # (language, source) -> the text without comments and layout
SILENT = "the evaluator gave no results"
AGAIN = "again"  # the operator of a step that tries once more what ran out of time


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One event for whoever watches.

    ``asking``: ``step`` goes to a model; ``trying``: ``proposal`` goes to the evaluator; ``done``: ``node`` is what it gave, or a step
    without a candidate; ``duplicate``: ``node`` repeats an earlier one; ``silenced``: a model is not asked any more, ``reason`` says why;
    ``stopped``: the search is over, ``reason`` says why. ``seconds_left``: of the wall-clock budget, None without one.
    """

    kind: Literal["asking", "trying", "done", "duplicate", "silenced", "stopped"]
    step: Step | None = None
    proposal: Proposal | None = None
    node: Node | None = None
    best: Node | None = None
    evaluations: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    seconds_left: float | None = None
    reason: str = ""


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a search ended. ``evaluations``, ``seconds`` and ``usage`` are this search's; ``graph`` holds earlier runs' nodes too."""

    best: Node | None
    reason: str
    evaluations: int
    seconds: float
    graph: Graph
    usage: Usage = field(default_factory=Usage)


def normal_hash(normalise: Normalise, language: str, source: str) -> str:
    """The hash under which two texts of one language are duplicates."""
    return hashlib.sha256(f"{language}\0{normalise(language, source)}".encode()).hexdigest()


def unpriced(budget: Budget, arms: Sequence[Arm]) -> tuple[str, ...]:
    """The models whose dollars cannot be limited though the budget limits them: their prices are unknown."""
    return tuple(dict.fromkeys(arm.model for arm in arms if arm.most.usd is None)) if budget.usd is not None else ()


class Search:
    """A search for one spec on one target.

    ``seeds``: candidates to begin with (the kernel file that stands beside the test, relatives' best). Nodes of the same spec hash are the
    graph to go on from and are not run again, but for ``inherit`` that ran out of time once, in an earlier run; the ``inherit`` best
    nodes of older versions of the spec are proposed anew when it has none.

    ``batch``: candidates in a round; ``in_flight``: steps that wait for models at a time; ``rounds``: rounds evaluated at a time;
    ``gathers``: see ``Threads``. ``policy_name`` and ``seed`` say which search a killed one was; ``about``: see ``SearchRecord``.
    """

    def __init__(
        self,
        *,
        spec: str,
        spec_hash: str,
        target: str,
        languages: Sequence[str],
        run: int,
        store: SearchStore,
        policy: Policy,
        operators: Sequence[Operation | Propose],
        evaluate: Evaluate,
        normalise: Normalise,
        budget: Budget,
        monotonic: Callable[[], float],
        listener: Listener = lambda _progress: None,
        seeds: Sequence[Proposal] = (),
        batch: int = 4,
        inherit: int = 3,
        in_flight: int = 4,
        rounds: int = 1,
        gathers: bool = False,
        seed: int = 0,
        policy_name: str = "",
        about: Mapping[str, Any] | None = None,
        crew: Crew | None = None,
    ) -> None:
        self._spec, self._spec_hash, self._target, self._run = spec, spec_hash, target, run
        self._languages, self._policy = tuple(languages), policy
        self._operations = {operation.name: operation for operation in map(Operation.of, operators)}
        self._store, self._evaluate, self._normalise = store, evaluate, normalise
        self._budget, self._monotonic, self._listener = budget, monotonic, listener
        self._seeds, self._batch, self._inherit, self._in_flight = tuple(seeds), batch, inherit, in_flight
        self._rounds, self._gathers, self._seed, self._about = rounds, gathers, seed, dict(about or {})
        self._policy_name = policy_name or type(policy).__name__
        self._given = crew
        self._keys: dict[str, int] = {}  # normalised sources with the evaluator
        self._copies: list[tuple[str, StepRecord]] = []  # duplicates of those
        self._under_way = UnderWay()

    # -- the whole -------------------------------------------------------------------------------------------------

    def run(self) -> Found:
        """Search until the budget is spent, the goal is reached or nobody has anything to propose.

        ``KeyboardInterrupt`` passes through: all completed steps are in the store, and the next search goes on with those under way.
        """
        identity = dict(spec=self._spec, spec_hash=self._spec_hash, target=self._target)
        self._begun = self._monotonic()
        record, steps = self._store.begin(run=self._run, policy=self._policy_name, seed=self._seed, about=self._about, **identity)
        self._record, self._begun = record, self._begun - record.seconds
        try:
            mine = [step.node for step in steps if step.node is not None]
            self._ledger = Ledger(self._store.nodes(self._spec, self._target, spec_hash=self._spec_hash), mine)
            self._crew = self._given or self._own_crew()
            self._chooser = self._made_chooser()
            reason = self._guarded(steps)
            if reason != SILENT:  # else the next search evaluates what this one could not
                self._store.end(record.id, reason, self._seconds())
        finally:
            self._store.release(record.id)
        self._tell("stopped", reason=reason)
        ledger = self._ledger
        graph = ledger.graph(shared=False)
        return Found(
            best=ledger.best, reason=reason, evaluations=ledger.evaluations, seconds=self._seconds(), graph=graph, usage=ledger.usage
        )

    def _made_chooser(self) -> Chooser:
        return Chooser(
            ledger=self._ledger,
            under_way=self._under_way,
            budget=self._budget,
            policy=self._policy,
            policy_name=self._policy_name,
            operations=self._operations,
            crew=self._crew,
            languages=self._languages,
            seed=self._seed,
            batch=self._batch,
            in_flight=self._in_flight,
        )

    def _own_crew(self) -> Crew:
        if not any(operation.arms for operation in self._operations.values()):
            return Inline(self._evaluate)
        return Threads(self._evaluate, monotonic=self._monotonic, rounds=self._rounds, batch=self._batch, gathers=self._gathers)

    def _guarded(self, steps: Sequence[StepRecord]) -> str:
        try:
            reason = self._search(steps)
        except BaseException:  # an interrupt too: nothing may go on behind it, and nothing is waited for
            self._crew.close(wait=False)
            raise
        self._crew.close(wait=True)
        return reason

    def _search(self, steps: Sequence[StepRecord]) -> str:
        if reason := self._spent():
            return reason
        if steps:
            self._resume(steps)
        else:
            self._begin()
        while (over := self._over()) is None:
            spent, number = self._spent(), self._under_way.number
            for choice in self._chooser.choices() if spent is None else ():
                self._carry_out(choice)
            if self._under_way.number > number and not self._under_way.open:
                continue  # all were duplicates
            if not self._under_way.open or (spent and not self._under_way.with_model):
                return spent or self._exhausted()
            event = self._crew.next(self._budget.seconds_left(self._seconds()))
            if event is not None and (silent := self._hear(event)):
                return silent
        return over

    def _exhausted(self) -> str:
        """Why nothing more can be begun."""
        arms = [arm for operation in self._operations.values() for arm in operation.arms if arm.model not in self._ledger.stopped]
        if arms and not any(self._chooser.allowance(arm) for arm in arms):
            used = self._ledger.usage
            return f"budget spent: {used.tokens:,} tokens" + (f", {used.usd:.2f} USD" if used.usd is not None else "")
        return "; ".join(("nothing left to propose", *self._ledger.stopped.values()))

    # -- beginning -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The seeds, relatives' best and what ran out of time once are the first steps."""
        again = [replace(node.proposal, operator=node.proposal.operator) for node in self._ledger.twice(self._languages, self._inherit)]
        known = set(self._ledger.texts)
        fresh: list[tuple[Step, Proposal]] = []
        for proposal in (*self._seeds, *self._inherited()):
            if text_of(proposal) not in known:
                known.add(text_of(proposal))
                fresh.append((Step(parents=proposal.parents, memory=proposal.memory, operator=proposal.operator), proposal))
        fresh += [(Step(parents=proposal.parents, operator=AGAIN), proposal) for proposal in again]
        room = self._budget.room(0)
        self._take(fresh if room is None else fresh[: max(room, 0)], {"step": "seeds"})

    def _inherited(self) -> list[Proposal]:
        """The best texts of older versions of this spec, when this one has no nodes yet."""
        if self._ledger.nodes or not self._inherit or any(seed.operator == "inherited" for seed in self._seeds):
            return []
        older = [node for node in self._store.nodes(self._spec, self._target) if node.proposal.language in self._languages]
        working = [node for node in older if node.works and not node.repeats]
        best = sorted(working, key=lambda node: (-node.fitness, -node.id))[: self._inherit]
        return [replace(node.proposal, operator="inherited", parents=(node.id,)) for node in best]

    def _resume(self, steps: Sequence[StepRecord]) -> None:
        """Take up what a killed search had begun, under the same numbers and seeds; who was not answered is asked again."""
        self._under_way.number = max(step.number for step in steps)
        self._under_way.events = max(max(step.proposed or 0, step.done or 0) for step in steps)
        mine = {step.node for step in steps}
        made = (node for node in self._ledger.nodes if node.id in mine and node.proposal.model)
        self._under_way.structures = [node for node in made if bandit.is_structure(node)]
        waiting = [step for step in steps if step.state in ("asked", "proposed")]
        self._under_way.open = {step.number: step for step in waiting}
        for record in waiting:
            if record.state == "asked":
                self._ask(record.step)
        self._enter([record for record in waiting if record.state == "proposed"])

    # -- what is begun ---------------------------------------------------------------------------------------------

    def _carry_out(self, choice: Choice) -> None:
        if isinstance(choice, Take):
            self._take(choice.fresh, choice.decision)
        else:
            self._take_up(choice)

    def _take_up(self, choice: Ask) -> None:
        """A step of a model: kept, then begun."""
        record = StepRecord(search=self._record.id, step=choice.step, state="asked", decision=choice.decision)
        self._store.take(self._record.id, [record])
        self._under_way.number, self._under_way.open[record.number] = record.number, record
        self._ask(choice.step)

    def _ask(self, step: Step) -> None:
        self._tell("asking", step=step)
        graph = self._ledger.graph(Around(seed=self._seed, number=step.number), shared=False)
        self._crew.ask(self._operations[step.operator], graph, step)

    def _take(self, fresh: Sequence[tuple[Step, Proposal]], decision: Mapping[str, Any]) -> None:
        """Candidates that are there at once: kept together, then evaluated."""
        records = []
        for number, (step, proposal) in enumerate(fresh, self._under_way.number + 1):
            step = replace(step, number=number, seed=seed_of(self._seed, number), language=proposal.language)
            records.append(StepRecord(search=self._record.id, step=step, state="proposed", decision=decision, proposal=proposal))
        if records:
            self._store.take(self._record.id, records)
            self._under_way.number += len(records)
            self._under_way.open.update((record.number, record) for record in records)
            self._enter(records)

    def _enter(self, records: Sequence[StepRecord]) -> None:
        """Refuse duplicates, let those of candidates under way wait, and evaluate the rest."""
        batch: list[tuple[int, Proposal]] = []
        for record in records:
            proposal = record.proposal
            assert proposal is not None
            if proposal.problem:
                outcome = Outcome(status=Status.NO_CANDIDATE, stage=Stage.PROPOSE, message=proposal.problem)
                self._complete(
                    record, f"{self._record.id}:{record.number}", Evaluated(proposal=proposal, outcome=outcome, fitness=0, seconds=0)
                )
                continue
            key = normal_hash(self._normalise, proposal.language, proposal.source)
            original = self._ledger.by_hash.get(key)
            if original is not None and record.step.operator != AGAIN:
                self._refuse(record, key, original)
            elif key in self._keys:
                self._copies.append((key, record))
            else:
                self._keys[key] = record.number
                batch.append((record.number, proposal))
        for _, proposal in batch:
            self._tell("trying", proposal=proposal)
        if batch:
            self._crew.evaluate(batch)

    # -- what completes --------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> str | None:
        """Take in what completed; why the search cannot go on, or None."""
        self._under_way.events += 1
        if isinstance(event, Undecided):
            return self._undecided(event)
        record = self._under_way.open[event.number]
        if isinstance(event, Proposed):
            self._store.propose(self._record.id, event.number, event.proposal, self._under_way.events)
            self._under_way.open[event.number] = replace(record, state="proposed", proposal=event.proposal)
            self._enter([self._under_way.open[event.number]])
        elif isinstance(event, Decided):
            key = next(key for key, number in self._keys.items() if number == event.number)
            del self._keys[key]
            node = self._complete(record, key, event.result)
            copies = [copy for other, copy in self._copies if other == key]
            self._copies = [(other, copy) for other, copy in self._copies if other != key]
            for copy in copies:
                self._refuse(copy, key, node)
        return None

    def _undecided(self, event: Undecided) -> str | None:
        """A round that ended early: what it left out may be proposed again; where it gave nothing at all, that would go on for ever."""
        for number in event.numbers:
            self._under_way.open.pop(number)
            self._keys = {key: other for key, other in self._keys.items() if other != number}
        waiting, self._copies = self._copies, []
        self._enter([copy for _, copy in waiting])
        return SILENT if event.silent else None

    def _refuse(self, record: StepRecord, key: str, original: Node) -> None:
        """Keep a duplicate with the original's verdict, so that a stateless operator sees that it was tried."""
        assert record.proposal is not None
        exact = text_of(record.proposal)[1] == original.source_hash
        message = f"the same as node {original.id}" + ("" if exact else " but for comments and layout")
        outcome = Outcome(status=original.outcome.status, stage=Stage.DUPLICATE, message=message, detail={"node": original.id})
        result = Evaluated(proposal=record.proposal, outcome=outcome, fitness=original.fitness, seconds=0.0)
        self._complete(record, key, result)

    def _complete(self, record: StepRecord, key: str, result: Evaluated) -> Node:
        ledger = self._ledger
        node = self._store.add(
            run=self._record.run,
            spec=self._spec,
            spec_hash=self._spec_hash,
            target=self._target,
            proposal=result.proposal,
            normal_hash=key,
            outcome=result.outcome,
            fitness=result.fitness,
            seconds=result.seconds,
            decision=record.decision,
            completes=Completion(search=self._record.id, number=record.number, event=self._under_way.events, seconds=self._seconds()),
        )
        silenced = set(ledger.stopped)
        ledger.add(node)
        self._under_way.open.pop(record.number, None)
        if node.proposal.model and bandit.is_structure(node):
            self._under_way.structures.append(node)
        self._tell("duplicate" if node.repeats else "done", proposal=node.proposal, node=node)
        for model in ledger.stopped.keys() - silenced:
            self._tell("silenced", reason=ledger.stopped[model])
        return node

    # -- ending ----------------------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return self._monotonic() - self._begun

    def _over(self) -> str | None:
        return self._budget.over(evaluations=self._ledger.evaluations, seconds=self._seconds(), best=self._ledger.reached)

    def _spent(self) -> str | None:
        ledger = self._ledger
        return self._budget.spent(
            evaluations=ledger.evaluations,
            seconds=self._seconds(),
            since_improvement=ledger.since_improvement,
            best=ledger.reached,
            usage=self._chooser.used(),
        )

    def _tell(self, kind: Literal["asking", "trying", "done", "duplicate", "silenced", "stopped"], **fields: Any) -> None:
        seconds, ledger = self._seconds(), self._ledger
        left = self._budget.seconds_left(seconds)
        counted: dict[str, Any] = dict(best=ledger.best, evaluations=ledger.evaluations, usage=ledger.usage)
        self._listener(Progress(kind=kind, seconds=seconds, seconds_left=left, **counted, **fields))
