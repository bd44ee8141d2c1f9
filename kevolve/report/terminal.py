"""The summary at the end of a run: rows of a record to text that fits the terminal. Pure functions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from kevolve.report import gate as gate_rows
from kevolve.report import text, words
from kevolve.report.attention import STATUS_ORDER
from kevolve.report.merge import by_device
from kevolve.report.record import Properties, Record, Result

_SHORT = {
    "INCORRECT_NUMERICAL": "wrong",
    "INCORRECT_SHAPE": "shape",
    "INCORRECT_DTYPE": "dtype",
    "RUNTIME_ERROR": "crashed",
    "COMPILE_ERROR": "no build",
    "TOO_SLOW": "slow",
    "REWARD_HACK": "refused",
    "NOT_MEASURED": "untimed",
}
_TIMED = ("PASSED", "TOO_SLOW")
_SEPARATOR = 2  # blanks between two columns of tabulate's "simple"
_NARROWEST_NAME = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its heading and the text of a row."""

    heading: str
    cell: Callable[[Result], str]
    right: bool = False


def _over(name: str, *, interval: bool) -> Column:
    heading = f"over {text.baseline(name)}"
    return Column(heading=heading, cell=lambda row: text.ratio(row.speedup.get(name), interval=interval), right=not interval)


SPEC = Column(heading="spec", cell=lambda row: words.line(row.spec))
TARGET = Column(heading="target", cell=lambda row: row.target)
LANGUAGE = Column(heading="language", cell=lambda row: row.language or "")
CASE = Column(heading="case", cell=lambda row: words.line(row.case))
STATUS = Column(heading="status", cell=lambda row: row.status.replace("_", " ").lower())
SHORT_STATUS = Column(heading="status", cell=lambda row: _SHORT.get(row.status) or row.status.replace("_", " ").lower())
TIME = Column(heading="time", cell=lambda row: text.time(text.best_time(row.time_us)), right=True)
EAGER = _over("eager", interval=True)
COMPILE = _over("compile", interval=True)
LIGHT = Column(heading="of light", cell=lambda row: text.percent(row.speed_of_light), right=True)
EVALUATIONS = Column(heading="evals", cell=lambda row: "" if row.evaluations is None else str(row.evaluations), right=True)
SHORT_EAGER = Column(heading="eager", cell=_over("eager", interval=False).cell, right=True)
SHORT_COMPILE = Column(heading="compile", cell=_over("compile", interval=False).cell, right=True)
SHORT_LIGHT = Column(heading="light", cell=LIGHT.cell, right=True)

# The richest that fits is used; the last is cut to fit.
LAYOUTS = (
    (SPEC, TARGET, LANGUAGE, CASE, STATUS, TIME, EAGER, COMPILE, LIGHT, EVALUATIONS),
    (SPEC, CASE, STATUS, TIME, EAGER, COMPILE, LIGHT, EVALUATIONS),
    (SPEC, CASE, STATUS, TIME, SHORT_EAGER, SHORT_COMPILE, SHORT_LIGHT, EVALUATIONS),
    (SPEC, CASE, SHORT_STATUS, TIME, SHORT_EAGER, SHORT_COMPILE, SHORT_LIGHT),
)

# Both forms of all sides, for a document: launched / replayed.
TIMES = (
    SPEC,
    CASE,
    Column(heading="kernel, us", cell=lambda row: text.forms(row.time_us), right=True),
    Column(heading="eager, us", cell=lambda row: text.forms(row.baseline_us.get("eager")), right=True),
    Column(heading="torch.compile, us", cell=lambda row: text.forms(row.baseline_us.get("compile")), right=True),
    EAGER,
    COMPILE,
    Column(heading="floor, us", cell=lambda row: "" if row.floor_us is None else text.digits(row.floor_us), right=True),
    LIGHT,
    Column(heading="pairs", cell=lambda row: str(row.pairs or ""), right=True),
)


def summary(record: Record, width: int, *, gate: bool = True) -> str:
    """The whole summary, device by device, no line wider than ``width`` columns; empty without rows. ``gate``: with its verdicts."""
    return "\n\n".join(filter(None, (_of_device(part, width, gate=gate) for part in by_device(record))))


def _of_device(record: Record, width: int, *, gate: bool) -> str:
    rows, plans = attention_first(record.results), record.properties
    verdicts = gate_rows.summary(record.gate, width) if gate and record.gate else ""
    if not rows and not plans and not verdicts:
        return ""
    properties, mean = _properties(plans, width), _wrapped(mean_line(rows), width)
    parts = [_device(record, rows, width), table(rows, width), _notes(rows, width), verdicts, properties, mean]
    return "\n\n".join(part for part in parts if part)


def attention_first(rows: Iterable[Result]) -> list[Result]:
    """Failures, then slow and unmeasured cases, then the rest; otherwise in the order given."""
    return sorted(rows, key=lambda row: STATUS_ORDER.index(row.status))


def table(rows: Sequence[Result], width: int) -> str:
    """The table in the richest layout that fits ``width``."""
    if not rows:
        return ""
    layouts = [_telling_apart(rows, _filled(rows, columns)) for columns in LAYOUTS]
    for columns in layouts:
        drawn = draw(rows, columns)
        if _width(drawn) <= width:
            return drawn
    return draw(rows, layouts[-1], names=_names_width(rows, layouts[-1], width))


def _filled(rows: Sequence[Result], columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns in which some row says something: names need the room that a baseline nobody asked for would take."""
    return tuple(column for column in columns if any(column.cell(row) for row in rows))


def _telling_apart(rows: Sequence[Result], columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, with target and language put back where the rows differ in them."""
    missing = [column for column in (TARGET, LANGUAGE) if column not in columns and len({column.cell(row) for row in rows}) > 1]
    return (columns[0], *missing, *columns[1:])


def draw(rows: Sequence[Result], columns: Sequence[Column], *, names: tuple[int, int] | None = None) -> str:
    """The table for a terminal. ``names``: how wide spec and case may be."""
    limits = dict(zip((SPEC.heading, CASE.heading), names, strict=True)) if names else {}
    lines = [[column.heading for column in columns]]
    lines += [[_cut(column.cell(row), limits.get(column.heading)) for column in columns] for row in rows]
    # Headings and rule are rows here: as headers, tabulate pads each column by two blanks that 80 columns do not have.
    rule = ["-" * max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = tabulate([lines[0], rule, *lines[1:]], tablefmt="plain", colalign=_alignment(columns), disable_numparse=True)
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def markdown(rows: Sequence[Result], columns: Sequence[Column] = LAYOUTS[0]) -> str:
    """A table as GitHub's Markdown, in the order given; the full one unless other columns are named."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    headings = [column.heading for column in columns]
    return tabulate(cells, headings, tablefmt="pipe", colalign=_alignment(columns), disable_numparse=True)


def _alignment(columns: Sequence[Column]) -> list[str]:
    return ["right" if column.right else "left" for column in columns]


def _cut(cell: str, limit: int | None) -> str:
    return cell if limit is None else text.shorten(cell, limit)


def geometric_mean(values: Sequence[float]) -> float | None:
    """The geometric mean; None of nothing. Values must be positive."""
    return math.exp(math.fsum(math.log(value) for value in values) / len(values)) if values else None


def means(rows: Iterable[Result]) -> dict[str, tuple[float, int]]:
    """By baseline: the geometric mean of the speedups of correct, timed cases, and their number."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.status in _TIMED:
            for name, speedup in row.speedup.items():
                found.setdefault(name, []).append(speedup.estimate)
    return {name: (mean, len(values)) for name, values in found.items() if (mean := geometric_mean(values)) is not None}


def mean_line(rows: Iterable[Result]) -> str:
    """``geometric mean: 3.10x over eager (22 cases), 1.42x over torch.compile (22 cases)``; empty where nothing was timed."""
    said = [
        f"{text.digits(mean)}x over {text.baseline(name)} ({text.plural(count, 'case')})" for name, (mean, count) in means(rows).items()
    ]
    return f"geometric mean: {', '.join(said)}" if said else ""


def _device(record: Record, rows: Sequence[Result], width: int) -> str:
    """Where it was measured and how: a figure without these says nothing."""
    environment = record.environment
    said = [f"{environment.device} ({environment.arch})"]
    targets = sorted({"/".join(filter(None, (row.target, row.language))) for row in rows})
    said += targets
    pairs = sorted({row.pairs for row in rows if row.pairs})
    if pairs:
        said.append(f"{pairs[0]} process pairs" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]} process pairs")
    return _wrapped(", ".join(said), width)


def _notes(rows: Sequence[Result], width: int) -> str:
    """Why cases did not pass: a line a reason, naming its cases."""
    reasons: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        if row.status != "PASSED" and row.message:
            reasons.setdefault((row.status, _first_line(row.message)), []).append(row)
    lines = []
    for (status, message), found in reasons.items():
        names = [words.line(f"{row.spec}[{row.case}]") for row in found]
        where = names[0] if len(names) == 1 else f"{len(names)} cases, {names[0]} first"
        lines.append(_wrapped(f"{status.replace('_', ' ')}: {message} ({where})", width))
    return "\n".join(lines)


def _properties(rows: Sequence[Properties], width: int) -> str:
    """One line for the property plans that passed, one for each that did not."""
    if not rows:
        return ""
    draws, excluded = sum(row.draws for row in rows), sum(row.excluded for row in rows)
    passed = sum(row.status == "PASSED" for row in rows)
    first = f"properties: {passed} of {text.plural(len(rows), 'spec')} passed, {text.plural(draws, 'draw')} compared, {excluded:,} excluded"
    failed = [
        f"{row.status.replace('_', ' ')}: {_first_line(row.message)} ({words.line(row.spec)}[properties])"
        for row in rows
        if row.status != "PASSED"
    ]
    return "\n".join(_wrapped(line, width) for line in [*failed, first])


def _plan_line(row: Properties) -> str:
    return f"{row.status.replace('_', ' ')}: {_first_line(row.message)} ({words.line(row.spec)}[properties])"


def _first_line(message: str) -> str:
    return words.line(message.strip().partition("\n")[0]) or "no message"


def _wrapped(line: str, width: int) -> str:
    return textwrap.fill(line, width=width, subsequent_indent="  ", break_on_hyphens=False)


def _width(drawn: str) -> int:
    return max(len(line) for line in drawn.splitlines())


def _names_width(rows: Sequence[Result], columns: Sequence[Column], width: int) -> tuple[int, int]:
    """How wide spec and case may be when the other columns are drawn whole: the longer of the two gives way first."""
    fixed = sum(max(len(column.heading), *(len(column.cell(row)) for row in rows)) for column in columns if column not in (SPEC, CASE))
    room = max(2 * _NARROWEST_NAME, width - fixed - _SEPARATOR * (len(columns) - 1))
    spec, case = (max(len(column.heading), *(len(column.cell(row)) for row in rows)) for column in (SPEC, CASE))
    half = room // 2
    if spec <= half:
        return spec, room - spec
    return (room - case, case) if case <= half else (half, room - half)
