"""The old kernel and the new one timed against each other: process pairs, as against a reference, and a second look where it is slower."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from statistics import median

from kevolve.evaluate.baselines import CANDIDATE, open_candidate, positions
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Child, Workers
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.method import method
from kevolve.evaluate.runner import Block, Hack, PairPlan, SideFailed
from kevolve.evaluate.scatter import Scatter
from kevolve.evaluate.series import Series
from kevolve.evaluate.statistics import FEWEST_PAIRS
from kevolve.gate.verdict import LAUNCHED, REPLAYED, Judgement, Look, Rules, judge, slower_forms, wants_more
from kevolve.spec.spec import Case, Spec
from kevolve.targets import Target

OLD = "old"
_DEADLINE_S = 60.0  # for one block


class Untimed(Exception):
    """The two could not be timed against each other; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two kernels of one case on one target. ``scatter``: between processes, where several pairs share them.

    ``budget_s``: what the timed rounds of a look should take; None: as the target's policy says. ``launched``: whether times as
    launched count beside replayed ones, which a busy host does not disturb. ``believed``: whether the new kernel's clock was held against
    the judge's before, in a timing against the reference.
    """

    workers: Workers
    spec: Spec
    case: Case
    old: Candidate
    new: Candidate
    target: Target
    pool: Pool
    scatter: Scatter | None = None
    pairs: int = FEWEST_PAIRS
    budget_s: float | None = None
    launched: bool = True
    believed: bool = False
    clock: Callable[[], float] = time.perf_counter

    def judge(self, rules: Rules, seed: int) -> Judgement:
        """Look once, with more and more pairs while the verdict stays open, and anew in fresh processes where it is slower.

        ``seed``: secret; orders and contents follow from it. Raises ``Untimed``.
        """
        rng = random.Random(seed)
        first = self.look(rules, rng)
        looks = [first] if not slower_forms(first, rules) else [first, self.look(rules, rng)]
        return judge(looks, rules)

    def look(self, rules: Rules, rng: random.Random) -> Look:
        """One look, its processes its own. Raises ``Untimed``."""
        series = self._series(rng)
        wanted = 1 if self.target.modelled else self.pairs
        try:
            series.run(wanted)
            while series.pairs and self._wants_more(series, rules):
                series.run(len(series.pairs))
        except SideFailed as failed:
            raise Untimed(f"the new kernel failed while it was timed: {failed.error.message}") from failed
        except Hack as hack:
            raise Untimed(str(hack)) from hack
        if OLD in series.unavailable:
            raise Untimed(f"the old kernel failed while it was timed: {series.unavailable[OLD]}")
        overclaimed = None if self.believed else series.overclaimed()
        if overclaimed is not None:
            starved = series.starved()
            raise Untimed(f"{overclaimed}; that proves nothing here: {starved}" if starved else overclaimed)
        return self._read(series)

    def _wants_more(self, series: Series, rules: Rules) -> bool:
        return not self.target.modelled and wants_more(self._read(series), rules, first=self.pairs, policy=self.target.blocks)

    def _series(self, rng: random.Random) -> Series:
        sides = {CANDIDATE: lambda: self._open(self.new), OLD: lambda: self._open(self.old)}
        workers, target = self.workers, self.target
        return Series(sides, self._plan(), rng, alone=partial(workers.alone, target), beside=lambda: workers.holds.shared(target))

    def _open(self, candidate: Candidate) -> AbstractContextManager[Child]:
        return open_candidate(self.workers, self.spec, candidate, target=self.target, pool=self.pool)

    def _plan(self) -> PairPlan:
        seconds = self.target.blocks.budget_s if self.budget_s is None else self.budget_s
        return PairPlan(
            policy=self.target.blocks,
            pool=self.pool,
            mutates=positions(self.spec, self.spec.mutates),
            budget_s=seconds / self.pairs,
            deadline_s=_DEADLINE_S,
            exact=self.target.modelled,
            clock=self.clock,
            answers=False,  # outputs were compared before, and those of timed calls are in the timing against the reference
            kept=False,
        )

    def _read(self, series: Series) -> Look:
        """The intervals of every form that both sides have: a launched call is never held against a replayed one."""
        forms = self._forms(series)
        return Look(
            ratios={form: series.speedup_in(OLD, self.scatter, replayed=form == REPLAYED) for form in forms},
            old_us={form: _typical(series.blocks(OLD), form) for form in forms},
            new_us={form: _typical(series.blocks(CANDIDATE), form) for form in forms},
            pairs=len(series.pairs),
            log_ratios={form: series.log_ratios_in(OLD, replayed=form == REPLAYED) for form in forms},
            method=method(series, self.target, self.scatter, compared=f"; {' and '.join(forms)} times, the same form of both kernels"),
        )

    def _forms(self, series: Series) -> list[str]:
        blocks = [*series.blocks(CANDIDATE), *series.blocks(OLD)]
        replayed = all(block.replayed_us is not None for block in blocks)
        if not replayed and not self.launched:
            raise Untimed("its calls cannot be captured, and as launched they would be timed beside other workers")
        return [form for form, there in ((REPLAYED, replayed), (LAUNCHED, self.launched or not replayed)) if there]


def _typical(blocks: list[Block], form: str) -> float:
    return median(block.in_form(replayed=form == REPLAYED) for block in blocks)
