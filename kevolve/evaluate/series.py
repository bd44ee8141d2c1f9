"""The pairs of one measurement, and what they say together."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from statistics import median

from kevolve.evaluate.baselines import CANDIDATE, EAGER, Opener
from kevolve.evaluate.pairs import Answer, Block, Pair, PairPlan, SideFailed, Sizes, run_pair
from kevolve.evaluate.statistics import pair_log_ratio, round_log_ratio

# How much slower than it claims the judge's clock must find a candidate, in every pair, before that is no accident.
_BOUND_RATIO = 1.5
_BOUND_US = 10.0


class Series:
    """The pairs of one measurement so far."""

    def __init__(self, sides: Mapping[str, Opener], plan: PairPlan, rng: random.Random) -> None:
        self.plan = plan
        self.rng = rng
        self.pairs: list[Pair] = []
        self.unavailable: dict[str, str] = {}
        self._sides = dict(sides)
        self._sizes: Sizes | None = None

    def run(self, count: int) -> None:
        """``count`` pairs more. A baseline that fails is left out from then on; what it gave before does not count."""
        wanted = len(self.pairs) + count
        while len(self.pairs) < wanted and len(self._sides) > 1:
            try:
                pair, self._sizes = run_pair(self._sides, self.plan, self._sizes, self.rng)
            except SideFailed as failed:
                if failed.side == CANDIDATE:
                    raise
                self.unavailable[failed.side] = failed.error.message
                del self._sides[failed.side]
            else:
                self.pairs.append(pair)

    @property
    def baselines(self) -> list[str]:
        """The baselines that every pair has."""
        return [side for side in self._sides if side != CANDIDATE]

    @property
    def answers(self) -> list[Answer]:
        """The timed calls to verify."""
        return [pair.answer for pair in self.pairs if pair.answer is not None]

    @property
    def repeated(self) -> bool:
        """Whether a process met contents twice."""
        return any(pair.repeated for pair in self.pairs)

    def blocks(self, side: str) -> list[Block]:
        """A side's blocks over all pairs."""
        return [block for pair in self.pairs for block in pair.blocks[side]]

    def log_ratios(self, baseline: str) -> list[float]:
        """A log speedup a pair. Eager is taken as launched; any other in its faster form, against the candidate's faster form."""
        return [pair_log_ratio(_rounds(pair, baseline)) for pair in self.pairs]

    def overclaimed(self) -> str | None:
        """Why the candidate's clock is not to be believed: the judge's found it slower in every pair; or None."""
        ratios = []
        for pair in self.pairs:
            claimed = _mean_us(pair.blocks[CANDIDATE])
            if pair.host_us is None or pair.host_us < _BOUND_RATIO * claimed + _BOUND_US:
                return None
            ratios.append(pair.host_us / claimed)
        return f"takes {median(ratios):.1f} times what its process claims by the judge's clock, in every pair" if ratios else None


def _mean_us(blocks: Sequence[Block]) -> float:
    return math.fsum(block.launched_us for block in blocks) / len(blocks)


def forms(blocks: Sequence[Block]) -> dict[str, float | None]:
    """Medians over blocks, microseconds a call: ``launched``, and ``replayed`` or None."""
    replayed = [block.replayed_us for block in blocks if block.replayed_us is not None]
    return {"launched": median(block.launched_us for block in blocks), "replayed": median(replayed) if replayed else None}


def faster(times: Mapping[str, float | None]) -> float:
    """The faster of the forms."""
    return min(value for value in times.values() if value is not None)


def _rounds(pair: Pair, baseline: str) -> list[float]:
    def figures(side: str) -> list[float]:
        return [block.launched_us if baseline == EAGER else block.fastest_us() for block in pair.blocks[side]]

    slow, fast = figures(baseline), figures(CANDIDATE)
    return [round_log_ratio(slow[place : place + 2], fast[place : place + 2]) for place in range(0, len(fast), 2)]
