"""Several records as one: shards of a run, machines, dates. What was measured again stays beside the older row as its history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from kevolve.report.record import Environment, Properties, Record, Result, SearchRow, Verdict

Row = TypeVar("Row", Result, Properties, Verdict, SearchRow)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def merge(records: Sequence[Record]) -> Record:
    """One record of all rows; equal rows of one machine and date are kept once. The order in which records are given does not matter.

    ``environments`` are sorted, newest first. Where fields of later versions differ, those of the newest record stand.
    Raises ``ValueError`` for no records.
    """
    if not records:
        raise ValueError("merge: expected at least one record, got none")
    ordered = sorted(records, key=lambda record: (_when(record.environment), repr(record.environment)), reverse=True)
    environments = _unique(environment for record in ordered for environment in _environments(record))
    environments.sort(key=lambda environment: (_when(environment), repr(environment)), reverse=True)

    def collected(rows: Callable[[Record], Iterable[Row]]) -> tuple[Row, ...]:
        return tuple(_unique(_moved(row, record, environments) for record in ordered for row in rows(record)))

    return Record(
        environment=environments[0],
        results=collected(lambda record: record.results),
        properties=collected(lambda record: record.properties),
        gate=collected(lambda record: record.gate),
        searches=collected(lambda record: record.searches),
        sources=_union(record.sources for record in ordered),
        prompts=_union(record.prompts for record in ordered),
        environments=tuple(environments) if len(environments) > 1 else (),
        extra=_union(record.extra for record in ordered),
    )


def of_shards(records: Sequence[Record]) -> Record:
    """The record of one run whose workers each made a part: one machine and one date, the earliest. Raises ``ValueError`` for none."""
    first = min((record.environment for record in records), key=_when, default=None)
    return merge([replace(record, environment=first) for record in records] if first is not None else [])


def environment_of(record: Record, row: Result | Properties | Verdict | SearchRow) -> Environment:
    """Where and when a row was found. An index that the record does not hold counts as the first."""
    index, environments = row.extra.get("environment", 0), _environments(record)
    return environments[index] if isinstance(index, int) and 0 <= index < len(environments) else record.environment


def history(record: Record) -> dict[tuple[str, ...], list[Result]]:
    """The rows of each spec, case, target and device, oldest first."""
    return _by_key(record, record.results)


def latest(record: Record, rows: Sequence[Row]) -> list[Row]:
    """The newest row of each spec, case, target and device, in the order of the record."""
    newest = {id(found[-1]) for found in _by_key(record, rows).values()}
    return [row for row in rows if id(row) in newest]


def by_device(record: Record) -> list[Record]:
    """The newest rows of each device as a record of its own, with its newest environment: figures of several mean nothing together."""
    places: dict[tuple[str, str], Environment] = {}
    for environment in _environments(record):
        known = places.get(_device(environment))
        if known is None or _when(environment) > _when(known):
            places[_device(environment)] = environment

    def those_of(device: tuple[str, str], rows: Sequence[Row]) -> tuple[Row, ...]:
        found = (row for row in latest(record, rows) if _device(environment_of(record, row)) == device)
        return tuple(replace(row, extra={name: value for name, value in row.extra.items() if name != "environment"}) for row in found)

    return [
        replace(
            record,
            environment=environment,
            environments=(),
            results=those_of(device, record.results),
            properties=those_of(device, record.properties),
            gate=those_of(device, record.gate),
            searches=those_of(device, record.searches),
        )
        for device, environment in places.items()
    ]


def _device(environment: Environment) -> tuple[str, str]:
    return environment.device, environment.arch


def _by_key(record: Record, rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        place = environment_of(record, row)
        found.setdefault((row.spec, getattr(row, "case", ""), row.target, place.device, place.arch), []).append(row)
    return {key: sorted(group, key=lambda row: _when(environment_of(record, row))) for key, group in found.items()}


def _moved(row: Row, record: Record, environments: Sequence[Environment]) -> Row:
    """The row with the index of its environment in the merged record."""
    index = environments.index(environment_of(record, row))
    extra = {name: value for name, value in row.extra.items() if name != "environment"}
    return replace(row, extra=extra | ({"environment": index} if index else {}))


def _environments(record: Record) -> tuple[Environment, ...]:
    return record.environments or (record.environment,)


def _when(environment: Environment) -> datetime:
    """Its date; the earliest of all where it is none, so that what cannot be placed never hides what can."""
    try:
        found = datetime.fromisoformat(environment.date)
    except ValueError:
        return _EARLIEST
    return found if found.tzinfo else found.replace(tzinfo=UTC)


Item = TypeVar("Item")


def _unique(items: Iterable[Item]) -> list[Item]:
    """Each once, told apart by what it says: values that hold mappings have no hash."""
    return list({repr(item): item for item in items}.values())


def _union(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All of them; the first that names a field wins."""
    united: dict[str, Any] = {}
    for part in parts:
        united |= {name: value for name, value in part.items() if name not in united}
    return united
