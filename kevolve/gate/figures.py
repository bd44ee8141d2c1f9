"""Two kernels' figures side by side: which launch of the new one answers which of the old, and what is beyond its allowance. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kevolve.gate.allowance import allowance
from kevolve.report.values import Figure

# Of a case's launches together: the most demanding one; what is not named is added up.
_MOST = ("registers", "scalar_registers", "spills", "shared_bytes")
_LEAST = ("occupancy", "load_width", "store_width")
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel as launched for a case, and its figures by name."""

    kernel: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One source's launches by case, in order; or the ``problem`` that kept it from having any."""

    launches: Mapping[str, tuple[Launch, ...]] = field(default_factory=dict)
    problem: str = ""


def compared(where: str, old: Side, new: Side, *, declared: Mapping[str, float], possible: str) -> tuple[Figure, ...]:
    """Every figure that both sides have, with its allowance; those of one pair of kernels only once, at the first case.

    A side with a problem has none: one figure ``possible`` (1 or 0) stands for them, with the problem in ``extra["message"]``.

    ``where``: ``"sm90"``, ``"interpreter"``; ``possible``: the figure (of ``POSSIBLE``) that says that there are launches at all.
    """
    if old.problem or new.problem:  # where the old one had none either, there was nothing that could get worse: it passes, and says why
        before, after = float(not old.problem), float(not new.problem)
        extra = {"message": (new.problem or old.problem)[:_LONGEST_MESSAGE]}
        return (Figure(name=possible, where=where, old=before, new=after, allowed=before, least=True, extra=extra),)
    seen: set[str] = set()
    found: list[Figure] = []
    for case, launched in old.launches.items():
        for first, second in paired(launched, new.launches.get(case, ())):
            key = repr((first, second))
            if key not in seen:
                found += _figures(f"{where} {second.kernel}[{case}]", first, second, declared)
            seen.add(key)
    return tuple(found)


def paired(old: Sequence[Launch], new: Sequence[Launch]) -> Iterator[tuple[Launch, Launch]]:
    """Launches that answer each other: by their order where there are as many, else all of them together."""
    if len(old) == len(new):
        yield from zip(old, new, strict=True)
    elif old and new:
        yield _together(old), _together(new)


def _together(launches: Sequence[Launch]) -> Launch:
    names = {name: None for launch in launches for name in launch.figures}
    figures = {name: _joined(name, [launch.figures[name] for launch in launches if name in launch.figures]) for name in names}
    return Launch(kernel="+".join(dict.fromkeys(launch.kernel for launch in launches)), figures=figures)


def _joined(name: str, values: Sequence[float]) -> float:
    if name in _MOST:
        return max(values)
    return min(values) if name in _LEAST else math.fsum(values)


def _figures(where: str, old: Launch, new: Launch, declared: Mapping[str, float]) -> Iterator[Figure]:
    for name in old.figures:
        if name in new.figures:
            allowed = allowance(name, declared)
            bound = round(allowed.bound(old.figures[name]), 6)
            yield Figure(name=name, where=where, old=old.figures[name], new=new.figures[name], allowed=bound, least=allowed.least)


def fails(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Those beyond their allowance, worst first; of equally bad ones the first."""
    return tuple(sorted((figure for figure in figures if figure.beyond), key=lambda figure: -excess(figure)))


def excess(figure: Figure) -> float:
    """How many times worse than allowed a figure is: above 1 it fails; infinite where nothing was allowed."""
    worse, better = (figure.allowed, figure.new) if figure.least else (figure.new, figure.allowed)
    if worse <= better:
        return worse / better if better else 1.0
    return worse / better if better > 0 else math.inf
