"""Evaluate a batch of candidates: compile and check on all cores, then time the survivors one at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from kevolve.evaluate.baselines import Templates
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.oracle import ReferenceFailed
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan
from kevolve.evaluate.timing import quick
from kevolve.search.loop import Evaluated
from kevolve.search.node import Proposal
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets import Target


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

    def __call__(self, proposals: Sequence[Proposal]) -> Iterator[Evaluated]:
        """Evaluate ``proposals``; a refused one costs only the stages up to its refusal."""
        waiting: list[tuple[Proposal, Candidate, float]] = []
        pool = ThreadPoolExecutor(max_workers=self.jobs)
        try:
            futures = {pool.submit(self._build_and_check, proposal): proposal for proposal in proposals}
            for future in as_completed(futures):
                proposal = futures[future]
                checked, seconds = future.result()
                if isinstance(checked, Outcome):
                    yield Evaluated(proposal=proposal, outcome=checked, fitness=0.0, seconds=seconds)
                elif self.target.shares_cores:
                    waiting.append((proposal, checked, seconds))
                else:
                    yield self._timed(proposal, checked, seconds)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait: the workers' end ends what is running
        for proposal, candidate, seconds in waiting:
            yield self._timed(proposal, candidate, seconds)

    def _build_and_check(self, proposal: Proposal) -> tuple[Candidate | Outcome, float]:
        began = time.monotonic()
        built = build(
            proposal.source, proposal.language, spec=self.spec, target=self.target, cache=self.cache, timeout_s=self.compile_timeout_s
        )
        if isinstance(built, Candidate):
            outcome = check(
                self.workers,
                self.spec,
                built,
                self.plans[proposal.language],
                target=self.target,
                deadline_s=self.check_timeout_s,
                kept=self.kept,
            )
            built = built if outcome.passed else outcome
        return built, time.monotonic() - began

    def _timed(self, proposal: Proposal, candidate: Candidate, seconds: float) -> Evaluated:
        """The quick speedup on every case; the first case that cannot be timed decides."""
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
            timed = quick(self.workers, self.spec, case, candidate, target=self.target, seed=self.seed, templates=self.templates, pool=pool)
            if not timed.outcome.passed:
                return Evaluated(proposal=proposal, outcome=timed.outcome, fitness=0.0, seconds=seconds + time.monotonic() - began)
            speedups[case.id] = timed.fitness
        fitness = math.exp(sum(math.log(value) for value in speedups.values()) / len(speedups))
        slowest = min(speedups.values())
        passed = slowest >= self.spec.min_speedup
        outcome = Outcome(
            status=Status.PASSED if passed else Status.TOO_SLOW,
            stage=Stage.QUICK,
            message=f"{fitness:.2f}x" + ("" if passed else f", the slowest case {slowest:.2f}x of {self.spec.min_speedup:g}x"),
            detail={"speedups": speedups},
        )
        return Evaluated(proposal=proposal, outcome=outcome, fitness=fitness, seconds=seconds + time.monotonic() - began)
