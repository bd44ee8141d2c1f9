"""How long a search may go on: ``--kevolve-budget "evaluations=40,minutes=5,stall=12"``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

IMPROVEMENT = 1.01  # a better kernel is better by more than 1%: less is noise


class BudgetError(ValueError):
    """A budget that cannot be read; the message says what was expected and got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one search; None: no such limit.

    ``evaluations``: candidates evaluated, refused duplicates not among them. ``minutes``: wall clock. ``stall``: evaluations in a row
    without an improvement of more than 1%. ``goal``: the fitness (speedup) at which to stop.
    """

    evaluations: int | None = None
    minutes: float | None = None
    stall: int | None = None
    goal: float | None = None

    @classmethod
    def parse(cls, given: str, default: Budget | None = None) -> Budget:
        """Read ``name=value`` pairs separated by commas over ``default``. Raises ``BudgetError``, all problems at once."""
        values: dict[str, int | float] = {}
        problems: list[str] = []
        for part in filter(None, (piece.strip() for piece in given.split(","))):
            name, equals, number = (piece.strip() for piece in part.partition("="))
            if not equals or name not in _NAMES:
                problems.append(f"expected one of {', '.join(f'{known}=N' for known in _NAMES)}, got {part!r}")
            elif name in values:
                problems.append(f"{name}: given twice")
            else:
                _read(name, number, values, problems)
        if problems:
            raise BudgetError(f"budget {given!r}: " + "; ".join(problems))
        return replace(default or cls(), **values)  # type: ignore[arg-type]  # the names were checked above

    def spent(self, *, evaluations: int, seconds: float, since_improvement: int, best: float) -> str | None:
        """Why to stop now, or None."""
        if self.goal is not None and best >= self.goal:
            return f"goal reached: {best:.2f}x of {self.goal:g}x"
        if self.evaluations is not None and evaluations >= self.evaluations:
            return f"budget spent: {evaluations} evaluations"
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"budget spent: {self.minutes:g} minutes"
        if self.stall is not None and since_improvement >= self.stall:
            return f"stalled: {since_improvement} evaluations without an improvement of more than 1%"
        return None

    def room(self, evaluations: int) -> int | None:
        """How many evaluations are left, or None for no limit."""
        return None if self.evaluations is None else max(0, self.evaluations - evaluations)

    def seconds_left(self, seconds: float) -> float | None:
        """The wall clock left after ``seconds``, or None for no limit."""
        return None if self.minutes is None else max(0.0, 60 * self.minutes - seconds)


_NAMES = tuple(item.name for item in fields(Budget))


def _read(name: str, number: str, values: dict[str, int | float], problems: list[str]) -> None:
    whole = name in ("evaluations", "stall")
    try:
        value = int(number) if whole else float(number)
    except ValueError:
        problems.append(f"{name}: expected a {'whole ' if whole else ''}number, got {number!r}")
        return
    if not (value > 0 and math.isfinite(value)):
        problems.append(f"{name}: expected a number above 0, got {number}")
    else:
        values[name] = value
