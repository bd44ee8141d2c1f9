"""The gate's verdicts at the end of a run, the worst first, as text that fits the terminal. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from kevolve.report import text, words
from kevolve.report.attention import VERDICT_ORDER, verdicts_worst_first
from kevolve.report.record import Side, Verdict

_NARROWEST_NAME = 8
_SEPARATOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its heading and the text of a row."""

    heading: str
    cell: Callable[[Verdict], str]
    right: bool = False


SPEC = Column(heading="spec", cell=lambda row: words.line(row.spec))
CASE = Column(heading="case", cell=lambda row: words.line(row.case))
TARGET = Column(heading="target", cell=lambda row: row.target)
LANGUAGE = Column(heading="language", cell=lambda row: row.language or "")
VERDICT = Column(heading="verdict", cell=lambda row: row.verdict)
OLD = Column(heading="old", cell=lambda row: _time(row.old), right=True)
NEW = Column(heading="new", cell=lambda row: _time(row.new), right=True)
RATIO = Column(heading="speedup", cell=lambda row: _ratio(row, interval=True))
SHORT_RATIO = Column(heading="speedup", cell=lambda row: _ratio(row, interval=False), right=True)
STORED = Column(heading="stored", cell=lambda row: _stored(row), right=True)
KERNEL = Column(heading="kernel", cell=lambda row: words.line(side.path) if (side := row.new or row.old) else "")

# The richest that fits is used; names in the last are cut to fit.
LAYOUTS = (
    (SPEC, CASE, TARGET, LANGUAGE, VERDICT, OLD, NEW, RATIO, STORED, KERNEL),
    (SPEC, CASE, TARGET, LANGUAGE, VERDICT, OLD, NEW, RATIO, KERNEL),
    (SPEC, CASE, VERDICT, OLD, NEW, RATIO),
    (SPEC, CASE, VERDICT, OLD, NEW, SHORT_RATIO),
)


def summary(rows: Iterable[Verdict], width: int, *, against: str = "", idle: int = 0) -> str:
    """What was compared, the counts, the table and the reasons, no line wider than ``width``. ``idle``: tests of unchanged kernels."""
    ordered = verdicts_worst_first(rows)
    counts = text.wrapped("; ".join(filter(None, (against, _counts(ordered, idle)))), width)
    said = "\n".join(filter(None, (_reasons(ordered, width), _history(ordered, width))))
    return "\n\n".join(part for part in (counts, table(ordered, width), said) if part)


def table(rows: Sequence[Verdict], width: int) -> str:
    """The table in the richest layout that fits ``width``; empty of nothing."""
    if not rows:
        return ""
    layouts = [tuple(column for column in columns if any(map(column.cell, rows))) for columns in LAYOUTS]
    for columns in layouts:
        drawn = _draw(rows, columns)
        if max(map(len, drawn.splitlines())) <= width:
            return drawn
    return _draw(rows, layouts[-1], names=_names_width(rows, layouts[-1], width))


def _draw(rows: Sequence[Verdict], columns: Sequence[Column], *, names: int | None = None) -> str:
    cut = {SPEC.heading, CASE.heading} if names is not None else set()
    lines = [[column.heading for column in columns]]
    lines += [[text.shorten(cell, names or 0) if column.heading in cut else cell for column, cell in _cells(row, columns)] for row in rows]
    rule = ["-" * max(map(len, column)) for column in zip(*lines, strict=True)]
    alignment = ["right" if column.right else "left" for column in columns]
    drawn = tabulate([lines[0], rule, *lines[1:]], tablefmt="plain", colalign=alignment, disable_numparse=True)
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def _cells(row: Verdict, columns: Sequence[Column]) -> list[tuple[Column, str]]:
    return [(column, column.cell(row)) for column in columns]


def _names_width(rows: Sequence[Verdict], columns: Sequence[Column], width: int) -> int:
    """How wide spec and case may be, each, when the other columns are drawn whole."""
    others = [column for column in columns if column not in (SPEC, CASE)]
    fixed = sum(max(len(column.heading), *(len(column.cell(row)) for row in rows)) for column in others)
    named = len(columns) - len(others)
    return max(_NARROWEST_NAME, (width - fixed - _SEPARATOR * (len(columns) - 1)) // max(1, named))


def _counts(rows: Sequence[Verdict], idle: int) -> str:
    counts = Counter(row.verdict for row in rows)
    said = [f"{count} {verdict}" for verdict, count in sorted(counts.items(), key=lambda item: VERDICT_ORDER.index(item[0]))]
    said += [f"{text.plural(idle, 'test')} of unchanged kernels not run"] if idle else []
    return ", ".join(said) or "no kernel changed"


def _reasons(rows: Sequence[Verdict], width: int) -> str:
    """Why rows have no times, and what failed tests say in full: a line a reason."""
    reasons: dict[tuple[str, str], list[Verdict]] = {}
    for row in rows:
        if row.message and row.verdict not in ("faster", "same", "slower"):
            reasons.setdefault((row.verdict, words.line(row.message.splitlines()[0].rstrip(":"))), []).append(row)
    return "\n".join(text.wrapped(f"{verdict}: {message} ({_where(found)})", width) for (verdict, message), found in reasons.items())


def _history(rows: Sequence[Verdict], width: int) -> str:
    """Advice, never a verdict: what is slower now than a time stored under the same conditions; and what a star means."""
    stored = [(row, past) for row in rows if (past := _past(row))]
    said = [f"stored: {words.line(f'{row.spec}[{row.case}]')}: {words.line(past['said'])}" for row, past in stored if past.get("apart")]
    differs = [str(past["differs"][0]) for _, past in stored if past.get("differs")]
    said += [f"* stored under other conditions, advisory only: {words.line(differs[0])}"] if differs else []
    return "\n".join(text.wrapped(line, width) for line in said)


def _past(row: Verdict) -> Mapping[str, Any] | None:
    past = row.extra.get("history")
    return past if isinstance(past, Mapping) and isinstance(past.get("us"), int | float) and "said" in past else None


def _stored(row: Verdict) -> str:
    """The time that a record holds, with a star where it was taken under other conditions."""
    past = _past(row)
    return "" if past is None else f"{text.time(past['us'])}{'*' if past.get('differs') else ''}"


def _where(rows: Sequence[Verdict]) -> str:
    first = words.line(f"{rows[0].spec}[{rows[0].case}]" if rows[0].case else rows[0].spec)
    return first if len(rows) == 1 else f"{len(rows)} of them, {first} first"


def _time(side: Side | None) -> str:
    """In the form that the verdict is about."""
    return "" if side is None else text.time(side.extra.get("form_us", side.time_us))


def _ratio(row: Verdict, *, interval: bool) -> str:
    if row.ratio is None:
        return ""
    bounds = f" [{row.ratio.low:.3f}, {row.ratio.high:.3f}]" if interval else ""
    return f"{row.ratio.estimate:.3f}x{bounds}"
