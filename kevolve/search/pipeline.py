"""Evaluate a batch of candidates: compile and check on all cores, then time the survivors one at a time."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from kevolve.evaluate.timing import quick
from kevolve.search.loop import Evaluated
from kevolve.search.node import Proposal
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets import Target

_TIMED_AT_ONCE = 3
_ON_DEVICE = 8  # candidates that have a context


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The evaluator of one spec on one target; call it with a batch, results come as they complete.

    ``plans`` are the search's own (the grading plan of an acceptance is another). Where compiling disturbs the target's
    clock (``shares_cores``) timing begins when the batch is compiled; elsewhere the two overlap.
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
    _shapes: dict[str, Shapes] = field(default_factory=dict, repr=False)  # by language
    _shaping: threading.Lock = field(default_factory=threading.Lock, repr=False)
    # So many candidates at a stage that nobody waits for a core, and few contexts are made at a time: making them excludes each other.
    _compiling: threading.Semaphore = field(init=False, repr=False)
    _on_device: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_ON_DEVICE), repr=False)
    # Where processes are dear to start, the next candidates' stand ready while one is timed.
    _timing: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_TIMED_AT_ONCE), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiling", threading.Semaphore(max(1, self.jobs)))

    def __call__(self, proposals: Sequence[Proposal]) -> Iterator[Evaluated]:
        """Evaluate ``proposals``; a refused one costs only the stages up to its refusal."""
        waiting: list[tuple[Proposal, Candidate, float]] = []
        # where candidates wait for a device, others are compiled meanwhile
        most = self.jobs if self.target.shares_cores else 2 * self.jobs
        pool = ThreadPoolExecutor(max_workers=most + 1)
        try:
            foreseen = [pool.submit(self._foresee, self.plans[language]) for language in {proposal.language for proposal in proposals}]
            cores = max(1, (os.cpu_count() or 1) // max(1, min(self.jobs, len(proposals))))  # of each candidate's own compilations
            for future in as_completed([pool.submit(self._evaluated, proposal, cores) for proposal in proposals]):
                found = future.result()
                if isinstance(found, Evaluated):
                    yield found
                else:
                    waiting.append(found)
            wait(foreseen)  # what is timed next has the cores to itself, this batch's survivors or another spec's
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait: the workers' end ends what is running
        for proposal, candidate, seconds in waiting:
            yield self._timed(proposal, candidate, seconds)

    def _foresee(self, plan: Plan) -> None:
        """Compute what is expected while the first candidates are compiled."""
        with contextlib.suppress(ReferenceFailed), self.workers.judging:  # the first check says so
            foresee(plan)

    def _evaluated(self, proposal: Proposal, cores: int) -> Evaluated | tuple[Proposal, Candidate, float]:
        """Built, checked and, unless that must wait until nothing is compiled any more, timed."""
        began = time.monotonic()
        built = self._built(proposal, cores)
        if isinstance(built, Outcome):
            return _refused(proposal, built, began)
        if self.target.shares_cores:
            outcome = self._checked(built, None)
            return (proposal, built, time.monotonic() - began) if outcome.passed else _refused(proposal, outcome, began)
        with self._on_device, contextlib.ExitStack() as stack:
            processes: list[Child] = []
            outcome = self._checked(built, None if self._forks else lambda child: processes.append(stack.enter_context(child)))
            if not outcome.passed:
                return _refused(proposal, outcome, began)
            with self._timing:
                return self._timed(proposal, built, time.monotonic() - began, next(iter(processes), None))

    @property
    def _forks(self) -> bool:
        """Whether processes cost little, so that each stage has a fresh one."""
        return bool(getattr(self.target, "forks_after_use", True))

    def _built(self, proposal: Proposal, cores: int) -> Candidate | Outcome:
        built = build(
            proposal.source, proposal.language, spec=self.spec, target=self.target, cache=self.cache, timeout_s=self.compile_timeout_s
        )
        return self._compiled(built, cores) if isinstance(built, Candidate) else built

    def _checked(self, candidate: Candidate, keep: Callable[[Child], None] | None) -> Outcome:
        outcome = check(
            self.workers,
            self.spec,
            candidate,
            self.plans[candidate.language],
            target=self.target,
            deadline_s=self.check_timeout_s,
            kept=self.kept,
            keep=keep,
        )
        return outcome if outcome.passed else _with_resources(outcome, candidate)

    def _compiled(self, candidate: Candidate, cores: int) -> Candidate | Outcome:
        """Its specialisations for the plan and the cases compiled, where that can be done without the device."""
        arch = architecture(self.target)
        if arch is None:
            return candidate
        with self._shaping:
            if candidate.language not in self._shapes:
                self._shapes[candidate.language] = shapes(self.spec, self.cases, self.plans[candidate.language])
            wanted = self._shapes[candidate.language]
        with self._compiling:
            return compile_ahead(
                self.workers, self.spec, candidate, wanted, target=self.target, arch=arch, deadline_s=self.compile_timeout_s, jobs=cores
            )

    def _timed(self, proposal: Proposal, candidate: Candidate, seconds: float, process: Child | None = None) -> Evaluated:
        """The quick speedup on every case; the first case that cannot be timed decides. ``process``: the one that checked it."""
        began = time.monotonic()
        unmeasured = self.target.unmeasured(proposal.language)
        if unmeasured is not None:
            outcome = Outcome(status=Status.NOT_MEASURED, stage=Stage.QUICK, message=unmeasured)
            return Evaluated(proposal=proposal, outcome=outcome, fitness=0.0, seconds=seconds)
        speedups: dict[str, float] = {}
        for case in self.cases:
            try:
                pool = self.pool(case)
            except ReferenceFailed as error:
                return Evaluated(proposal=proposal, outcome=error.outcome(Stage.QUICK), fitness=0.0, seconds=seconds)
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
                outcome = _with_resources(timed.outcome, candidate)
                return Evaluated(proposal=proposal, outcome=outcome, fitness=0.0, seconds=seconds + time.monotonic() - began)
            speedups[case.id] = timed.fitness
        fitness = math.exp(sum(math.log(value) for value in speedups.values()) / len(speedups))
        least = {case.id: self.spec.least_speedup(case) for case in self.cases}
        slowest = min(speedups, key=lambda case: speedups[case] / least[case])
        passed = speedups[slowest] >= least[slowest]
        outcome = Outcome(
            status=Status.PASSED if passed else Status.TOO_SLOW,
            stage=Stage.QUICK,
            message=f"{fitness:.2f}x" + ("" if passed else f", {slowest} {speedups[slowest]:.2f}x of {least[slowest]:g}x"),
            detail={"speedups": speedups},
        )
        outcome = _with_resources(outcome, candidate)
        return Evaluated(proposal=proposal, outcome=outcome, fitness=fitness, seconds=seconds + time.monotonic() - began)


def _refused(proposal: Proposal, outcome: Outcome, began: float) -> Evaluated:
    return Evaluated(proposal=proposal, outcome=outcome, fitness=0.0, seconds=time.monotonic() - began)


def _with_resources(outcome: Outcome, candidate: Candidate) -> Outcome:
    """The outcome with what compilers said of the candidate: registers, spills, shared memory, occupancy."""
    return replace(outcome, detail={**outcome.detail, **candidate.said})
