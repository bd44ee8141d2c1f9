"""What is likely to be fast: a Gaussian process over the settings of a family's knobs, and the expected improvement under it.

The logarithm of the fitness is modelled (Rasmussen and Williams 2006, chapters 2 and 5). Two settings are alike as far as each knob is:
by the distance of its values on their ladder where they are numbers, else equal or not. Half of the likeness is the product over the
knobs (interactions), half their mean (effects that add up). How far each knob reaches is fitted to what was measured. The next setting
is the one with the greatest expected improvement (Jones et al. 1998), times the probability that it works at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import random

Floats: TypeAlias = NDArray[np.float64]
Values: TypeAlias = tuple[Any, ...]  # a setting: one value a knob, in the knobs' order

WORTHWHILE = 1e-5  # expected improvement of the fitness, as a part of it, below which nothing more is proposed

_RATES = (0.03, 0.1, 0.3, 0.8, 2.0, 5.0)  # how fast likeness falls along a knob's ladder
_RATE = 0.5  # before anything is known
_PRIOR = 0.5  # how much it takes to move from there
_NOISES = (1e-3, 3e-2)  # of a measurement, as a part of the variance
_SUM = 0.5  # of the likeness, what adds up over the knobs
_SWEEPS = 2
_SLIGHT = 0.01  # spread of the results below which they are taken for equal
_FEW = 3  # results from which the rates are fitted
_MOST = 96  # results that are fitted to: the fittest, and the latest
_WORKING, _DOUBT = 0.9, 0.05  # of settings nothing is known of; noise of whether one works


class Ladders:
    """Each knob's values as numbers: places on a ladder from 0 to 1, or categories."""

    def __init__(self, knobs: Mapping[str, Sequence[Any]]) -> None:
        self._places: list[dict[Any, float]] = []
        self._ordered: list[bool] = []
        for values in knobs.values():
            ordered = len(values) > 2 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
            ladder = sorted(values) if ordered else list(values)
            step = max(1, len(ladder) - 1) if ordered else 1
            self._places.append({value: rung / step for rung, value in enumerate(ladder)})
            self._ordered.append(ordered)

    def places(self, settings: Sequence[Values]) -> Floats:
        """[settings, knobs]."""
        rows = [[places[value] for places, value in zip(self._places, setting, strict=True)] for setting in settings]
        return np.array(rows, dtype=np.float64).reshape(len(settings), len(self._places))

    def distances(self, one: Floats, other: Floats) -> Floats:
        """[knobs, settings of one, settings of other], from 0 to 1."""
        apart = np.abs(one.T[:, :, None] - other.T[:, None, :])
        for knob, ordered in enumerate(self._ordered):
            if not ordered:
                apart[knob] = apart[knob] > 0
        return apart


def choose(
    knobs: Mapping[str, Sequence[Any]],
    fitness: Mapping[Values, float],
    candidates: Sequence[Values],
    count: int,
    random: random.Random,
) -> list[Values]:
    """At most ``count`` of ``candidates``, the most promising first. ``fitness``: what is known by setting, 0 where it fails.

    A second choice supposes that the first turned out as expected. Equally promising ones are drawn by ``random``. Empty where no
    candidate is expected to gain ``WORTHWHILE``.
    """
    working = _recent({setting: math.log(value) for setting, value in fitness.items() if value > 0})
    left, chosen = list(candidates), list[Values]()
    if not working:
        return []
    ladders = Ladders(knobs)
    rates, noise = _fitted(ladders, list(working), _standard(working))
    works = _chances(ladders, fitness, left)
    known, results = list(working), _standard(working)
    scale = max(float(np.std(list(working.values()))), _SLIGHT) if len(working) > _FEW else math.inf
    while left and len(chosen) < count:
        mean, deviation = _posterior(ladders, known, results, left, rates, noise)
        score = _improvement(mean, deviation, float(results.max())) * works
        if float(score.max()) * scale < WORTHWHILE:
            break
        place = _drawn(score, random)
        known, results = [*known, left[place]], np.append(results, mean[place])
        chosen.append(left.pop(place))
        works = np.delete(works, place)
    return chosen


def _recent(logs: dict[Values, float]) -> dict[Values, float]:
    """The fittest and the latest, where there are many: fitting takes their number's cube."""
    if len(logs) <= _MOST:
        return logs
    fittest = sorted(logs, key=lambda setting: -logs[setting])[: _MOST // 2]
    kept = dict.fromkeys([*fittest, *list(logs)[-_MOST // 2 :]])
    return {setting: logs[setting] for setting in kept}


def _standard(logs: Mapping[Values, float]) -> Floats:
    values = np.array(list(logs.values()), dtype=np.float64)
    return np.asarray((values - values.mean()) / (values.std() or 1.0), dtype=np.float64)


def _likeness(distances: Floats, rates: Floats) -> Floats:
    each = np.exp(-rates[:, None, None] * distances)
    return np.asarray((1 - _SUM) * each.prod(0) + _SUM * each.mean(0), dtype=np.float64)


def _fitted(ladders: Ladders, settings: Sequence[Values], results: Floats) -> tuple[Floats, float]:
    """The rate of each knob and the noise under which the results are likeliest, one changed at a time."""
    places = ladders.places(settings)
    distances = ladders.distances(places, places)
    each = {rate: np.exp(-rate * distances) for rate in (*_RATES, _RATE)}
    rates, noise = [_RATE] * len(distances), _NOISES[0]
    if len(settings) < _FEW:
        return np.array(rates), noise
    least = _surprise([each[_RATE][knob] for knob in range(len(rates))], rates, noise, results)
    for _ in range(_SWEEPS):
        for knob in range(len(rates)):
            parts = [each[rate][place] for place, rate in enumerate(rates)]
            for rate in _RATES:
                tried = [*rates[:knob], rate, *rates[knob + 1 :]]
                found = _surprise([*parts[:knob], each[rate][knob], *parts[knob + 1 :]], tried, noise, results)
                if found < least:
                    least, rates = found, tried
        parts = [each[rate][place] for place, rate in enumerate(rates)]
        noise = min(_NOISES, key=lambda tried: _surprise(parts, rates, tried, results))
        least = _surprise(parts, rates, noise, results)
    return np.array(rates), noise


def _surprise(parts: Sequence[Floats], rates: Sequence[float], noise: float, results: Floats) -> float:
    """The negative logarithm of the results' likelihood, their variance being whatever suits best, and of the rates' prior."""
    product = parts[0].copy()
    for part in parts[1:]:
        product *= part
    likeness = (1 - _SUM) * product + (_SUM / len(parts)) * sum(parts)
    likeness[np.diag_indices_from(likeness)] += noise
    try:
        lower = np.linalg.cholesky(likeness)
    except np.linalg.LinAlgError:
        return math.inf
    white = np.linalg.solve(lower, results)
    variance = max(float(white @ white) / len(results), 1e-6)
    prior = sum(math.log(rate / _RATE) ** 2 for rate in rates)
    return 0.5 * len(results) * math.log(variance) + float(np.log(np.diag(lower)).sum()) + _PRIOR * prior


def _posterior(
    ladders: Ladders, known: Sequence[Values], results: Floats, asked: Sequence[Values], rates: Floats, noise: float
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the standardised result of each of ``asked``."""
    given, wanted = ladders.places(known), ladders.places(asked)
    likeness = _likeness(ladders.distances(given, given), rates) + noise * np.eye(len(known))
    lower = np.linalg.cholesky(likeness)
    across = np.linalg.solve(lower, _likeness(ladders.distances(given, wanted), rates))
    white = np.linalg.solve(lower, results)
    variance = max(float(white @ white) / len(results), 0.05) if len(results) > 1 else 1.0
    left = np.maximum(1 - (across * across).sum(0), 1e-9) * variance
    return across.T @ white, np.sqrt(left)


def _improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Expected improvement over ``best``."""
    ahead = (mean - best) / deviation
    density = np.exp(-ahead * ahead / 2) / math.sqrt(2 * math.pi)
    below = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in ahead])
    return np.asarray(deviation * (ahead * below + density), dtype=np.float64)


def _chances(ladders: Ladders, fitness: Mapping[Values, float], asked: Sequence[Values]) -> Floats:
    """The probability that each of ``asked`` works."""
    if all(value > 0 for value in fitness.values()):
        return np.ones(len(asked))
    recent = list(fitness)[-_MOST:]
    given, wanted = ladders.places(recent), ladders.places(asked)
    rates = np.ones(given.shape[1])
    likeness = _likeness(ladders.distances(given, given), rates) + _DOUBT * np.eye(len(recent))
    worked = np.array([float(fitness[setting] > 0) for setting in recent]) - _WORKING
    expected = _WORKING + _likeness(ladders.distances(wanted, given), rates) @ np.linalg.solve(likeness, worked)
    return np.asarray(np.clip(expected, 0.02, 1.0), dtype=np.float64)


def _drawn(score: Floats, random: random.Random) -> int:
    """One of the greatest."""
    return int(random.choice([int(place) for place in np.flatnonzero(score >= score.max() * (1 - 1e-9))]))
