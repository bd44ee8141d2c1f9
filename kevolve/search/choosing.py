"""Which steps to begin now, and who takes them: between the policy, the bandit, the budget and what is under way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from kevolve.models import Usage
from kevolve.search import bandit
from kevolve.search.budget import Budget
from kevolve.search.crew import Crew, Operation
from kevolve.search.index import TUNING
from kevolve.search.ledger import Ledger, text_of
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Policy
from kevolve.search.records import StepRecord
from kevolve.search.step import Arm, Around, Step, seed_of


@dataclass(slots=True, kw_only=True)
class UnderWay:
    """What a search has begun and not done, and how far it has counted."""

    open: dict[int, StepRecord] = field(default_factory=dict)  # by number
    structures: list[Node] = field(default_factory=list)  # models' new kernels, until they are tuned
    number: int = 0  # of the last step
    events: int = 0  # heard of

    @property
    def with_model(self) -> int:
        """How many of the steps are models'."""
        return sum(1 for record in self.open.values() if record.step.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A step of a model to begin."""

    step: Step
    decision: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Candidates that are there at once, with the steps that they were asked for by."""

    fresh: Sequence[tuple[Step, Proposal]]
    decision: Mapping[str, Any]


Choice: TypeAlias = Ask | Take


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """Chooses; the loop carries out one choice before it asks for the next. ``batch`` and ``in_flight``: see ``Search``."""

    ledger: Ledger
    under_way: UnderWay
    budget: Budget
    policy: Policy
    policy_name: str
    operations: Mapping[str, Operation]
    crew: Crew
    languages: tuple[str, ...]
    seed: int
    batch: int
    in_flight: int

    def choices(self) -> Iterator[Choice]:
        """As many as there is room for: a round of operators that answer at once, or one by one beside models."""
        if any(arm.model for arm in self._arms()) or self.under_way.with_model:
            yield from self._places()
        elif not self.under_way.open and (taken := self._round()).fresh:
            yield taken

    def used(self) -> Usage:
        """What models have cost, candidates that wait to be evaluated included."""
        waiting = (record.proposal.usage for record in self.under_way.open.values() if record.proposal is not None)
        return sum(waiting, self.ledger.usage)

    def allowance(self, arm: Arm) -> Usage | None:
        """What a step of a model may cost now; None where nothing is left for one."""
        reserved = (record.step.most for record in self.under_way.open.values() if record.state == "asked")
        return self.budget.allowance(arm.most, self.used(), sum(filter(None, reserved), Usage()))

    def _round(self) -> Take:
        """Candidates for a whole round, from the first steps for which anybody has some."""
        left, arms = self.budget.room(self.ledger.evaluations), self._arms()
        room = self.batch if left is None else min(self.batch, left)
        exhausted: list[Step] = []
        fresh: list[tuple[Step, Proposal]] = []
        while not fresh and (steps := self.policy.ask(self._graph(arms, exhausted), room, ())):
            for step in steps:
                fresh += self._answers(step, room - len(fresh), [proposal for _, proposal in fresh], arms)
                if len(fresh) >= room:
                    break
            exhausted += steps
        return Take(fresh=fresh, decision=self._decision(asked=room, considered=len(exhausted)))

    def _places(self) -> Iterator[Choice]:
        """Steps one by one, until there is no place free for whoever should take the next."""
        exhausted: list[Step] = []
        while self.budget.room(self.ledger.evaluations + len(self.under_way.open)) != 0:
            arms = self._arms()
            graph = self._graph(arms, exhausted)
            step = self._wished(graph)
            if step is None or step in exhausted:
                return
            choice = self._taken(step, graph, arms)
            if choice == "full":
                return
            if choice is None:
                exhausted.append(step)
                self._leave(step)
            else:
                yield choice

    def _wished(self, graph: Graph) -> Step | None:
        """The inner loop's step (a structure that a model just made is tried with other parameters), else the policy's."""
        pending = [record.step for record in self.under_way.open.values()]
        structures = self.under_way.structures if TUNING in self.operations else []
        tuned = (step for node in structures if (step := bandit.to_tune(graph, node, pending)) is not None)
        return next(tuned, None) or next(iter(self.policy.ask(graph, 1, pending)), None)

    def _leave(self, step: Step) -> None:
        """Tuning has nothing for a structure: it is not asked again."""
        if step.operator == TUNING:
            self.under_way.structures = [node for node in self.under_way.structures if (node.id,) != step.parents]

    def _taken(self, step: Step, graph: Graph, arms: tuple[Arm, ...]) -> Choice | Literal["full"] | None:
        """Who takes ``step``: the first in rank with a place free. ``"full"`` if none of those who could has one, None if nobody can."""
        languages, models = self._languages_of(step), self.under_way.with_model
        ranked = bandit.rank(graph, step, arms) if languages else []
        decision = self._decision(ranked=[arm.key for arm in ranked[:4]], pending=list(self.under_way.open))
        full = False
        for arm in ranked:
            if models >= self.in_flight if arm.model else len(self.under_way.open) - models >= self.batch:
                full = True  # what is measured elsewhere may take hours: models are asked meanwhile
                continue
            if arm.model and (most := self.allowance(arm)) is not None:
                number = self.under_way.number + 1
                step = replace(step, operator=arm.operator, model=arm.model, language=languages[number % len(languages)], most=most)
                return Ask(step=replace(step, number=number, seed=seed_of(self.seed, number)), decision=decision)
            if not arm.model and (fresh := self._answers(step, 1, (), (arm,))):
                return Take(fresh=fresh, decision=decision)
        return "full" if full else None

    def _answers(self, step: Step, count: int, taken: Sequence[Proposal], arms: Sequence[Arm]) -> list[tuple[Step, Proposal]]:
        """At most ``count`` proposals at once for one step that are no exact copies of what is known or under way."""
        flying = [record.proposal for record in self.under_way.open.values() if record.proposal is not None]
        known = {text_of(proposal) for proposal in (*taken, *flying)}
        fresh: list[tuple[Step, Proposal]] = []
        for language in self._languages_of(step):
            for arm in arms:
                number = self.under_way.number + len(taken) + len(fresh) + 1
                asked = replace(step, operator=arm.operator, language=language, number=number, seed=seed_of(self.seed, number))
                wanted = count - len(fresh)
                found = self.crew.answer(self.operations[arm.operator], self._graph(), asked, wanted + len(flying)) if wanted > 0 else ()
                for proposal in found:
                    key = text_of(proposal)
                    if key not in known and key not in self.ledger.texts:
                        known.add(key)
                        fresh.append((asked, proposal))
        return fresh[:count]

    def _languages_of(self, step: Step) -> tuple[str, ...]:
        """A draft may be in any language; an expansion keeps its parents'."""
        known = (self.ledger.index.by_id.get(parent) for parent in step.parents)
        parents = {node.proposal.language for node in known if node is not None}
        return tuple(language for language in self.languages if not parents or language in parents)

    def _arms(self) -> tuple[Arm, ...]:
        """Who can take steps now: those without a model, and the models that have not failed and that the budget has something left for."""
        free = [Arm(operator=operation.name) for operation in self.operations.values() if not operation.arms]
        models = [arm for operation in self.operations.values() for arm in operation.arms if arm.model not in self.ledger.stopped]
        return (*free, *(arm for arm in models if self.allowance(arm) is not None))

    def _graph(self, arms: tuple[Arm, ...] = (), exhausted: Sequence[Step] = ()) -> Graph:
        number, evaluations = self.under_way.number + 1, self.budget.evaluations
        return self.ledger.graph(Around(arms=arms, seed=self.seed, number=number, evaluations=evaluations, exhausted=tuple(exhausted)))

    def _decision(self, **seen: Any) -> dict[str, Any]:
        return {"policy": self.policy_name, "evaluations": self.ledger.evaluations, "graph": len(self.ledger.nodes), **seen}
