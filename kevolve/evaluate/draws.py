"""The hypothesis strategy behind the plan: sizes, choices, a distribution, a layout, a seed; never elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.control import current_build_context

from kevolve.evaluate.materialise import elements
from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.inputs import DISTRIBUTIONS, LAYOUTS, Tensor
from kevolve.spec.spec import Draw, Spec

TILES = (8, 16, 32, 64, 128, 256, 512, 1024)
PRIMES = (127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)
SCALES = (1 << 12, 1 << 12, 1 << 15, 1 << 15, 1 << 17, 1 << 20)  # the most elements of a draw, by how often
INTERPRETED_SIZE = 520  # of an axis: it may be the grid, and an interpreter takes a millisecond for each instance of a kernel
_SEEDS = 1 << 40
MORE = 3


def drawn(spec: Spec, *, seed: int, cap: int | None, examples: int) -> list[Draw]:
    """At most ``examples`` draws that follow from ``seed``.

    Hypothesis varies what it drew before, which suits the search for a failure and not a plan: more are drawn, and those that differ in
    the seed alone, and most of the empty ones, are left out.
    """
    found: list[Draw] = []
    explore(spec, found.append, seed=seed, cap=cap, examples=MORE * examples, phases=(Phase.generate,))
    distinct = {replace(draw, seed=0).to_json(): draw for draw in reversed(found)}.values()
    ordered = [*reversed(distinct)]
    empty = [draw for draw in ordered if any(draw.values[name] == 0 for name, domain in spec.vary.items() if isinstance(domain, Sizes))]
    left_out = {draw.to_json() for draw in empty[max(1, examples // 25) :]}
    return [draw for draw in ordered if draw.to_json() not in left_out][:examples]


def explore(spec: Spec, visit: Callable[[Draw], None], *, seed: int, cap: int | None, examples: int, phases: tuple[Phase, ...]) -> None:
    """Let hypothesis call ``visit`` with draws; the same arguments generate the same ones. What ``visit`` raises, it may shrink."""

    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(_draws(spec, seed, cap))
    def visited(draw: Draw) -> None:
        visit(draw)

    visited()


def smallest_values(spec: Spec) -> Mapping[str, Any]:
    """Every argument at its least size or first choice; a size is at least 1 where its domain allows."""
    values = {name: given[0] for name, given in spec.choices.items()}
    for name, domain in spec.vary.items():
        values[name] = domain.values[0] if isinstance(domain, Choices) else min(max(1, domain.low), domain.high)
    return values


@st.composite
def _draws(draw: st.DrawFn, spec: Spec, secret: int, cap: int | None) -> Draw:
    _without_constants_of_modules()
    values = dict(smallest_values(spec))
    for name, given_values in _choices(spec).items():
        values[name] = draw(st.sampled_from(given_values))
    axes = [name for name, domain in spec.vary.items() if isinstance(domain, Sizes)]
    scale = draw(st.sampled_from(SCALES)) if axes else SCALES[-1]
    scale = scale if cap is None else min(scale, max(1, cap >> 3))
    first = draw(st.integers(0, len(axes) - 1)) if len(axes) > 1 else 0
    for name in axes[first:] + axes[:first]:
        domain = spec.vary[name]
        assert isinstance(domain, Sizes)
        largest = _largest(spec, values, name, domain, scale)
        largest = largest if cap is None else max(domain.low, min(largest, INTERPRETED_SIZE))
        values[name] = draw(_sizes(domain.low, largest))
    distribution = draw(st.sampled_from(distributions(spec, values)))
    layout = draw(st.sampled_from(LAYOUTS))
    number = draw(st.integers(0, _SEEDS - 1))
    return Draw(
        values={name: values[name] for name in sorted(values)},
        seed=(number + secret * 0x9E3779B1) % _SEEDS,
        distribution=distribution,
        layout=layout,
        origin="drawn",
    )


def _without_constants_of_modules() -> None:
    """Else hypothesis now and then draws a number that it read in some local module, and a seed's plan depends on what was imported.

    A switch of this one example's own, as hypothesis has no setting for it; older versions read no modules.
    """
    provider = current_build_context().data.provider
    if hasattr(provider, "_maybe_draw_constant"):
        provider._maybe_draw_constant = _no_constant


def _no_constant(*_: Any, **__: Any) -> None:
    """Draw at random."""


def _choices(spec: Spec) -> dict[str, tuple[Any, ...]]:
    return dict(spec.choices) | {name: domain.values for name, domain in spec.vary.items() if isinstance(domain, Choices)}


def distributions(spec: Spec, values: Mapping[str, Any]) -> tuple[str, ...]:
    """All of them; infinities only where some tensor takes them."""
    described = spec.describe(**values)
    takes = not callable(described) and any(isinstance(item, Tensor) and item.infinities for item in described)
    return tuple(name for name in DISTRIBUTIONS if takes or name != "infinities")


def _largest(spec: Spec, values: Mapping[str, Any], name: str, domain: Sizes, scale: int) -> int:
    """The greatest size of this axis that keeps the draw within ``scale`` elements (its least size, where none does)."""
    low, high = domain.low, domain.high
    if elements(spec, {**values, name: high}) <= scale:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if elements(spec, {**values, name: middle}) <= scale else (low, middle)
    return low


def _sizes(low: int, high: int) -> st.SearchStrategy[int]:
    """Sizes that kernels get wrong: any, whole tiles and a rest, around powers of two, primes, large. The first shrinks best."""
    if high - low < TILES[0]:
        return st.integers(low, high)
    kinds = [st.integers(low, high), st.integers(low + (high - low) // 2, high)]
    tiles = [tile for tile in TILES if tile <= high]
    if tiles:
        kinds.append(st.sampled_from(tiles).flatmap(lambda tile: _tiled(tile, low, high)))
    powers = [2**power + around for power in range(3, 40) for around in (-1, 0, 1)]
    special = [size for size in (*powers, *PRIMES) if low <= size <= high]
    return st.one_of(*kinds, st.sampled_from(special)) if special else st.one_of(*kinds)


def _tiled(tile: int, low: int, high: int) -> st.SearchStrategy[int]:
    """``tile * q + r`` within the bounds."""
    parts = st.tuples(st.integers(0, high // tile), st.integers(0, tile - 1))
    return parts.map(lambda part: min(high, max(low, tile * part[0] + part[1])))
