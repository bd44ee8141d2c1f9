from __future__ import annotations

import pytest

from kevolve.evaluate.outcome import Status
from kevolve.search.rough import rough

LEAST = {"small": 1.5, "large": 1.0}


def test_the_fitness_is_the_geometric_mean_over_the_cases():
    outcome, fitness = rough({"small": 2.0, "large": 8.0}, LEAST)
    assert (outcome.status, outcome.message, fitness) == (Status.PASSED, "4.00x", pytest.approx(4.0))
    assert outcome.detail == {"speedups": {"small": 2.0, "large": 8.0}}


def test_the_case_that_is_furthest_below_its_own_least_is_named():
    outcome, fitness = rough({"small": 1.0, "large": 0.9}, LEAST)
    assert (outcome.status, fitness) == (Status.TOO_SLOW, pytest.approx(0.9**0.5))
    assert outcome.message == "0.95x, small 1.00x of 1.5x"
