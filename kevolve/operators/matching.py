"""Which samples fit a reference: by its traced graph, never by a name."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.operators.trace import REFUSALS, Trace, trace_function

MOST_ORDERS = 24  # permutations of the inputs tried for one sample
MOST_BINDINGS = 36  # assignments of the reference's constants to the sample's


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A sample that computes the reference.

    ``order``: the pattern's k-th input is the reference's ``order[k]``-th. ``constants``: the reference's values by the sample's names.
    ``exact``: whether the graphs are equal; otherwise the formula is written differently and gives the same on the traced inputs.
    """

    sample: Sample
    order: tuple[int, ...]
    constants: Mapping[str, float]
    exact: bool


def fits(trace: Trace, samples: Sequence[Sample]) -> tuple[Fit, ...]:
    """The samples that fit, those with equal graphs first. Empty where the reference could not be traced."""
    if trace.problem is not None:
        return ()
    found = [fit for sample in samples if (fit := _fit(trace, sample)) is not None]
    return tuple(sorted(found, key=lambda fit: not fit.exact))


def _fit(trace: Trace, sample: Sample) -> Fit | None:
    """How ``sample`` fits, preferring an equal graph to equal values."""
    by_value: Fit | None = None
    for order in itertools.islice(_orders(sample, trace.values), MOST_ORDERS):
        for bound in itertools.islice(_bindings(sample, trace.constants), MOST_BINDINGS):
            for pattern in sample.patterns:
                same = _compare(trace, pattern, order, {sample.constants[name]: value for name, value in bound.items()})
                if same == "graph":
                    return Fit(sample=sample, order=order, constants=bound, exact=True)
                if same == "values" and by_value is None:
                    by_value = Fit(sample=sample, order=order, constants=bound, exact=False)
    return by_value


def _compare(trace: Trace, pattern: Callable[..., Any], order: tuple[int, ...], substitute: Mapping[float, float]) -> str | None:
    """``"graph"``, ``"values"`` or None."""
    try:
        other = trace_function(pattern, trace.values, order=order, substitute=substitute)
    except REFUSALS:
        return None  # the pattern does not take such inputs
    if other.outputs == trace.outputs:
        return "graph"
    return "values" if _same_values(trace.results, other.results) else None


def _same_values(expected: Sequence[Any], got: Sequence[Any]) -> bool:
    import torch

    if len(expected) != len(got) or not all(isinstance(item, torch.Tensor) for item in (*expected, *got)):
        return False
    for first, second in zip(expected, got, strict=True):
        if first.shape != second.shape or not first.numel() or first.is_floating_point() != second.is_floating_point():
            return False
        loose = first.is_floating_point() and first.element_size() < 4
        wide = (first.double(), second.double())
        if not torch.allclose(*wide, rtol=2e-2 if loose else 1e-4, atol=1e-2 if loose else 1e-6, equal_nan=True):
            return False
    return True


def _bindings(sample: Sample, constants: Sequence[float]) -> Iterator[dict[str, float]]:
    names = tuple(sample.constants)
    for chosen in itertools.product(tuple(dict.fromkeys(constants)), repeat=len(names)):
        yield dict(zip(names, chosen, strict=True))


def _orders(sample: Sample, values: Sequence[Any]) -> Iterator[tuple[int, ...]]:
    """The orders of the reference's inputs in which each has the kind and rank of the pattern's; its own order first."""
    wanted = _signature(sample)
    given = tuple(_type_of(value) for value in values)
    if sorted(wanted) != sorted(given):
        return
    for order in itertools.permutations(range(len(given))):
        if all(given[place] == want for place, want in zip(order, wanted, strict=True)):
            yield order


@functools.cache
def _signatures() -> dict[str, tuple[str, ...]]:
    return {}


def _signature(sample: Sample) -> tuple[str, ...]:
    known = _signatures()
    if sample.name not in known:
        known[sample.name] = tuple(_described(item) for item in sample.example())
    return known[sample.name]


def _described(item: Any) -> str:
    from kevolve.spec.dtypes import DTYPES
    from kevolve.spec.inputs import Tensor

    if isinstance(item, Tensor):
        return f"{DTYPES[item.dtype].kind}[{len(item.shape)}]"
    return type(item).__name__


def _type_of(value: Any) -> str:
    import torch

    from kevolve.operators.recorder import kind

    return f"{kind(value)}[{value.dim()}]" if isinstance(value, torch.Tensor) else type(value).__name__
