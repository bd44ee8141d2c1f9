"""What hypothesis may draw in place of parametrised values: ``vary=dict(rows=sizes(0, 4096))``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Whole numbers from ``low`` to ``high``, both inclusive; swept one by one up to 1025 and drawn beyond."""

    low: int
    high: int

    def problems(self) -> Iterator[str]:
        """What is wrong with this domain."""
        if not 0 <= self.low <= self.high:
            yield f"sizes: expected 0 <= low <= high, got sizes({self.low}, {self.high})"

    def contains(self, value: object) -> bool:
        """Whether ``value`` may be drawn."""
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """One of the values given."""

    values: tuple[Any, ...]

    def problems(self) -> Iterator[str]:
        """What is wrong with this domain."""
        if not self.values:
            yield "choices: expected at least one value, got none"

    def contains(self, value: object) -> bool:
        """Whether ``value`` may be drawn."""
        return value in self.values


Domain = Sizes | Choices


def sizes(low: int, high: int) -> Sizes:
    """Whole numbers from ``low`` to ``high``, both inclusive."""
    return Sizes(low=low, high=high)


def choices(*values: Any) -> Choices:
    """One of ``values``."""
    return Choices(values=values)
