"""The model under tuning: it learns which knobs matter, keeps away from what fails, and ends."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import numpy as np

from kevolve.operators.surrogate import Ladders, choose

KNOBS = {
    "block": (64, 16, 32, 128, 256),
    "warps": (4, 1, 2, 8),
    "order": ("rows", "cols"),
    "hint": ("plain", "once", "keep"),
    "idle": (0, 1, 2),
}
SPACE = list(itertools.product(*KNOBS.values()))


def speed(setting: tuple) -> float:
    """Two knobs that interact, one that adds, one that does nothing; large blocks of few warps fail."""
    block, warps, order, hint, _ = setting
    if block >= 256 and warps == 1:
        return 0.0
    fit = abs(math.log2(block / (32 * warps)))
    return (2.0 if order == "cols" else 1.0) * {"plain": 1.0, "once": 1.1, "keep": 0.7}[hint] / (1 + 0.3 * fit + 0.2 * abs(warps - 4))


def evaluations(seed: int, first: tuple) -> int:
    """Until a setting within 5% of the best."""
    chance, goal = random.Random(seed), max(map(speed, SPACE)) / 1.05
    known = {first: speed(first)}
    while max(known.values()) < goal:
        left = [setting for setting in SPACE if setting not in known]
        chosen = choose(KNOBS, known, left, 1, chance)
        if not chosen:
            return len(SPACE)
        known[chosen[0]] = speed(chosen[0])
    return len(known)


def test_the_best_is_found_with_a_quarter_of_random_searchs_evaluations() -> None:
    first = (64, 1, "rows", "plain", 0)
    good = sum(speed(setting) * 1.05 >= max(map(speed, SPACE)) for setting in SPACE)
    by_chance = (len(SPACE) + 1) / (good + 1)
    assert statistics.median(evaluations(seed, first) for seed in range(5)) <= by_chance / 4


def test_choices_differ_and_are_candidates() -> None:
    known = {setting: speed(setting) for setting in SPACE[::40]}
    left = [setting for setting in SPACE if setting not in known]
    chosen = choose(KNOBS, known, left, 6, random.Random(0))
    assert len(set(chosen)) == 6
    assert set(chosen) <= set(left)
    assert chosen == choose(KNOBS, known, left, 6, random.Random(0))


def test_where_nothing_works_or_nothing_is_left_there_is_no_choice() -> None:
    assert choose(KNOBS, {SPACE[0]: 0.0}, SPACE[1:], 3, random.Random(0)) == []
    assert choose(KNOBS, {SPACE[0]: 1.0}, [], 3, random.Random(0)) == []


def test_what_fails_is_kept_away_from() -> None:
    """All blocks of 256 that were tried fail, and would else be the most interesting."""
    known = {setting: 0.0 if setting[0] == 256 else setting[0] / 64 for setting in SPACE[::7]}
    left = [setting for setting in SPACE if setting not in known]
    assert all(setting[0] == 128 for setting in choose(KNOBS, known, left, 3, random.Random(0)))


def test_many_results_are_fitted_as_fast_as_a_hundred() -> None:
    known = {setting: speed(setting) + 0.01 for setting in SPACE[:-20]}
    assert choose(KNOBS, known, SPACE[-20:], 1, random.Random(0))


def test_numbers_are_as_far_apart_as_on_their_ladder_and_words_differ() -> None:
    ladders = Ladders(KNOBS)
    places = ladders.places([(16, 1, "rows", "plain", 0), (256, 2, "cols", "keep", 0)])
    np.testing.assert_allclose(ladders.distances(places, places)[:, 0, 1], [1.0, 1 / 3, 1.0, 1.0, 0.0])
