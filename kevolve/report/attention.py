"""What needs a person, and in which order: results and the gate's verdicts, worst first. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kevolve.report import text
from kevolve.report.merge import latest
from kevolve.report.record import FAILING, Properties, Record, Result, Verdict

# What needs a person comes first.
STATUS_ORDER = (
    "REWARD_HACK",
    "SUSPECT",
    "RUNTIME_ERROR",
    "TIMEOUT",
    "COMPILE_ERROR",
    "INCORRECT_NUMERICAL",
    "INCORRECT_SHAPE",
    "INCORRECT_DTYPE",
    "TOO_SLOW",
    "NOT_MEASURED",
    "NO_CANDIDATE",
    "PASSED",
)
VERDICT_ORDER = ("wrong", "slower", "grown", "unmeasurable", "removed", "new", "renamed", "baseline", "faster", "same")
MISSING = "kernel_missing"  # of a row whose spec has no kernel: not measured, and a failed test all the same


def worst_first(rows: Iterable[Result]) -> list[Result]:
    """Failures, then missing kernels, slow and unmeasured cases, then the rest; among equals the slowest against its threshold first."""
    return sorted(rows, key=lambda row: (_rank(row), _margin(row)))


def verdicts_worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What fails first, then what could not be measured, then what is only told; the slowest of a kind first."""
    return sorted(verdicts, key=lambda one: (VERDICT_ORDER.index(one.verdict), one.ratio.estimate if one.ratio else 1.0))


def failed(row: Result | Properties) -> bool:
    """Whether the row failed its test: what could not be measured here did not, a kernel that is not there did."""
    return row.status not in ("PASSED", "NOT_MEASURED") or MISSING in row.extra


def banner(record: Record) -> str:
    """The whole run in one line: what failed, worst first, or that nothing did."""
    rows, plans, verdicts = latest(record, record.results), latest(record, record.properties), latest(record, record.gate)
    bad: list[Result | Properties] = [*filter(failed, rows), *filter(failed, plans)]
    stopped = [one for one in verdicts if one.verdict in FAILING]
    if not bad and not stopped:
        untimed = sum(row.status == "NOT_MEASURED" for row in rows)
        left = f", {untimed:,} of them not measured here" if untimed else ""
        return f"Nothing failed: {text.plural(len(rows), 'case')}{left}{_told(verdicts)}"
    parts = [_counted(bad, len(rows) + len(plans))] if bad else []
    parts += [f"the gate fails: {_kinds(stopped)}"] if stopped else []
    return f"Failed: {'; '.join(parts)}"


def _rank(row: Result) -> float:
    if MISSING in row.extra:
        return STATUS_ORDER.index("TOO_SLOW") - 0.5
    return STATUS_ORDER.index(row.status)


def _margin(row: Result) -> float:
    """The least speedup over a baseline: the lower, the sooner a person wants to see it."""
    return min((speedup.estimate for speedup in row.speedup.values()), default=0.0)


def _counted(bad: Sequence[Result | Properties], total: int) -> str:
    kinds = Counter("no kernel" if MISSING in row.extra else row.status.replace("_", " ").lower() for row in bad)
    said = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"{len(bad):,} of {text.plural(total, 'test')} ({said})"


def _kinds(verdicts: Sequence[Verdict]) -> str:
    kinds = Counter(one.verdict for one in verdicts)
    return ", ".join(f"{kinds[kind]:,} {kind}" for kind in VERDICT_ORDER if kinds[kind])


def _told(verdicts: Sequence[Verdict]) -> str:
    return f"; gate: {_kinds(verdicts)}" if verdicts else ""
