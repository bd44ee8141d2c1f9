"""Draws near the benchmark's cases, where paths written for these sizes alone are taken: in several layouts and distributions.

Sizes drawn at random hardly ever meet a case's. What a kernel does for a case's very sizes would else be looked at in timed calls alone,
with contiguous inputs of normal contents.
"""

from __future__ import annotations

import itertools
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
_SMALL = (3, 2, 5)  # in place of one of a case's sizes
_OTHER_LAYOUTS = 2  # of each sizes, beside contiguous ones


def near_cases(spec: Spec, *, seed: int, cap: int | None) -> list[Draw]:
    """Draws of the cases' sizes as far as the declared domain goes, whole and with one size small, those of the fewest elements first.

    At most ``NEAR_ELEMENTS`` elements, each at most ``cap``; under a cap no size beyond what an interpreter can take as its grid.
    """
    generator = random.Random(f"{seed}:near")
    axes = [name for name, domain in spec.vary.items() if isinstance(domain, Sizes)]
    if not axes:
        return []
    sizes = {str(values): values for case in spec.cases for values in _variants(spec, axes, case.values, generator)}
    costs = {key: elements(spec, values) for key, values in sizes.items()}
    left, found = NEAR_ELEMENTS, list[Draw]()
    for key in sorted(sizes, key=lambda key: (costs[key], key)):
        values, cost = sizes[key], (1 + _OTHER_LAYOUTS) * costs[key]
        if cap is not None and (costs[key] > cap or max(values[name] for name in axes) > INTERPRETED_SIZE):
            continue
        if cost > left or len(found) + 1 + _OTHER_LAYOUTS > MOST:
            break
        left -= cost
        found += _laid(spec, values, generator)
    return found


def _variants(spec: Spec, axes: Sequence[str], given: Mapping[str, Any], generator: random.Random) -> Iterator[dict[str, Any]]:
    """The case within the domain, and the same with each size in turn small."""
    whole = {name: _within(spec, name, given.get(name, least)) for name, least in smallest_values(spec).items()}
    yield whole
    for name in axes:
        small = _within(spec, name, generator.choice(_SMALL))
        if small < whole[name]:
            yield {**whole, name: small}


def _within(spec: Spec, name: str, value: Any) -> Any:
    domain = spec.vary.get(name)
    if isinstance(domain, Sizes):
        return min(max(int(value), domain.low), domain.high)
    allowed = domain.values if isinstance(domain, Choices) else spec.choices.get(name, (value,))
    return value if value in allowed else allowed[0]


def _laid(spec: Spec, values: Mapping[str, Any], generator: random.Random) -> Iterator[Draw]:
    """The sizes contiguous with contents of any distribution, and in other layouts with normal ones."""
    others = generator.sample([layout for layout in LAYOUTS if layout != "contiguous"], _OTHER_LAYOUTS)
    first = generator.choice(distributions(spec, values))
    for layout, distribution in itertools.chain([("contiguous", first)], ((layout, "normal") for layout in others)):
        yield Draw(values=dict(values), seed=generator.getrandbits(40), distribution=distribution, layout=layout, origin="near")
