"""A record's rows by kernel: one spec on one target of one device, the latest date first, earlier dates as its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kevolve.report.html.markup import anchor
from kevolve.report.html.state import State, of_verdict, state, worst
from kevolve.report.record import Environment, Properties, Record, Result, SearchRow, Speedup, Verdict
from kevolve.report.terminal import geometric_mean

_UNKNOWN_MARGIN = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A benchmark case as last measured. ``earlier``: what it was on other dates, oldest first, with those dates."""

    row: Result
    state: State
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
    """The kernels of ``record``, those that need attention first."""
    environments = record.environments or (record.environment,)
    groups: dict[tuple[str, str, str], _Group] = {}

    def group(row: Any) -> tuple[_Group, Environment]:
        place = environments[where(row.extra, len(environments))]
        return groups.setdefault((row.spec, row.target, place.device), _Group()), place

    for result in record.results:
        found, place = group(result)
        found.results.setdefault(result.case, []).append((place.date, result))
        found.places.append(place)
    for properties in record.properties:
        found, place = group(properties)
        found.properties.append((place.date, properties))
        found.places.append(place)
    for verdict in record.gate:
        found, place = group(verdict)
        found.verdicts.append(verdict)
        found.places.append(place)
    for search in record.searches:
        found, place = group(search)
        found.searches.append(search)
        found.places.append(place)
    taken: set[str] = set()
    made = [found.kernel(spec, target, anchor(f"{spec}-{target}", taken)) for (spec, target, _), found in groups.items()]
    return tuple(sorted(made, key=lambda kernel: (kernel.state.rank, kernel.margin)))


class _Group:
    """Rows of one kernel while they are collected."""

    def __init__(self) -> None:
        self.results: dict[str, list[tuple[str, Result]]] = {}
        self.properties: list[tuple[str, Properties]] = []
        self.verdicts: list[Verdict] = []
        self.searches: list[SearchRow] = []
        self.places: list[Environment] = []

    def kernel(self, spec: str, target: str, id: str) -> Kernel:
        cases = [self._case(name, dated) for name, dated in self.results.items()]
        rest = tuple(verdict for verdict in self.verdicts if verdict.case not in self.results)
        latest = max(self.properties, key=lambda dated: dated[0], default=(None, None))[1]
        languages = [*(case.row.language for case in cases), latest and latest.language, *(one.language for one in self.verdicts)]
        return Kernel(
            id=id,
            spec=spec,
            target=target,
            language=next(filter(None, languages), ""),
            environment=max(self.places, key=lambda place: place.date),
            cases=tuple(sorted(cases, key=lambda case: (case.state.rank, case.margin))),
            properties=latest,
            verdicts=rest,
            searches=tuple(self.searches),
        )

    def _case(self, name: str, dated: Sequence[tuple[str, Result]]) -> Case:
        in_order = sorted(dated, key=lambda one: one[0])
        row = in_order[-1][1]
        verdicts = tuple(verdict for verdict in self.verdicts if verdict.case == name)
        return Case(row=row, state=state(row, verdicts), verdicts=verdicts, earlier=tuple(in_order[:-1]))


def where(extra: Mapping[str, Any], count: int) -> int:
    """The index of a row's environment; 0 where it is none of ``count``."""
    index = extra.get("environment", 0)
    return index if isinstance(index, int) and 0 <= index < count else 0


def number(value: Any) -> float | None:
    """A figure from a record's free fields; None for what is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def mapping(extra: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping from a record's free fields; empty for what is none."""
    found = extra.get(name)
    return found if isinstance(found, Mapping) else {}
