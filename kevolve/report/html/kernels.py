"""A record's rows by kernel: one spec on one target of one device, the latest date first, earlier dates as its history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from kevolve.report.html.markup import anchor
from kevolve.report.html.state import State, of_verdict, state, worst
from kevolve.report.merge import environment_of, history, latest
from kevolve.report.record import Environment, Properties, Record, Result, SearchRow, Speedup, Verdict
from kevolve.report.terminal import geometric_mean

_UNKNOWN_MARGIN = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A benchmark case as last measured. ``earlier``: what it was on other dates, oldest first, with those dates."""

    row: Result
    state: State
    date: str = ""
    verdicts: tuple[Verdict, ...] = ()
    earlier: tuple[tuple[str, Result], ...] = ()

    @property
    def over(self) -> Speedup | None:
        """The speedup that the threshold is held against: over the first baseline."""
        return next(iter(self.row.speedup.values()), None)

    @property
    def threshold(self) -> float | None:
        """The speedup that the spec asks for, where the record says."""
        return number(self.row.extra.get("min_speedup"))

    @property
    def margin(self) -> float:
        """How far above its threshold it is, as a ratio: the smallest first; infinite where nothing was measured."""
        return self.over.estimate / (self.threshold or 1.0) if self.over else _UNKNOWN_MARGIN


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Everything a page says of one spec on one target of one device. Cases and kernels are sorted by what needs attention."""

    id: str
    spec: str
    target: str
    language: str
    environment: Environment
    cases: tuple[Case, ...] = ()
    properties: Properties | None = None
    verdicts: tuple[Verdict, ...] = ()  # of the whole kernel, or of cases that the run has no row of
    searches: tuple[SearchRow, ...] = ()

    @cached_property
    def state(self) -> State:
        """The worst of its cases, its property plan and its verdicts."""
        found = [case.state for case in self.cases]
        if self.properties is not None:
            found.append(state(self.properties, self.verdicts))
        return worst([*found, *(of_verdict(verdict) for verdict in self.verdicts)])

    @property
    def judged(self) -> tuple[Verdict, ...]:
        """Everything that the gate says of it, of its cases first."""
        return (*(verdict for case in self.cases for verdict in case.verdicts), *self.verdicts)

    @cached_property
    def margin(self) -> float:
        """The least of its cases' margins."""
        return min((case.margin for case in self.cases), default=_UNKNOWN_MARGIN)

    @cached_property
    def mean(self) -> float | None:
        """The geometric mean of its cases' speedups over the first baseline; None where nothing was timed."""
        return geometric_mean([case.over.estimate for case in self.cases if case.over])

    @cached_property
    def path(self) -> str:
        """Its file, as the record names it."""
        rows: list[Result | Properties | None] = [*(case.row for case in self.cases), self.properties]
        return next((row.kernel.path for row in rows if row is not None and row.kernel), "")

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of its text, or nothing."""
        rows: list[Result | Properties | None] = [*(case.row for case in self.cases), self.properties]
        return next((row.kernel.hash for row in rows if row is not None and row.kernel and row.kernel.hash), "")


def kernels(record: Record) -> tuple[Kernel, ...]:
    """The kernels of ``record`` as last judged, those that need attention first."""
    groups: dict[tuple[str, ...], _Group] = {}

    def group(row: Result | Properties | Verdict | SearchRow) -> _Group:
        place = environment_of(record, row)
        found = groups.setdefault((row.spec, row.target, place.device, place.arch), _Group())
        found.environments.append(place)
        return found

    for (spec, _, target, device, arch), rows in history(record).items():
        group(rows[-1])
        groups[spec, target, device, arch].results.append([(environment_of(record, row).date, row) for row in rows])
    for properties in latest(record, record.properties):
        group(properties).properties = properties
    for verdict in latest(record, record.gate):
        group(verdict).verdicts.append(verdict)
    for search in record.searches:
        group(search).searches.append(search)
    taken: set[str] = set()
    made = [found.kernel(spec, target, anchor(f"{spec}-{target}", taken)) for (spec, target, *_), found in groups.items()]
    return tuple(sorted(made, key=lambda kernel: (kernel.state.rank, kernel.margin)))


@dataclass(slots=True)
class _Group:
    """Rows of one kernel while they are collected. ``results``: a list a case, oldest first, with dates."""

    results: list[list[tuple[str, Result]]] = field(default_factory=list)
    properties: Properties | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    searches: list[SearchRow] = field(default_factory=list)
    environments: list[Environment] = field(default_factory=list)

    def kernel(self, spec: str, target: str, id: str) -> Kernel:
        cases = [self._case(dated) for dated in self.results]
        named = {case.row.case for case in cases}
        plan = [self.properties.language] if self.properties else []
        languages = [*(case.row.language for case in cases), *plan, *(verdict.language for verdict in self.verdicts)]
        return Kernel(
            id=id,
            spec=spec,
            target=target,
            language=next((language for language in languages if language), ""),
            environment=max(self.environments, key=when),
            cases=tuple(sorted(cases, key=lambda case: (case.state.rank, case.margin))),
            properties=self.properties,
            verdicts=tuple(verdict for verdict in self.verdicts if verdict.case not in named),
            searches=tuple(self.searches),
        )

    def _case(self, dated: list[tuple[str, Result]]) -> Case:
        date, row = dated[-1]
        verdicts = tuple(verdict for verdict in self.verdicts if verdict.case == row.case)
        return Case(row=row, date=date, state=state(row, verdicts), verdicts=verdicts, earlier=tuple(dated[:-1]))


def when(environment: Environment) -> float:
    """Its date, in seconds since 1970; before all others where it is none."""
    try:
        found = datetime.fromisoformat(environment.date)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return float("-inf")


def number(value: Any) -> float | None:
    """A figure from a record's free fields; None for what is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def mapping(extra: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping from a record's free fields; empty for what is none."""
    found = extra.get(name)
    return found if isinstance(found, Mapping) else {}
