"""What a set of paired timings says: log ratios, their interval over process pairs, and the verdict.

The unit of replication is a process pair. Inside a pair the sides take turns in palindromic rounds (A B B A, or A B C C B A), so
that a steady drift adds the same to each; the pair's figure is the mean log ratio over its rounds; the interval is Student's
over pairs, wider by what pairs of the same processes share.

Means of logs, not medians of ratios: under A B B A order a median of ratios was biased (1.22 for equal kernels).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from kevolve.evaluate.outcome import Status

# 99%: of 100 verdicts on equal kernels at least 95 must cover 1, and Student's interval is only as good as its assumptions.
CONFIDENCE = 0.99
FEWEST_PAIRS = 7
OUTLIER = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A speedup (baseline time over candidate time) and its confidence interval."""

    estimate: float
    low: float
    high: float

    def covers(self, value: float) -> bool:
        """Whether ``value`` lies inside, ends included."""
        return self.low <= value <= self.high


def block_mean(times: Sequence[float], *, trim: float = 0.0) -> float:
    """The mean of a block's times, those beyond twice their median counted as that.

    ``trim``: the share of the shortest and of the longest times that is left out first (a device's clock knows no interruptions of the
    host's but waits for its launches).

    A call that the system interrupted for milliseconds says nothing of a kernel of microseconds. Both sides are cut alike, and the
    judge's own clock, which cuts nothing, bounds what a kernel could hide there. Raises ``ValueError`` for none.
    """
    if not times:
        raise ValueError("a block: expected at least one time, got none")
    cut = int(trim * len(times))
    kept = sorted(times)[cut : len(times) - cut]
    most = OUTLIER * median(times)
    return math.fsum(min(value, most) for value in kept) / len(kept)


def round_log_ratio(baseline: Sequence[float], candidate: Sequence[float]) -> float:
    """The log speedup of one palindromic round: each side's block times in any unit, as many of one side as of the other.

    Raises ``ValueError`` for unequal or empty sides and for times that are not finite and positive.
    """
    if len(baseline) != len(candidate) or not baseline:
        raise ValueError(f"a round: expected as many blocks of each side, got {len(baseline)} and {len(candidate)}")
    return math.log(geometric_mean(baseline)) - math.log(geometric_mean(candidate))


def pair_log_ratio(rounds: Sequence[float]) -> float:
    """A pair's figure: the mean of its rounds' log ratios. Raises ``ValueError`` for none."""
    if not rounds:
        raise ValueError("a pair: expected at least one round, got none")
    return math.fsum(rounds) / len(rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all pairs have in common and their scatter does not show: the ``deviation`` of a log ratio, from ``count`` observations."""

    deviation: float
    count: int


def interval(log_ratios: Sequence[float], *, confidence: float = CONFIDENCE, shared: Shared | None = None) -> Interval:
    """Student's interval over pairs, from log ratios to ratios.

    ``shared``: an error of its own, whose half width is added in quadrature. One pair (a modelled target's, exact) gives an interval of
    no width. Raises ``ValueError`` for none or for one that is not finite.
    """
    if not log_ratios or not all(math.isfinite(value) for value in log_ratios):
        raise ValueError(f"an interval: expected finite log ratios of at least one pair, got {list(log_ratios)}")
    count = len(log_ratios)
    mean = math.fsum(log_ratios) / count
    if count == 1:
        return Interval(estimate=math.exp(mean), low=math.exp(mean), high=math.exp(mean))
    variance = math.fsum((value - mean) ** 2 for value in log_ratios) / (count - 1)
    half = student_quantile(0.5 + confidence / 2, count - 1) * math.sqrt(variance / count)
    if shared is not None:
        half = math.hypot(half, student_quantile(0.5 + confidence / 2, shared.count - 1) * shared.deviation)
    return Interval(estimate=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half))


@functools.cache
def student_quantile(probability: float, freedom: int) -> float:
    """The ``probability`` quantile of Student's t, at least 0.5, by bisection of its finite series (Abramowitz & Stegun 26.7.3, 26.7.4)."""
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"student's t: expected 0.5 <= probability < 1 and freedom >= 1, got {probability}, {freedom}")
    low, high = 0.0, math.pi / 2  # the angle whose tangent is t / sqrt(freedom)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_area(middle, freedom) < 2 * probability - 1 else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def _central_area(angle: float, freedom: int) -> float:
    """P(|T| < tan(angle) sqrt(freedom))."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        numerator = 2 * step + (2 if odd else 1)
        term *= cosine * cosine * numerator / (numerator + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def verdict(speedup: Interval | None, min_speedup: float) -> Status:
    """The gate for a correct kernel: it fails only when it is *significantly* slower than asked."""
    if speedup is None:
        return Status.NOT_MEASURED
    return Status.TOO_SLOW if speedup.high < min_speedup else Status.PASSED


def accepts(speedup: Interval | None, min_speedup: float) -> bool:
    """What a new kernel must show before it replaces another: the whole interval at or above ``min_speedup``."""
    return speedup is not None and speedup.low >= min_speedup


def undecided(speedup: Interval, threshold: float) -> bool:
    """Whether more pairs could still change what ``accepts`` and ``verdict`` say."""
    return speedup.low < threshold <= speedup.high


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean. Raises ``ValueError`` for none, and for any value that is not finite and positive: one 0 or inf would win it."""
    given = list(values)
    if not given or not all(math.isfinite(value) and value > 0 for value in given):
        raise ValueError(f"a geometric mean: expected finite positive values, got {given}")
    return math.exp(math.fsum(math.log(value) for value in given) / len(given))
