"""The run record: one versioned JSON document a run, which every report reads.

``read(path)``, ``write(record, path)`` and the dataclasses between them. Times are microseconds, speedups ratios
(baseline over kernel). ``schema.json`` beside this file describes the same document for other tools. Fields that this
version does not know are kept in ``extra`` and written back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kevolve.files import write_atomically
from kevolve.report import reading
from kevolve.report.fields import Fields, RecordError
from kevolve.report.values import (
    FAILING,
    STATUSES,
    VERDICTS,
    VERSION,
    Environment,
    Figure,
    Kernel,
    NodeRow,
    Properties,
    Result,
    SearchRow,
    Side,
    Speedup,
    Times,
    Usage,
    Verdict,
)

__all__ = [
    "FAILING",
    "STATUSES",
    "VERDICTS",
    "VERSION",
    "Environment",
    "Figure",
    "Kernel",
    "NodeRow",
    "Properties",
    "Record",
    "RecordError",
    "Result",
    "SearchRow",
    "Side",
    "Speedup",
    "Times",
    "Usage",
    "Verdict",
    "read",
    "write",
]

_OPTIONAL = ("gate", "searches", "sources", "prompts", "environments")  # left out where they are empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A whole run, or several merged.

    ``environments``: every machine and date of a merged record, of which ``environment`` is the first; a row's
    ``extra["environment"]`` is its index there, absent for 0. ``sources`` and ``prompts`` are texts by SHA-256.
    """

    environment: Environment
    results: tuple[Result, ...] = ()
    properties: tuple[Properties, ...] = ()
    gate: tuple[Verdict, ...] = ()
    searches: tuple[SearchRow, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    environments: tuple[Environment, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the order people read it: version, environment, results, properties, then what there is of the rest."""
        parts = {name: flat(getattr(self, name)) for name in _OPTIONAL}
        return {
            "version": VERSION,
            "environment": flat(self.environment),
            "results": flat(self.results),
            "properties": flat(self.properties),
            **{name: part for name, part in parts.items() if part},
            **self.extra,
        }

    @classmethod
    def from_json(cls, data: Any) -> Record:
        """Check and take plain data. Raises ``RecordError`` naming the field, what was expected and what was there."""
        fields = Fields(data, "record")
        version = fields.integer("version")
        if version != VERSION:
            raise RecordError(f"record.version: expected {VERSION}, got {version}: it was written by another version of kevolve")
        return cls(
            environment=reading.environment(fields.child("environment")),
            results=tuple(reading.result(row) for row in fields.children("results")),
            properties=tuple(reading.properties(row) for row in fields.children("properties", optional=True)),
            gate=tuple(reading.verdict(row) for row in fields.children("gate", optional=True)),
            searches=tuple(reading.search(row) for row in fields.children("searches", optional=True)),
            sources=fields.texts("sources"),
            prompts=fields.texts("prompts"),
            environments=tuple(reading.environment(row) for row in fields.children("environments", optional=True)),
            extra=fields.rest(),
        )


def read(path: Path) -> Record:
    """The record at ``path``. Raises ``RecordError`` naming the file where it is no record, ``OSError`` where there is none."""
    try:
        return Record.from_json(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: expected a run record, got text that is not JSON ({error})") from error
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error


def write(record: Record, path: Path) -> None:
    """Write ``record`` to ``path`` at once or not at all. Raises ``ValueError`` for a figure that is not finite."""
    write_atomically(path, json.dumps(record.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def flat(value: Any) -> Any:
    """A dataclass as a dict with its ``extra`` fields beside its own; mappings and plain values as they are."""
    if isinstance(value, Mapping):
        return {name: flat(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [flat(inner) for inner in value]
    names = getattr(value, "__dataclass_fields__", None)
    if names is None:
        return value
    own = {name: flat(getattr(value, name)) for name in names if name != "extra"}
    return own | dict(value.extra)
