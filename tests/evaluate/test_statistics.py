from __future__ import annotations

import math
import random
from statistics import NormalDist, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevolve.evaluate.outcome import Status
from kevolve.evaluate.statistics import (
    FEWEST_PAIRS,
    Interval,
    Shared,
    accepts,
    block_mean,
    geometric_mean,
    interval,
    pair_log_ratio,
    round_log_ratio,
    student_quantile,
    undecided,
    verdict,
)

TIMES = st.floats(min_value=1e-3, max_value=1e9)
LOGS = st.lists(st.floats(min_value=-5, max_value=5), min_size=2, max_size=30)


@pytest.mark.parametrize(
    "probability, freedom, expected",
    [(0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.995, 3, 5.84091), (0.995, 6, 3.70743), (0.975, 30, 2.04227), (0.995, 13, 3.01228)],
)
def test_the_quantiles_are_those_of_the_printed_tables(probability: float, freedom: int, expected: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-5)


def test_with_much_freedom_the_quantile_is_the_normal_one() -> None:
    assert student_quantile(0.995, 100_000) == pytest.approx(NormalDist().inv_cdf(0.995), rel=1e-4)


@given(st.lists(TIMES, min_size=1, max_size=8), st.floats(min_value=0.01, max_value=100))
def test_a_side_that_takes_k_times_as_long_gives_a_ratio_of_k(times: list[float], factor: float) -> None:
    assert round_log_ratio([time * factor for time in times], times) == pytest.approx(math.log(factor), abs=1e-9)


@given(st.lists(TIMES, min_size=2, max_size=2), st.lists(TIMES, min_size=2, max_size=2))
def test_exchanging_the_sides_changes_only_the_sign(one: list[float], other: list[float]) -> None:
    assert round_log_ratio(one, other) == pytest.approx(-round_log_ratio(other, one), abs=1e-12)


@given(st.floats(min_value=1.0, max_value=1e6), st.floats(min_value=0.5, max_value=2.0))
def test_a_steady_drift_cancels_in_a_palindromic_round(start: float, drift: float) -> None:
    times = [start * drift**step for step in range(4)]  # A B B A of equal kernels, each block slower by the same factor
    assert round_log_ratio([times[0], times[3]], [times[1], times[2]]) == pytest.approx(0, abs=1e-9)


@given(LOGS)
def test_the_interval_holds_its_estimate_and_narrows_with_less_confidence(logs: list[float]) -> None:
    wide, narrow = interval(logs, confidence=0.99), interval(logs, confidence=0.5)
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert wide.low * (1 - 1e-12) <= wide.estimate <= wide.high * (1 + 1e-12)


@given(LOGS, st.floats(min_value=-2, max_value=2))
def test_scaling_every_pair_scales_the_interval(logs: list[float], shift: float) -> None:
    plain, moved = interval(logs), interval([value + shift for value in logs])
    for before, after in ((plain.low, moved.low), (plain.estimate, moved.estimate), (plain.high, moved.high)):
        assert after == pytest.approx(before * math.exp(shift), rel=1e-6)


def test_one_exact_pair_has_an_interval_of_no_width() -> None:
    assert interval([math.log(2.0)]) == Interval(estimate=pytest.approx(2.0), low=pytest.approx(2.0), high=pytest.approx(2.0))


def _noise(kind: str, rng: random.Random) -> float:
    if kind == "normal":
        return rng.gauss(0, 0.05)
    if kind == "outliers":  # one pair in ten stood on a busy core
        return rng.gauss(0, 0.5 if rng.random() < 0.1 else 0.02)
    if kind == "cauchy":
        return 0.02 * math.tan(math.pi * (rng.random() - 0.5))
    return 0.3 * (rng.random() < 0.5) - 0.15 + rng.gauss(0, 0.01)  # two places that memory may lie in


@pytest.mark.parametrize("kind", ["normal", "outliers", "cauchy", "two places"])
@pytest.mark.parametrize("pairs", [FEWEST_PAIRS, 2 * FEWEST_PAIRS])
def test_equal_kernels_are_covered_at_least_97_times_of_100_whatever_the_noise(kind: str, pairs: int) -> None:
    rng = random.Random(17)
    runs = 1500
    covered = sum(interval([_noise(kind, rng) for _ in range(pairs)]).covers(1.0) for _ in range(runs))
    assert covered / runs >= 0.97


def test_what_pairs_share_widens_the_interval_and_keeps_the_coverage() -> None:
    rng = random.Random(29)
    runs, alone, widened = 1500, 0, 0
    for _ in range(runs):
        observed = [rng.gauss(0, 0.02) for _ in range(16)]
        shared = Shared(deviation=math.hypot(stdev(observed), stdev(observed)), count=16)
        offset = rng.gauss(0, 0.02) - rng.gauss(0, 0.02)  # of this verdict's two processes
        logs = [offset + rng.gauss(0, 0.005) for _ in range(FEWEST_PAIRS)]
        alone += interval(logs).covers(1.0)
        widened += interval(logs, shared=shared).covers(1.0)
    assert alone / runs < 0.5
    assert widened / runs >= 0.97


def test_a_second_look_at_twice_the_pairs_keeps_the_coverage() -> None:
    rng = random.Random(23)
    runs, covered = 1500, 0
    for _ in range(runs):
        logs = [_noise("outliers", rng) for _ in range(FEWEST_PAIRS)]
        if undecided(interval(logs), 1.0):
            logs += [_noise("outliers", rng) for _ in range(FEWEST_PAIRS)]
        covered += interval(logs).covers(1.0)
    assert covered / runs >= 0.97


def test_an_interrupted_call_counts_as_twice_the_median() -> None:
    assert block_mean([10.0, 10.0, 10.0, 4000.0]) == pytest.approx(12.5)
    assert block_mean([5.0]) == 5.0


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [1.0, math.inf], [1.0, math.nan], [1.0, -1.0]])
def test_a_geometric_mean_refuses_what_would_win_it(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected finite positive values"):
        geometric_mean(values)


@given(st.lists(st.floats(min_value=1e-3, max_value=1e3), min_size=1, max_size=20))
def test_a_geometric_mean_lies_between_the_least_and_the_greatest(values: list[float]) -> None:
    assert min(values) * (1 - 1e-9) <= geometric_mean(values) <= max(values) * (1 + 1e-9)


@pytest.mark.parametrize(
    "low, high, status, accepted, open_",
    [
        (1.3, 1.5, Status.PASSED, True, False),
        (1.1, 1.3, Status.PASSED, False, True),
        (0.9, 1.1, Status.TOO_SLOW, False, False),
        (1.2, 1.2, Status.PASSED, True, False),
    ],
)
def test_the_gate_fails_only_what_is_significantly_slower_and_accepts_only_what_is_surely_fast_enough(
    low: float, high: float, status: Status, accepted: bool, open_: bool
) -> None:
    speedup = Interval(estimate=(low * high) ** 0.5, low=low, high=high)
    assert verdict(speedup, 1.2) is status
    assert accepts(speedup, 1.2) is accepted
    assert undecided(speedup, 1.2) is open_


def test_nothing_measured_never_passes() -> None:
    assert verdict(None, 1.0) is Status.NOT_MEASURED
    assert not accepts(None, 1.0)


def test_no_pairs_no_rounds_and_unequal_sides_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        interval([])
    with pytest.raises(ValueError, match="at least one round"):
        pair_log_ratio([])
    with pytest.raises(ValueError, match="as many blocks of each side, got 1 and 2"):
        round_log_ratio([1.0], [1.0, 2.0])


def test_a_trimmed_block_leaves_out_its_shortest_and_longest_times() -> None:
    times = [10.0] * 6 + [1.0, 90.0]
    assert block_mean(times, trim=0.125) == 10.0
    assert block_mean(times[:6], trim=0.125) == 10.0
    assert block_mean([3.0], trim=0.25) == 3.0
