"""Draws near the benchmark's cases, where paths written for these sizes alone are taken: in several layouts and distributions.

Sizes drawn at random hardly ever meet a case's. What a kernel does for a case's very sizes would else be looked at in timed calls alone,
with contiguous inputs of normal contents.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kevolve.evaluate.draws import INTERPRETED_SIZE, distributions, smallest_values
from kevolve.evaluate.materialise import elements
from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.inputs import LAYOUTS
from kevolve.spec.spec import Draw, Spec

NEAR_ELEMENTS = 1 << 22  # all of them together
MOST = 60
_SMALL = (3, 2, 5)  # in place of one of a case's sizes: each with another layout, so that no two draws have the same sizes
_STRIDED = tuple(layout for layout in LAYOUTS if layout != "contiguous")


def near_cases(spec: Spec, *, seed: int, cap: int | None) -> list[Draw]:
    """Draws of the cases' sizes as far as the declared domain goes, whole and with one size small, those of the fewest elements first.

    No two have the same sizes: a kernel that remembers answers by them is told so by the draws that are made for that (``rewritten``), not
    by one that is right when it is replayed alone. At most ``NEAR_ELEMENTS`` elements, each at most ``cap``; under a cap no size beyond
    what an interpreter can take as its grid.
    """
    generator = random.Random(f"{seed}:near")
    axes = [name for name, domain in spec.vary.items() if isinstance(domain, Sizes)]
    if not axes:
        return []
    draws: dict[str, Draw] = {}
    for case in spec.cases:
        for draw in _variants(spec, axes, case.values, generator):
            draws.setdefault(_sizes(draw, axes), draw)
    costs = {key: elements(spec, draw.values) for key, draw in draws.items()}
    left, found = NEAR_ELEMENTS, list[Draw]()
    for key in sorted(draws, key=lambda key: (costs[key], key)):
        if cap is not None and (costs[key] > cap or max(draws[key].values[name] for name in axes) > INTERPRETED_SIZE):
            continue
        if costs[key] > left or len(found) == MOST:
            break
        left -= costs[key]
        found.append(draws[key])
    return found


def _sizes(draw: Draw, axes: Sequence[str]) -> str:
    return str([draw.values[name] for name in axes])


def _variants(spec: Spec, axes: Sequence[str], given: Mapping[str, Any], generator: random.Random) -> Iterator[Draw]:
    """The case within the domain, strided; and with each size in turn small, contiguous and strided."""
    whole = {name: _within(spec, name, given.get(name, least)) for name, least in smallest_values(spec).items()}
    yield _near(whole, generator, "normal", generator.choice(_STRIDED))
    for name in axes:
        layouts = ("contiguous", *generator.sample(_STRIDED, len(_SMALL) - 1))
        for size, layout in zip(generator.sample(_SMALL, len(_SMALL)), layouts, strict=True):
            small = _within(spec, name, size)
            if small < whole[name]:
                values = {**whole, name: small}
                distribution = generator.choice(distributions(spec, values)) if layout == "contiguous" else "normal"
                yield _near(values, generator, distribution, layout)


def _near(values: Mapping[str, Any], generator: random.Random, distribution: str, layout: str) -> Draw:
    return Draw(values=dict(values), seed=generator.getrandbits(40), distribution=distribution, layout=layout, origin="near")


def _within(spec: Spec, name: str, value: Any) -> Any:
    domain = spec.vary.get(name)
    if isinstance(domain, Sizes):
        return min(max(int(value), domain.low), domain.high)
    allowed = domain.values if isinstance(domain, Choices) else spec.choices.get(name, (value,))
    return value if value in allowed else allowed[0]
