"""What GitHub shows of a run: a summary of the step, and annotations at the files of the kernels that failed. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kevolve.report import escape, words
from kevolve.report.attention import failed, verdicts_worst_first, worst_first
from kevolve.report.markdown import render
from kevolve.report.merge import latest
from kevolve.report.record import Properties, Record, Result, Verdict

SUMMARY_BYTES = 1024 * 1024  # of one step; GitHub drops what is longer
ANNOTATIONS = 10  # errors, and as many warnings, that GitHub shows of one step
_MESSAGE = 2000  # characters


def summary(record: Record, *, limit: int = SUMMARY_BYTES) -> str:
    """The Markdown report within ``limit`` bytes of UTF-8: the worst rows, and how many were left out. Empty where not even that fits."""
    return fitted(lambda most: render(record, most=most), limit)


def fitted(rendered: Callable[[int | None], str], limit: int) -> str:
    """What ``rendered`` gives for all rows or, while that is longer than ``limit`` bytes, for half as many; empty where none fits."""
    most: int | None = None
    while True:
        shown = rendered(most)
        if len(shown.encode()) <= limit:
            return shown
        if most == 0:
            return ""
        most = 4096 if most is None else most // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One message at a file. ``level``: error, warning or notice."""

    level: str
    file: str
    title: str
    message: str

    def command(self) -> str:
        """The workflow command, one line."""
        properties = {"file": self.file, "line": "1", "title": self.title}
        said = ",".join(f"{name}={escape.parameter(value)}" for name, value in properties.items() if value)
        return f"::{self.level} {said}::{escape.data(self.message)}"


def commands(record: Record, *, prefix: str = "", most: int = ANNOTATIONS) -> list[str]:
    """Workflow commands for what failed, the gate's verdicts first, each worst first: one a kernel file.

    ``most``: errors, and as many warnings. ``prefix``: of the rootdir below the repository's root, where they differ.
    """
    found = list(_all(record, prefix))
    errors, warnings = ([one.command() for one in found if one.level == level] for level in ("error", "warning"))
    return errors[:most] + warnings[:most]


def _all(record: Record, prefix: str) -> Iterator[Annotation]:
    verdicts = verdicts_worst_first(latest(record, record.gate))
    rows = [row for row in worst_first(latest(record, record.results)) if failed(row)]
    plans = [row for row in latest(record, record.properties) if failed(row)]
    found = [_of_verdict(one, prefix) for one in verdicts if one.failed or one.verdict == "unmeasurable"]
    found += [_of_row(row, prefix) for row in rows]
    return _grouped([*found, *(_of_row(row, prefix) for row in plans)])


def _grouped(items: list[Annotation]) -> Iterator[Annotation]:
    """One a file and level, the first and worst, with the number of the others."""
    groups: dict[tuple[str, str], list[Annotation]] = {}
    for item in items:
        groups.setdefault((item.file, item.level), []).append(item)
    for first, *others in groups.values():
        more = f"\nand {len(others):,} more of this kernel" if others else ""
        yield Annotation(level=first.level, file=first.file, title=first.title, message=first.message + more)


def _of_verdict(verdict: Verdict, prefix: str) -> Annotation:
    side = verdict.new or verdict.old
    return Annotation(
        level="error" if verdict.failed else "warning",
        file=_below(prefix, side.path if side else ""),
        title=words.line(f"{verdict.verdict}: {_name(verdict.spec, verdict.case)} on {verdict.target}", 200),
        message=_cut(verdict.message or verdict.verdict),
    )


def _of_row(row: Result | Properties, prefix: str) -> Annotation:
    case = row.case if isinstance(row, Result) else "properties"
    return Annotation(
        level="error",
        file=_below(prefix, _file(row)),
        title=words.line(f"{row.status}: {_name(row.spec, case)} on {row.target}", 200),
        message=_cut(row.message or row.status),
    )


def _file(row: Result | Properties) -> str:
    """The kernel's file, or the test's where there is none."""
    if row.kernel is not None and row.kernel.hash is not None:
        return row.kernel.path
    return str(row.extra.get("test", "")).partition("::")[0]


def _below(prefix: str, path: str) -> str:
    return words.line(f"{prefix}/{path}" if prefix and path else path)


def _name(spec: str, case: str) -> str:
    return f"{spec}[{case}]" if case else spec


def _cut(message: str) -> str:
    shown = words.block(message)
    return shown if len(shown) <= _MESSAGE else f"{shown[:_MESSAGE]}\n… {len(shown) - _MESSAGE:,} more characters"
