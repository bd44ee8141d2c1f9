"""What compiler and clock say of a kernel, for its author. Pure: text and figures in, text and values out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kevolve.evaluate.floor import parts_us
from kevolve.languages.diagnostics import AT, diagnostics, is_own
from kevolve.spec.spec import Work
from kevolve.targets import Peaks

__all__ = ["Loop", "Position", "diagnostics", "loops", "loops_text", "position"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A time beside the least that its work can take. ``bound``: what that least time is spent on.

    ``fraction`` of the speed of light that is reached; ``parts_us``: the least time for each kind of work.
    """

    bound: str
    fraction: float
    floor_us: float
    median_us: float
    parts_us: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        """For the kernel's author."""
        parts = ", ".join(f"{name} {part:.3g}" for name, part in self.parts_us if part)
        return (
            f"{self.median_us:.3g} µs; the speed of light is {self.floor_us:.3g} µs ({self.fraction:.0%} reached), bound by {self.bound}"
            f" (least µs for each: {parts})"
        )


def position(work: Work, peaks: Peaks, median_us: float) -> Position | None:
    """Where a time lies; None where a peak that the work needs was not measured."""
    parts = parts_us(work, peaks)
    known = [(name, part) for name, part in parts.items() if part is not None]
    if len(known) != len(parts) or median_us <= 0:
        return None
    bound, floor = max(known, key=lambda item: item[1])
    return Position(bound=bound, fraction=floor / median_us, floor_us=floor, median_us=median_us, parts_us=tuple(known))
