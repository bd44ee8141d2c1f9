"""A record as Markdown (GitHub's and GitLab's): what failed first, then every case, the gate, searches, environment and method.

Foreign text stands in code spans and fences only (``kevolve.report.escape``). Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kevolve.report import text
from kevolve.report.attention import banner, failed, verdicts_worst_first, worst_first
from kevolve.report.escape import block, span
from kevolve.report.merge import environment_of, latest
from kevolve.report.record import Environment, Properties, Record, Result, SearchRow, Side, Verdict
from kevolve.report.terminal import mean_line

_MESSAGE = 4000  # characters of a failure's message


def render(record: Record, *, most: int | None = None) -> str:
    """The report. ``most``: how many rows of each table and how many messages; what is left out is counted. Only the newest rows."""
    rows = worst_first(latest(record, record.results))
    verdicts = verdicts_worst_first(latest(record, record.gate))
    plans = latest(record, record.properties)
    parts = [f"# kevolve\n\n**{banner(record)}**", *_means(record, rows)]
    parts += _section("Gate", gate_table(verdicts, most=most), *_gate_messages(verdicts, most))
    parts += _section("Cases", _cases(record, rows, most))
    parts += _section("Failures", *_failures([*rows, *plans], most))
    parts += _section("Properties", _plans(plans, most))
    parts += _section("Searches", _searches(record.searches, most))
    parts += _section("Environment", *_environments(record))
    parts += _section("Method", *_methods(rows, most))
    return "\n\n".join(part for part in parts if part) + "\n"


def _means(record: Record, rows: Sequence[Result]) -> Iterator[str]:
    """One mean a device: over several it says nothing."""
    by_device: dict[str, list[Result]] = {}
    for row in rows:
        by_device.setdefault(environment_of(record, row).device, []).append(row)
    for device, group in by_device.items():
        if said := mean_line(group):
            yield f"{span(device)}: {said}"


def gate_table(verdicts: Sequence[Verdict], *, most: int | None = None) -> str:
    """The gate's verdicts, in the order given; empty for none."""
    headings = ("kernel", "case", "target", "verdict", "old", "new", "old over new", "why")
    cells = (
        (
            span(one.spec),
            span(one.case),
            span("/".join(filter(None, (one.target, one.language)))),
            one.verdict,
            _side(one.old),
            _side(one.new),
            text.ratio(one.ratio),
            span(one.message.partition("\n")[0]),
        )
        for one in verdicts
    )
    return table(headings, cells, total=len(verdicts), most=most)


def table(headings: Sequence[str], cells: Iterable[Sequence[str]], *, total: int, most: int | None = None) -> str:
    """A pipe table of cells that are safe already; unaligned, since padding to one long cell would multiply the size of all."""
    if not total:
        return ""
    shown = [row for row, _ in zip(cells, range(total if most is None else most), strict=False)]
    lines = [headings, ["---"] * len(headings), *shown]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return drawn if len(shown) == total else f"{drawn}\n\n{_left_out(total - len(shown), total)}"


def _section(title: str, *parts: str) -> list[str]:
    said = [part for part in parts if part]
    return [f"## {title}", *said] if said else []


def _left_out(count: int, total: int) -> str:
    return f"… {count:,} more of {total:,} left out, the worst are shown"


def _side(side: Side | None) -> str:
    if side is None:
        return ""
    where = span(side.revision[:12]) or "here"
    return f"{text.time(side.time_us)} ({where})" if side.time_us is not None else where


def _gate_messages(verdicts: Sequence[Verdict], most: int | None) -> Iterator[str]:
    told = [one for one in verdicts if one.failed]
    for one in told[:most]:
        yield f"{span(one.spec)} {span(one.case)} {one.verdict}:\n\n{block(_figures(one), _MESSAGE)}"
    if most is not None and len(told) > most:
        yield _left_out(len(told) - most, len(told))


def _figures(verdict: Verdict) -> str:
    """The message, with the figures that grew beyond their allowance."""
    grown = [figure for figure in verdict.figures if figure.beyond]
    lines = [f"{one.name} ({one.where}): {one.old:g} before, {one.new:g} now, {one.bound} {one.allowed:g} allowed" for one in grown]
    return "\n".join(part for part in (verdict.message, *lines) if part)


def _cases(record: Record, rows: Sequence[Result], most: int | None) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.speedup))
    several = len({environment_of(record, row).device for row in rows}) > 1
    headings = ("spec", "case", "target", *(("device",) if several else ()), "status", "time", *map(_over, names), "of light")
    cells = (
        (
            span(row.spec),
            span(row.case),
            span("/".join(filter(None, (row.target, row.language)))),
            *((span(environment_of(record, row).device),) if several else ()),
            row.status.replace("_", " ").lower(),
            text.time(text.best_time(row.time_us)),
            *(text.ratio(row.speedup.get(name)) for name in names),
            text.percent(row.speed_of_light),
        )
        for row in rows
    )
    return table(headings, cells, total=len(rows), most=most)


def _over(name: str) -> str:
    return f"over {name if name == 'eager' else 'torch.compile' if name == 'compile' else span(name)}"


def _failures(rows: Sequence[Result | Properties], most: int | None) -> Iterator[str]:
    """The messages of what failed, each once, with the cases that it stopped."""
    reasons: dict[tuple[str, str], list[Result | Properties]] = {}
    for row in rows:
        if failed(row):
            reasons.setdefault((row.status, row.message), []).append(row)
    for (status, message), stopped in list(reasons.items())[:most]:
        names = [span(f"{row.spec}[{row.case if isinstance(row, Result) else 'properties'}]") for row in stopped[:5]]
        more = f" and {len(stopped) - 5:,} more" if len(stopped) > 5 else ""
        yield f"**{status.replace('_', ' ').lower()}**: {', '.join(names)}{more}\n\n{block(message or 'no message', _MESSAGE)}"
    if most is not None and len(reasons) > most:
        yield _left_out(len(reasons) - most, len(reasons))


def _plans(plans: Sequence[Properties], most: int | None) -> str:
    ordered = sorted(plans, key=lambda row: not failed(row))
    cells = (
        (span(row.spec), span(row.target), row.status.replace("_", " ").lower(), f"{row.draws:,}", f"{row.excluded:,}") for row in ordered
    )
    return table(("spec", "target", "status", "draws compared", "excluded"), cells, total=len(ordered), most=most)


def _searches(searches: Sequence[SearchRow], most: int | None) -> str:
    headings = ("spec", "target", "steps", "best", "idea", "tokens", "cost")
    return table(headings, map(_search, searches), total=len(searches), most=most)


def _search(row: SearchRow) -> Sequence[str]:
    best = next((node for node in row.nodes if node.id == row.best), None)
    tokens = sum(node.usage.input + node.usage.cached + node.usage.output for node in row.nodes)
    asked = [node.usage.usd for node in row.nodes if node.usage.input + node.usage.cached + node.usage.output]
    known = [usd for usd in asked if usd is not None]
    cost = "" if not asked else f"${sum(known):.4f}" if len(known) == len(asked) else "price unknown"
    gained = f"{text.digits(best.fitness)}x" if best else "none"
    return span(row.spec), span(row.target), f"{len(row.nodes):,}", gained, span(best.idea) if best else "", f"{tokens:,}", cost


def _environments(record: Record) -> Iterator[str]:
    for environment in record.environments or (record.environment,):
        yield f"{span(environment.device)} ({span(environment.arch)}), {span(environment.date)}{_commit(environment)}"
        named = {"versions": environment.versions, "toolchain": environment.toolchain, "isolation": environment.isolation}
        yield "\n".join(f"- {name}: {_named(values)}" for name, values in named.items() if values)


def _commit(environment: Environment) -> str:
    return f", commit {span(environment.commit)}" if environment.commit else ""


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{span(name)} {span(value if isinstance(value, str) else json.dumps(value), 400)}" for name, value in values.items())


def _methods(rows: Sequence[Result], most: int | None) -> Iterator[str]:
    methods = list(dict.fromkeys(row.method for row in rows if row.method))
    for method in methods[:most]:
        yield block(method, _MESSAGE)
    if most is not None and len(methods) > most:
        yield _left_out(len(methods) - most, len(methods))
