"""What compiler and clock say of a kernel, for its author. Pure: text and figures in, text and values out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kevolve.evaluate.floor import BOUNDS, parts_us
from kevolve.languages.diagnostics import AT, diagnostics, is_own
from kevolve.spec.spec import Work
from kevolve.targets import Peaks

__all__ = ["Loop", "Position", "diagnostics", "light", "loops", "loops_text", "position"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One of the kernel's loops. ``how``: the widest vectors that were used, or why there are none."""

    line: int
    vectorised: bool
    how: str


_VECTORISED = re.compile(AT + r":(?P<line>\d+):\d+: (?P<kind>optimized|missed): +(?P<what>.*)$")
_WIDTH = re.compile(r"loop vectorized using (?P<bytes>\d+) byte vectors")


def loops(report: str) -> tuple[Loop, ...]:
    """The kernel's loops by line, from what g++ says with ``-fopt-info-vec-optimized-missed``."""
    widest: dict[int, int] = {}
    missed: dict[int, str] = {}
    last = 0
    for match in filter(None, map(_VECTORISED.match, report.splitlines())):
        line, what = int(match["line"]), match["what"]
        if not is_own(match["file"]):
            continue
        if width := _WIDTH.match(what):
            widest[line] = max(widest.get(line, 0), int(width["bytes"]))
        elif what.startswith("couldn't vectorize loop"):
            last = line
            missed.setdefault(line, "")
        elif what.startswith("not vectorized: ") and last and not missed[last]:
            missed[last] = what.removeprefix("not vectorized: ").rstrip(".")  # it may stand at the line of a statement inside
    done = {line: Loop(line=line, vectorised=True, how=f"{width}-byte vectors") for line, width in widest.items()}
    left = {line: Loop(line=line, vectorised=False, how=why or "no reason told") for line, why in missed.items()}
    return tuple(each for _, each in sorted((left | done).items()))


def loops_text(found: Sequence[Loop], source: str) -> str:
    """The loops with their source lines, one a line."""
    lines = source.splitlines()
    told = ((each, lines[each.line - 1].strip() if each.line <= len(lines) else "") for each in found)
    return "\n".join(f"line {each.line}: {'' if each.vectorised else 'not vectorised: '}{each.how}: {code}" for each, code in told)


# ---- where the time lies on the roofline


def light(work: Work, peaks: Peaks) -> dict[str, Any]:
    """What may be told of a case's work as JSON: ``floor_us``, its least time, and ``bound``, what that is spent on.

    Empty where a peak that the work needs was not measured.
    """
    parts = parts_us(work, peaks)
    known = [(name, part) for name, part in parts.items() if part is not None]
    if len(known) != len(parts):
        return {}
    bound, floor = max(known, key=lambda item: item[1])
    return {"floor_us": floor, "bound": bound}


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A time beside the least that its work can take. ``bound``: what that least time is spent on; empty where nobody knows."""

    time_us: float
    floor_us: float
    bound: str = ""

    @property
    def fraction(self) -> float:
        """Of the speed of light."""
        return self.floor_us / self.time_us

    @property
    def text(self) -> str:
        """For the kernel's author."""
        bound = f", bound by {self.bound}" if self.bound else ""
        return f"{self.fraction:.0%} of the speed of light ({self.floor_us:.3g} us{bound})"


def position(known: Mapping[str, Any], time_us: float) -> Position | None:
    """Where a time lies, from what is ``known`` of its case (as ``light`` says it); None where its floor is not."""
    floor = known.get("floor_us")
    if not isinstance(floor, int | float) or floor <= 0 or time_us <= 0:
        return None
    bound = known.get("bound")
    return Position(time_us=time_us, floor_us=floor, bound=bound if bound in BOUNDS else "")
