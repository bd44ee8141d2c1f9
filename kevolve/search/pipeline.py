"""Evaluate candidates: compile and check on all cores, then time the survivors one at a time. Also the operators' lab."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kevolve import registry
from kevolve.evaluate.ahead import Shapes, architecture, compile_ahead, shapes
from kevolve.evaluate.baselines import Templates
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check, foresee
from kevolve.evaluate.client import Child, Workers
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.oracle import ReferenceFailed
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan
from kevolve.evaluate.profiling import profile, profile_text
from kevolve.evaluate.timing import quick
from kevolve.languages import CompilesAhead
from kevolve.search.answers import Answers
from kevolve.search.crew import Evaluated
from kevolve.search.gate import Gate
from kevolve.search.node import Proposal
from kevolve.search.rough import rough
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets import Target

_TIMED_AT_ONCE = 3
_AHEAD = 2  # compilations of one candidate at a time where many are compiled ahead: the first reaches the device in half the time
_ON_DEVICE = 8  # candidates that have a context


@dataclass(slots=True)
class _Known:
    """What is known of one source, stage by stage; ``busy`` is held by whoever finds out more."""

    busy: threading.Lock = field(default_factory=threading.Lock)
    built: Candidate | Outcome | None = None
    checked: Outcome | None = None
    timed: Outcome | None = None
    profiled: str | None = None
    fitness: float = 0.0
    seconds: float = 0.0  # spent on it so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The evaluator of one spec on one target; call it with a batch, results come as they complete.

    ``plans`` are the search's own (the grading plan of an acceptance is another). Where compiling disturbs the target's
    clock (``shares_cores``) nothing is compiled or checked while a candidate is timed, and a batch's timing begins when all of it is
    compiled; elsewhere the two overlap. Thread-safe: ``build``, ``check`` and ``evaluate`` are the ``Lab`` of operators.
    """

    spec: Spec
    cases: tuple[Case, ...]
    target: Target
    workers: Workers
    plans: Mapping[str, Plan]  # by language
    kept: tuple[Draw, ...]  # counterexamples of earlier kernels, replayed first
    cache: Path
    pool: Callable[[Case], Pool]  # contents of the timed calls, made once a case
    seed: int
    jobs: int
    templates: Templates | None = None  # compiled references, for a spec whose first baseline is one; None: compiled for every timing
    compile_timeout_s: float = 60.0
    check_timeout_s: float = 60.0
    profile_timeout_s: float = 60.0
    baseline_us: dict[str, float] = field(default_factory=dict)  # by case: what the last timing said of the first baseline
    _known: Answers[_Known] = field(default_factory=lambda: Answers(_Known), repr=False)
    _pooling: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)
    _gate: Gate = field(default_factory=Gate, repr=False)
    _shapes: dict[str, Shapes] = field(default_factory=dict, repr=False)  # by language
    _shaping: threading.Lock = field(default_factory=threading.Lock, repr=False)
    # So many candidates at a stage that nobody waits for a core, and few contexts are made at a time: making them excludes each other.
    _compiling: threading.Semaphore = field(init=False, repr=False)
    _on_device: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_ON_DEVICE), repr=False)
    # Where processes are dear to start, the next candidates' stand ready while one is timed.
    _timing: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_TIMED_AT_ONCE), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiling", threading.Semaphore(max(1, self.jobs // _AHEAD + 1)))

    def __call__(self, proposals: Sequence[Proposal]) -> Iterator[Evaluated]:
        """Evaluate ``proposals``; a refused one costs only the stages up to its refusal, one that the lab has evaluated nothing."""
        waiting: list[Proposal] = []
        # where candidates wait for a device, others are compiled meanwhile
        most = self.jobs if self.target.shares_cores else 2 * self.jobs
        pool = ThreadPoolExecutor(max_workers=most + 1)
        try:
            foreseen = [pool.submit(self._foresee, self.plans[language]) for language in {proposal.language for proposal in proposals}]
            cores = max(min(_AHEAD, self.jobs), self.jobs // max(1, len(proposals)))  # of each candidate's own compilations
            for future in as_completed([pool.submit(self._evaluated, proposal, cores) for proposal in proposals]):
                found = future.result()
                if isinstance(found, Evaluated):
                    yield found
                else:
                    waiting.append(found)
            wait(foreseen)  # what is timed next has the cores to itself, this batch's survivors or another spec's
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait: the workers' end ends what is running
        for proposal in waiting:
            yield replace(self._finished(proposal.language, proposal.source, 1), proposal=proposal)

    # -- the lab ---------------------------------------------------------------------------------------------------

    times = True

    def build(self, language: str, source: str) -> Outcome:
        """See ``Lab``."""
        known = self._known.of(language, source)
        with known.busy:
            built = self._built(known, language, source, 1)
        if isinstance(built, Outcome):
            return built
        return _with_resources(Outcome(status=Status.PASSED, stage=Stage.COMPILE), built)

    def check(self, language: str, source: str) -> Outcome:
        """See ``Lab``."""
        known = self._known.of(language, source)
        with known.busy:
            return self._checked(known, language, source, 1)

    def evaluate(self, language: str, source: str) -> Evaluated:
        """See ``Lab``."""
        return self._finished(language, source, 1)

    def profile(self, language: str, source: str) -> str:
        """See ``Lab``; on the case that is furthest behind, and nothing else is timed meanwhile."""
        known = self._known.of(language, source)
        with known.busy:
            if known.timed is None or not isinstance(known.built, Candidate) or "speedups" not in known.timed.detail:
                return ""
            if known.profiled is None:
                speedups = known.timed.detail["speedups"]
                case = min((case for case in self.cases if case.id in speedups), key=lambda case: speedups[case.id])
                known.profiled = self._profiled(known.built, case)
            return known.profiled

    def close(self) -> None:
        """The search is over: an operator's thread that was left behind is given no answers any more, and disturbs no timing."""
        self._closed.set()

    # -- stages ----------------------------------------------------------------------------------------------------

    def _foresee(self, plan: Plan) -> None:
        """Compute what is expected while the first candidates are compiled."""
        with self._sharing(), contextlib.suppress(ReferenceFailed), self.workers.judging:  # the first check says so
            foresee(plan, self.target)

    def _evaluated(self, proposal: Proposal, cores: int) -> Evaluated | Proposal:
        """Built, checked and, unless that must wait until nothing is compiled any more, timed."""
        if not self.target.shares_cores:
            return replace(self._finished(proposal.language, proposal.source, cores), proposal=proposal)
        known = self._known.of(proposal.language, proposal.source)
        with known.busy:
            checked = self._checked(known, proposal.language, proposal.source, cores)
        return proposal if checked.passed else _decided(proposal, checked, 0.0, known.seconds)

    def _finished(self, language: str, source: str, cores: int) -> Evaluated:
        """Everything that is not known yet of a source."""
        known = self._known.of(language, source)
        with known.busy, contextlib.ExitStack() as stack:
            processes: list[Child] = []
            keep = None if self._forks else lambda child: processes.append(stack.enter_context(child))
            checked = self._checked(known, language, source, cores, keep=keep, held=stack)
            if checked.passed and isinstance(known.built, Candidate):
                if known.timed is None:
                    self._time(known, language, known.built, next(iter(processes), None))
                checked = known.timed or checked
            anonymous = Proposal(language=language, source=source, operator="", idea="")
            return _decided(anonymous, checked, known.fitness, known.seconds)

    def _sharing(self) -> AbstractContextManager[None]:
        return self._gate.shared() if self.target.shares_cores else contextlib.nullcontext()

    def _built(self, known: _Known, language: str, source: str, cores: int) -> Candidate | Outcome:
        if self._closed.is_set():
            return Outcome(status=Status.NOT_MEASURED, stage=Stage.COMPILE, message="the search is over")
        if known.built is None:
            with self._sharing():
                began = time.monotonic()
                built = build(source, language, spec=self.spec, target=self.target, cache=self.cache, timeout_s=self.compile_timeout_s)
                known.built = self._compiled(built, cores) if isinstance(built, Candidate) else built
                known.seconds += time.monotonic() - began
        return known.built

    def _checked(
        self,
        known: _Known,
        language: str,
        source: str,
        cores: int,
        *,
        keep: Callable[[Child], None] | None = None,
        held: contextlib.ExitStack | None = None,
    ) -> Outcome:
        """``keep``: given the process that checked it, where that is to time it too; ``held``: what its place on the device ends with."""
        built = self._built(known, language, source, cores)
        if isinstance(built, Outcome):
            return built
        if known.checked is None:
            with contextlib.ExitStack() as own:
                (own if self.target.shares_cores else held or own).enter_context(self._place())
                began = time.monotonic()
                known.checked = _with_resources(self._check(built, keep), built)
                known.seconds += time.monotonic() - began
        return known.checked

    def _place(self) -> AbstractContextManager[Any]:
        """Where a check may run: beside others on the cores, or on the device."""
        return self._gate.shared() if self.target.shares_cores else self._on_device

    @property
    def _forks(self) -> bool:
        """Whether processes cost little, so that each stage has a fresh one."""
        return self.target.shares_cores or bool(getattr(self.target, "forks_after_use", True))

    def _check(self, candidate: Candidate, keep: Callable[[Child], None] | None) -> Outcome:
        return check(
            self.workers,
            self.spec,
            candidate,
            self.plans[candidate.language],
            target=self.target,
            deadline_s=self.check_timeout_s,
            kept=self.kept,
            keep=keep,
        )

    def _compiled(self, candidate: Candidate, cores: int) -> Candidate | Outcome:
        """Its specialisations for the plan and the cases compiled, where that can be done without the device."""
        arch = architecture(self.target)
        if arch is None or not isinstance(registry.load("languages", candidate.language), CompilesAhead):
            return candidate
        with self._shaping:
            if candidate.language not in self._shapes:
                self._shapes[candidate.language] = shapes(self.spec, self.cases, self.plans[candidate.language], pools=self.pool)
            wanted = self._shapes[candidate.language]
        with self._compiling:
            return compile_ahead(
                self.workers, self.spec, candidate, wanted, target=self.target, arch=arch, deadline_s=self.compile_timeout_s, jobs=cores
            )

    def _time(self, known: _Known, language: str, candidate: Candidate, process: Child | None) -> None:
        """Time it, alone where that takes the cores, else beside the preparation of the next."""
        with self._gate.alone() if self.target.shares_cores else self._timing:
            began = time.monotonic()
            known.timed, known.fitness = self._timed(language, candidate, process)
            known.seconds += time.monotonic() - began

    def _profiled(self, candidate: Candidate, case: Case) -> str:
        with self._gate.alone() if self.target.shares_cores else self._timing:
            with self._pooling:
                pool = self.pool(case)
            found, reasons = profile(
                self.workers, self.spec, candidate, pool, target=self.target, deadline_s=self.profile_timeout_s, seed=self.seed
            )
        return profile_text(found, reasons, case.id)

    def _timed(self, language: str, candidate: Candidate, process: Child | None) -> tuple[Outcome, float]:
        """The quick speedup on every case; the first case that cannot be timed decides. ``process``: the one that checked it."""
        unmeasured = self.target.unmeasured(language)
        if unmeasured is not None:
            return Outcome(status=Status.NOT_MEASURED, stage=Stage.QUICK, message=unmeasured), 0.0
        speedups: dict[str, float] = {}
        for case in self.cases:
            try:
                with self._pooling:
                    pool = self.pool(case)
            except ReferenceFailed as error:
                return error.outcome(Stage.QUICK), 0.0
            timed = quick(
                self.workers,
                self.spec,
                case,
                candidate,
                target=self.target,
                seed=self.seed,
                templates=self.templates,
                pool=pool,
                process=process,
            )
            if not timed.outcome.passed:
                return _with_resources(timed.outcome, candidate), 0.0
            speedups[case.id] = timed.fitness
            if timed.baseline_us is not None:
                self.baseline_us[case.id] = timed.baseline_us
        outcome, fitness = rough(speedups, {case.id: self.spec.least_speedup(case) for case in self.cases})
        return _with_resources(outcome, candidate), fitness


def _decided(proposal: Proposal, outcome: Outcome, fitness: float, seconds: float) -> Evaluated:
    return Evaluated(proposal=proposal, outcome=outcome, fitness=fitness, seconds=seconds)


def _with_resources(outcome: Outcome, candidate: Candidate) -> Outcome:
    """The outcome with what compilers said of the candidate: registers, spills, shared memory, occupancy."""
    return replace(outcome, detail={**outcome.detail, **candidate.said})
