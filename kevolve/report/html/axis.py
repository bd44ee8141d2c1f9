"""Logarithmic axes: where a value lies, as a share of the axis, and which values get a tick."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kevolve.report import text

_STEPS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0))  # ticks within a decade: few, some, many
_MOST_TICKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAxis:
    """From ``low`` to ``high``, both positive."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where ``value`` lies: 0 at ``low``, 1 at ``high``; values beyond the ends lie at the ends."""
        inside = min(max(value, self.low), self.high)
        return math.log(inside / self.low) / math.log(self.high / self.low)

    def ticks(self, most: int = _MOST_TICKS) -> Sequence[float]:
        """Round values on the axis, as many as there is room for."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = [self.low, self.high]
        for steps in _STEPS:
            inside = [step * 10.0**decade for decade in decades for step in steps]
            inside = [value for value in inside if self.low * 0.999 <= value <= self.high * 1.001]
            if len(inside) > most:
                break
            if len(inside) >= 2:
                found = inside
        every = math.ceil(len(found) / most)
        return found[::every]


def around(values: Iterable[float], *, room: float = 1.12, least: float = 2.0) -> LogAxis | None:
    """An axis that holds the positive, finite ``values`` with ``room`` (a factor) at both ends, spanning at least a factor ``least``."""
    found = [value for value in values if value > 0 and math.isfinite(value)]
    if not found:
        return None
    low, high = min(found) / room, max(found) * room
    missing = math.sqrt(max(1.0, least / (high / low)))
    return LogAxis(low=low / missing, high=high * missing)


def short(value: float) -> str:
    """A tick's text: ``0.5``, ``2``, ``30``, ``1000``."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value >= 0.01 else text.digits(value)


def time(us: float) -> str:
    """A tick's text in a readable unit: ``5 µs``, ``20 ms``."""
    for unit, size in (("µs", 1.0), ("ms", 1e3)):
        if us < 999.5 * size:
            return f"{short(us / size)} {unit}"
    return f"{short(us / 1e6)} s"


def clock(us: float | None) -> str:
    """``text.time`` as print writes it: ``18.2 µs``; empty for None."""
    return text.time(us).replace("us", "µs")
