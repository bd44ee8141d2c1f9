"""What the page's templates show, as plain values: the verdict, the table's rows, environments and methods."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kevolve.report import text
from kevolve.report.attention import MISSING, VERDICT_ORDER
from kevolve.report.html.kernels import Case, Kernel
from kevolve.report.html.markup import LONGEST_NAME, lines
from kevolve.report.html.state import STATES, State, of_verdict, state
from kevolve.report.merge import latest
from kevolve.report.record import FAILING, Properties, Record, Result, Speedup, Verdict
from kevolve.report.terminal import mean_line

_REPLAY = "replay: "
_POINT, _DIGIT = "\u2008", "\u2007"  # blanks as wide as a point and a digit: they keep decimals below one another


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table. ``said``: its status in words; ``message``: the first line of why."""

    kernel: Kernel
    case: str
    state: State
    said: str
    message: str = ""
    result: Result | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many tests are in a state, and their share of all."""

    state: State
    number: int
    share: float


def rows(kernels: Sequence[Kernel]) -> list[Row]:
    """The table, what needs attention first: cases, property plans that did not pass, verdicts on whole kernels that fail."""
    found = [(row, margin) for kernel in kernels for row, margin in _rows(kernel)]
    return [row for row, _ in sorted(found, key=lambda one: (one[0].state.rank, one[1]))]


def _rows(kernel: Kernel) -> list[tuple[Row, float]]:
    made = [(_case(kernel, case), case.margin) for case in kernel.cases]
    if kernel.properties is not None and kernel.properties.status != "PASSED":
        made.append((_properties(kernel, kernel.properties), 0.0))
    return made + [(_verdict(kernel, verdict), 0.0) for verdict in kernel.verdicts if of_verdict(verdict).key != "passed"]


def _case(kernel: Kernel, case: Case) -> Row:
    said = "no kernel" if MISSING in case.row.extra else status(case.row.status)
    gate = [verdict for verdict in case.verdicts if verdict.verdict in (*FAILING, "faster")]
    if gate:
        said += "".join(f", gate: {gate_words(verdict)}" for verdict in gate)
    message = next((verdict.message for verdict in gate if verdict.failed and verdict.message), case.row.message)
    return Row(
        kernel=kernel,
        case=text.shorten(case.row.case, LONGEST_NAME),
        state=case.state,
        said=said,
        message=first_line(message),
        result=case.row,
    )


def _properties(kernel: Kernel, row: Properties) -> Row:
    return Row(kernel=kernel, case="properties", state=state(row), said=status(row.status), message=first_line(row.message))


def _verdict(kernel: Kernel, verdict: Verdict) -> Row:
    case = text.shorten(verdict.case, LONGEST_NAME) or "whole kernel"
    return Row(
        kernel=kernel, case=case, state=of_verdict(verdict), said=f"gate: {gate_words(verdict)}", message=first_line(verdict.message)
    )


def gate_words(verdict: Verdict) -> str:
    """``slower 0.89x [0.88, 0.90]``, ``grown registers``; the word alone where nothing more is known."""
    grown = sorted({figure.name for figure in verdict.figures if figure.beyond})
    more = text.shorten(", ".join(grown), 80) if verdict.verdict == "grown" else text.ratio(verdict.ratio)
    return " ".join(filter(None, (verdict.verdict, more)))


def status(name: str) -> str:
    """A status in words."""
    return name.replace("_", " ").lower()


def first_line(message: str) -> str:
    """The first line that says something, cut to a table's width."""
    return text.shorten(next((line.strip() for line in lines(message) if line.strip()), ""), 200)


def counts(kernels: Sequence[Kernel]) -> list[Count]:
    """Tests by state: cases, property plans, and verdicts that stand for no case."""
    found = Counter(case.state.key for kernel in kernels for case in kernel.cases)
    found.update(state(kernel.properties).key for kernel in kernels if kernel.properties is not None)
    found.update(of_verdict(verdict).key for kernel in kernels for verdict in kernel.verdicts if of_verdict(verdict).key != "passed")
    total = sum(found.values()) or 1
    return [Count(state=one, number=found[one.key], share=found[one.key] / total) for one in STATES]


def headline(counted: Sequence[Count]) -> str:
    """The verdict in one line."""
    total = sum(count.number for count in counted)
    if not total:
        return "Nothing was run"
    by_key = {count.state.key: count.number for count in counted}
    if by_key["passed"] == total:
        return f"All {total:,} tests passed" if total > 1 else "The test passed"
    said = [f"{count.number:,} {count.state.word}" for count in counted if count.number and count.state.key != "passed"]
    return f"{', '.join(said)}; {by_key['passed']:,} of {total:,} tests passed"


def gate_line(record: Record) -> str:
    """What the gate says, worst first: ``1 slower, 2 same``; empty where there was no gate."""
    found = Counter(verdict.verdict for verdict in latest(record, record.gate))
    return ", ".join(f"{found[name]:,} {name}" for name in VERDICT_ORDER if found[name])


def listed(record: Record) -> dict[str, str]:
    """Kernels that came, went or changed their name, and those that were recorded as the first of their kind."""
    named: dict[str, list[str]] = {}
    for verdict in latest(record, record.gate):
        if verdict.verdict in ("new", "removed", "renamed", "baseline"):
            named.setdefault(verdict.verdict, []).append(text.shorten(f"{verdict.spec} ({verdict.target})", LONGEST_NAME))
    return {word: ", ".join(dict.fromkeys(names)) for word, names in named.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of measurement, the number of cases it was used for, and the same method with other figures."""

    text: str
    cases: int
    others: tuple[tuple[str, int], ...]


def methods(record: Record) -> list[Method]:
    """Each method in full, the most used first; those that differ in figures alone stand together."""
    alike: dict[str, list[tuple[str, int]]] = {}
    for method, number in Counter(row.method for row in record.results if row.method).most_common():
        alike.setdefault(re.sub(r"\d+(\.\d+)?", "0", method), []).append((method, number))
    return [Method(text=found[0][0], cases=sum(number for _, number in found), others=tuple(found[1:])) for found in alike.values()]


def means(kernels: Sequence[Kernel]) -> dict[str, str]:
    """By device: the geometric means of its cases' speedups, in words."""
    by_device: dict[str, list[Result]] = {}
    for kernel in kernels:
        by_device.setdefault(kernel.environment.device, []).extend(case.row for case in kernel.cases)
    return {device: text.shorten(mean_line(rows), 300) for device, rows in by_device.items()}


def aligned(value: float | None) -> str:
    """Three significant digits, padded so that decimal points stand below one another."""
    if value is None:
        return ""
    if value >= 99.95:
        return f"{value:,.0f}{_POINT}{2 * _DIGIT}"
    return f"{value:.1f}{_DIGIT}" if value >= 9.995 else f"{value:.2f}"


def interval(over: Speedup | None) -> str:
    """``1.68–1.70``; empty for None."""
    return "" if over is None else f"{text.digits(over.low)}–{text.digits(over.high)}"


def plain(value: object) -> str:
    """A figure or a mapping of the record's free fields in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return (
        f"{value:,.6g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else str(value)
    )


def resources(figures: Mapping[str, object]) -> str:
    """What a kernel uses, in words: ``registers 32, spill bytes 0``."""
    return plain({name.replace("_", " "): value for name, value in figures.items()})


def date(stamp: str) -> str:
    """``2026-11-21 05:02 UTC`` of an ISO 8601 date in UTC; what is no such date as it is."""
    found = re.match(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2})(:[\d.]+)?(\+00:00|Z)$", stamp)
    return f"{found[1]} {found[2]} UTC" if found else text.shorten(stamp, 40)


def replay_lines(message: str) -> list[str]:
    """The commands in a message that repeat what failed."""
    return [line.strip().removeprefix(_REPLAY) for line in lines(message) if line.strip().startswith(_REPLAY)]


def without_replays(message: str) -> str:
    """The rest of the message: its commands stand below it, alone, so that they can be copied."""
    return "\n".join(line for line in lines(message) if not line.strip().startswith(_REPLAY))
