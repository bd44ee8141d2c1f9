"""Who does the search's work: operators propose, an evaluator decides; the loop hears of each as it completes.

``Inline`` does it in the loop's own thread: for operators that answer at once. ``Threads`` lets operators that wait for a model wait in
threads of their own, and evaluates beside them.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from kevolve.evaluate.outcome import Outcome
from kevolve.models import ModelFailed, Usage
from kevolve.search.node import Graph, Proposal, model_failed
from kevolve.search.step import Arm, Step

LETS_GO_S = 120.0  # how long an evaluator may take to let go: a candidate's own deadlines, and no machine that never answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What the evaluator says of one proposal. ``fitness``: as in ``Node``; ``seconds``: spent on this candidate."""

    proposal: Proposal
    outcome: Outcome
    fitness: float
    seconds: float


# Evaluates a batch and yields each result as it completes, in any order. The iterator is closed early when the search stops:
# a generator then cancels what is still running.
Evaluate: TypeAlias = Callable[[Sequence[Proposal]], Iterator[Evaluated]]
# (graph, step, language, at most so many) -> proposals: an operator bound to its spec (`kevolve.operators.bind`)
Propose: TypeAlias = Callable[[Graph, Step, str, int], Sequence[Proposal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operator bound to its spec. ``arms``: the models it can ask; none: it answers at once."""

    name: str
    propose: Propose
    arms: tuple[Arm, ...] = ()

    @classmethod
    def of(cls, given: Operation | Propose) -> Operation:
        """``given``, or a plain function as an operator under its own name."""
        return given if isinstance(given, Operation) else cls(name=getattr(given, "__name__", "operator"), propose=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """An operator that was asked has answered, perhaps with a ``problem`` only."""

    number: int
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A candidate is evaluated."""

    number: int
    result: Evaluated


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """The evaluator ended a round without a word about some of its candidates; ``silent``: about all."""

    numbers: tuple[int, ...]
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """A thread ended with an exception that is no result: the loop raises it."""

    error: BaseException


Event: TypeAlias = Proposed | Decided | Undecided
Numbered: TypeAlias = tuple[int, Proposal]


class Crew(Protocol):
    """Work that is begun here is heard of by ``next``, in the order of completion."""

    def answer(self, operation: Operation, graph: Graph, step: Step, count: int) -> Sequence[Proposal]:
        """Proposals of an operator that needs no model, at once; ``step`` has the number of the first and its language."""
        ...

    def ask(self, operation: Operation, graph: Graph, step: Step) -> None:
        """Begin to ask for the proposal of one step."""
        ...

    def evaluate(self, batch: Sequence[Numbered]) -> None:
        """Begin to evaluate candidates."""
        ...

    def next(self, timeout_s: float | None) -> Event | None:
        """What completes next; None after ``timeout_s``."""
        ...

    def close(self, *, wait: bool) -> None:
        """Cancel what is under way. ``wait``: until the evaluator has let go of the device."""
        ...


def results(evaluate: Evaluate, batch: Sequence[Numbered]) -> Generator[Event, None, None]:
    """One round as events; closing it closes the evaluator's own generator, so that its candidates under way are cancelled."""
    numbers = {(proposal.language, proposal.source): number for number, proposal in batch}
    answered: set[int] = set()
    found = evaluate(tuple(proposal for _, proposal in batch))
    try:
        for result in found:
            number = numbers[result.proposal.language, result.proposal.source]
            answered.add(number)
            yield Decided(number=number, result=result)
    finally:
        if isinstance(found, Generator):
            found.close()
    if missing := tuple(number for number, _ in batch if number not in answered):
        yield Undecided(numbers=missing, silent=not answered)


class Inline:
    """Everything in the caller's thread; a round is evaluated while ``next`` is called."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._waiting: list[Numbered] = []
        self._round: Generator[Event, None, None] | None = None

    def answer(self, operation: Operation, graph: Graph, step: Step, count: int) -> Sequence[Proposal]:
        """See ``Crew``."""
        return operation.propose(graph, step, step.language, count)

    def ask(self, operation: Operation, graph: Graph, step: Step) -> None:
        """Nobody here can wait for a model."""
        raise ValueError(f"operator {operation.name} asks {step.model}: expected a crew of threads")

    def evaluate(self, batch: Sequence[Numbered]) -> None:
        """See ``Crew``."""
        self._waiting += batch

    def next(self, timeout_s: float | None) -> Event | None:
        """See ``Crew``; a result is waited for however long it takes, as evaluations have deadlines of their own."""
        while self._round is not None or self._waiting:
            if self._round is None:
                self._round, self._waiting = results(self._evaluate, self._waiting), []
            event = next(self._round, None)
            if event is not None:
                return event
            self._round = None
        return None

    def close(self, *, wait: bool) -> None:
        """See ``Crew``."""
        if self._round is not None:
            self._round.close()


class Threads:
    """A thread a model's step, and ``rounds`` threads that evaluate whatever candidates wait. All are daemons: Ctrl-C waits for no model.

    ``monotonic``: a clock in seconds, for how long a proposal took. ``gathers``: a round is dear, so that one which is not full waits for
    the models that were asked.
    """

    def __init__(
        self, evaluate: Evaluate, *, monotonic: Callable[[], float], rounds: int = 1, batch: int = 4, gathers: bool = False
    ) -> None:
        self._evaluate, self._monotonic, self._batch, self._gathers = evaluate, monotonic, batch, gathers
        self._asked = 0  # models' steps under way
        self._listening = False  # whether the loop has heard everything and begun all that it could
        self._events: queue.SimpleQueue[Event | Crashed] = queue.SimpleQueue()
        self._waiting: deque[Numbered] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._evaluators = [threading.Thread(target=self._guarded, args=(self._rounds,), daemon=True) for _ in range(rounds)]
        for thread in self._evaluators:
            thread.start()

    def answer(self, operation: Operation, graph: Graph, step: Step, count: int) -> Sequence[Proposal]:
        """See ``Crew``."""
        return operation.propose(graph, step, step.language, count)

    def ask(self, operation: Operation, graph: Graph, step: Step) -> None:
        """See ``Crew``."""
        with self._changed:
            self._asked += 1
        name = f"kevolve step {step.number}"
        threading.Thread(target=self._guarded, args=(self._ask, operation, graph, step), name=name, daemon=True).start()

    def evaluate(self, batch: Sequence[Numbered]) -> None:
        """See ``Crew``."""
        with self._changed:
            self._waiting.extend(batch)
            self._changed.notify_all()

    def next(self, timeout_s: float | None) -> Event | None:
        """See ``Crew``."""
        with self._changed:
            self._listening = self._events.empty()
            self._changed.notify_all()
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(event, Crashed):
            raise event.error
        return event

    def close(self, *, wait: bool) -> None:
        """See ``Crew``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._evaluators if wait else ():
            thread.join(LETS_GO_S)

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 - a thread cannot raise: the loop does, in its own
            self._events.put(Crashed(error=error))

    def _ask(self, operation: Operation, graph: Graph, step: Step) -> None:
        began = self._monotonic()
        try:
            found = next(iter(operation.propose(graph, step, step.language, 1)), None) or nothing(step, "the operator had no proposal")
        except ModelFailed as failed:
            found = nothing(step, model_failed(failed.kind, str(failed)), usage=failed.usage)
        seconds = found.seconds or self._monotonic() - began
        self._put(Proposed(number=step.number, proposal=replace(found, seconds=seconds)), answered=1)

    def _put(self, event: Event, *, answered: int = 0) -> None:
        """Tell the loop, which has something to do from now on."""
        with self._changed:
            self._asked -= answered
            self._listening = False
            self._events.put(event)

    def _rounds(self) -> None:
        while batch := self._next_batch():
            events = results(self._evaluate, batch)
            for event in events:
                self._put(event)
                if self._closed:
                    events.close()

    def _next_batch(self) -> list[Numbered]:
        """What waits, at most a batch; nothing once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_full())
            if self._closed:
                return []
            return [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]

    def _is_full(self) -> bool:
        """Whether a round may go: something waits and, where rounds are dear, nothing more is to come soon."""
        if not self._gathers or len(self._waiting) >= self._batch:
            return bool(self._waiting)
        return bool(self._waiting) and self._listening and not self._asked


def nothing(step: Step, problem: str, *, usage: Usage | None = None) -> Proposal:
    """A step that led to no candidate."""
    return Proposal(
        language=step.language,
        source="",
        operator=step.operator,
        idea=f"no candidate: {problem.splitlines()[0]}",
        parents=step.parents,
        memory=step.memory,
        model=step.model,
        usage=usage or Usage(),
        problem=problem,
    )
