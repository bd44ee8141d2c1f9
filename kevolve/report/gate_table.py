"""The gate's verdicts as a table for the terminal. Pure functions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from kevolve.report import text, words
from kevolve.report.record import Figure, Side, Verdict

_BLANKS = 2  # between two columns of tabulate's "plain"
_NARROWEST = 8  # of a kernel's name and of a case


def gate_table(verdicts: Sequence[Verdict], width: int) -> str:
    """Verdicts in the order given, no line wider than ``width`` columns, and the messages of those that fail; empty for none.

    Whole intervals where there is room, else estimates alone; names are cut in their middle when that does not fit either.
    """
    if not verdicts:
        return ""
    rows = [_cells(one, interval=True) for one in verdicts]
    if _width(rows) > width:
        rows = [_cells(one, interval=False) for one in verdicts]
    if _width(rows) > width:
        rows = _cut(rows, width)
    notes = [_note(one, width) for one in verdicts if one.failed or one.verdict == "unmeasurable"]
    return "\n".join([_drawn(rows), *(["", *notes] if notes else [])])


_HEADINGS = ("gate", "kernel", "case", "old", "new", "old/new")


def _cells(verdict: Verdict, *, interval: bool) -> list[str]:
    times = [_time(verdict.old), _time(verdict.new)]
    ratio = text.ratio(verdict.ratio, interval=interval)
    return [verdict.verdict, words.line(verdict.spec), words.line(verdict.case) or "(whole)", *times, ratio or _grown(verdict)]


def _time(side: Side | None) -> str:
    return text.time(side.time_us) if side is not None else ""


def _grown(verdict: Verdict) -> str:
    """The first figure beyond its allowance."""
    return next((f"{words.line(one.name, 14)} {one.old:g}→{one.new:g}" for one in _beyond(verdict)), "")


def _beyond(verdict: Verdict) -> list[Figure]:
    return [one for one in verdict.figures if one.new > one.allowed]


def _note(verdict: Verdict, width: int) -> str:
    name = words.line(f"{verdict.spec}[{verdict.case}]" if verdict.case else verdict.spec)
    why = words.line(verdict.message.strip().partition("\n")[0]) or "no message"
    return textwrap.fill(f"{verdict.verdict}: {why} ({name})", width=width, subsequent_indent="  ", break_on_hyphens=False)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]


def _width(rows: Sequence[Sequence[str]]) -> int:
    widths = _widths(rows)
    return sum(widths) + _BLANKS * (len(widths) - 1)


def _cut(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Rows with shorter names: the longer of kernel and case gives way first."""
    _, spec, case, *_ = _widths(rows)
    room = max(2 * _NARROWEST, width - (_width(rows) - spec - case))
    half = room // 2
    spec, case = (spec, room - spec) if spec <= half else (room - case, case) if case <= half else (half, room - half)
    return [[row[0], text.shorten(row[1], spec), text.shorten(row[2], case), *row[3:]] for row in rows]


def _drawn(rows: Sequence[Sequence[str]]) -> str:
    rule = ["-" * width for width in _widths(rows)]
    aligned = ("left", "left", "left", "right", "right", "left")
    drawn = tabulate([_HEADINGS, rule, *rows], tablefmt="plain", colalign=aligned, disable_numparse=True)
    return "\n".join(line.rstrip() for line in drawn.splitlines())
