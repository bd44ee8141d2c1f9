"""How long a search may go on: ``--kevolve-budget "evaluations=40,minutes=5,tokens=2M,usd=3,stall=12"``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from kevolve.models import Usage

IMPROVEMENT = 1.01  # a better kernel is better by more than 1%: less is noise
LEAST_SHARE = 1 / 16  # of what a step may cost at the most: with less left no model is asked
_SUFFIXES = {"k": 1e3, "m": 1e6}


class BudgetError(ValueError):
    """A budget that cannot be read; the message says what was expected and got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one search; None: no such limit.

    ``evaluations``: candidates evaluated, refused duplicates not among them; a step of a model counts whatever came of it. ``minutes``:
    wall clock. ``tokens``, ``usd``: what models may cost. ``stall``: evaluations in a row without an improvement of more than 1%.
    ``goal``: the fitness (speedup) at which to stop. ``step``: minutes that one step of a model may take, which ends no search.
    """

    evaluations: int | None = None
    minutes: float | None = None
    tokens: int | None = None
    usd: float | None = None
    stall: int | None = None
    goal: float | None = None
    step: float | None = None

    @classmethod
    def parse(cls, given: str, default: Budget | None = None) -> Budget:
        """Read ``name=value`` pairs separated by commas over ``default``; ``2M`` and ``500k`` are whole numbers too.

        Raises ``BudgetError``, all problems at once.
        """
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

    def over(self, *, evaluations: int, seconds: float, best: float) -> str | None:
        """Why to stop at once, whatever is under way, or None."""
        if self.goal is not None and best >= self.goal:
            return f"goal reached: {best:.2f}x of {self.goal:g}x"
        if self.evaluations is not None and evaluations >= self.evaluations:
            return f"budget spent: {evaluations} evaluations"
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"budget spent: {self.minutes:g} minutes"
        return None

    def spent(self, *, evaluations: int, seconds: float, since_improvement: int, best: float, usage: Usage | None = None) -> str | None:
        """Why to begin nothing more now, or None."""
        if reason := self.over(evaluations=evaluations, seconds=seconds, best=best):
            return reason
        if self.stall is not None and since_improvement >= self.stall:
            return f"stalled: {since_improvement} evaluations without an improvement of more than 1%"
        used = usage or Usage()
        if self.tokens is not None and used.tokens >= self.tokens:
            return f"budget spent: {used.tokens:,} tokens"
        if self.usd is not None and (used.usd or 0.0) >= self.usd:
            return f"budget spent: {used.usd:.2f} USD"
        return None

    def room(self, evaluations: int) -> int | None:
        """How many evaluations are left, or None for no limit."""
        return None if self.evaluations is None else max(0, self.evaluations - evaluations)

    def seconds_left(self, seconds: float) -> float | None:
        """The wall clock left after ``seconds``, or None for no limit."""
        return None if self.minutes is None else max(0.0, 60 * self.minutes - seconds)

    def allowance(self, most: Usage, used: Usage, reserved: Usage) -> Usage | None:
        """What one more step of a model may cost: ``most``, cut to what is left besides what steps under way may still cost.

        None where too little is left for a step, or where dollars are limited and the model's price is unknown.
        """
        if self.usd is not None and most.usd is None:
            return None
        tokens = _left(self.tokens, used.tokens + reserved.tokens, most.tokens)
        usd = _left(self.usd, (used.usd or 0.0) + (reserved.usd or 0.0), most.usd or 0.0)
        if tokens is None or usd is None:
            return None
        return Usage(output_tokens=int(tokens), usd=usd if most.usd is not None else None)


_NAMES = tuple(item.name for item in fields(Budget))


def _left(limit: float | None, gone: float, most: float) -> float | None:
    """What is left of a limit, at most ``most``; ``most`` without a limit; None where that is too little. 0 for ``most``: unknown."""
    if limit is None:
        return most
    left = limit - gone
    wanted = min(most, left) if most else left
    return wanted if left > 0 and wanted >= LEAST_SHARE * most else None


def _read(name: str, number: str, values: dict[str, int | float], problems: list[str]) -> None:
    whole = name in ("evaluations", "stall", "tokens")
    digits, factor = (number[:-1], _SUFFIXES[number[-1].lower()]) if number[-1:].lower() in _SUFFIXES else (number, 1.0)
    try:
        value = float(digits) * factor
        if whole and math.isfinite(value):
            if value != int(value):
                raise ValueError
            value = int(value)
    except ValueError:
        problems.append(f"{name}: expected a {'whole ' if whole else ''}number, got {number!r}")
        return
    if not (value > 0 and math.isfinite(value)):
        problems.append(f"{name}: expected a number above 0, got {number}")
    else:
        values[name] = value
