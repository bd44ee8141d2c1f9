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
from kevolve.report.fields import Fields, RecordError

__all__ = [
    "STATUSES",
    "VERSION",
    "Environment",
    "Kernel",
    "Properties",
    "Record",
    "RecordError",
    "Result",
    "Speedup",
    "Times",
    "read",
    "write",
]

VERSION = 1
STATUSES = (
    "PASSED",
    "INCORRECT_SHAPE",
    "INCORRECT_DTYPE",
    "INCORRECT_NUMERICAL",
    "RUNTIME_ERROR",
    "COMPILE_ERROR",
    "TIMEOUT",
    "TOO_SLOW",
    "REWARD_HACK",
    "SUSPECT",
    "NOT_MEASURED",
    "NO_CANDIDATE",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Microseconds a call: ``launched`` as a user would, gaps included; ``replayed`` from a captured graph, where there is one."""

    launched: float | None = None
    replayed: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """Baseline's time over the kernel's, with its 99% interval over process pairs."""

    estimate: float
    low: float
    high: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The kernel judged: its file below the rootdir (or ``package.module:function``) and the SHA-256 of its text."""

    path: str
    hash: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One spec, target and case. ``speed_of_light`` is the floor over the time, 1.0 at the best."""

    spec: str
    case: str
    target: str
    language: str | None
    status: str
    message: str = ""
    time_us: Times = field(default_factory=Times)
    baseline_us: Mapping[str, Times] = field(default_factory=dict)
    floor_us: float | None = None
    speed_of_light: float | None = None
    speedup: Mapping[str, Speedup] = field(default_factory=dict)
    pairs: int | None = None
    method: str | None = None
    kernel: Kernel | None = None
    evaluations: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """The property plan of one spec and target: draws that were compared and draws excluded above the tolerance's cap."""

    spec: str
    target: str
    language: str | None
    status: str
    message: str = ""
    draws: int = 0
    excluded: int = 0
    kernel: Kernel | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a run took place. ``toolchain`` is by language, ``date`` ISO 8601 in UTC, ``commit`` the repository's where git is there."""

    device: str
    arch: str
    date: str
    versions: Mapping[str, str] = field(default_factory=dict)
    toolchain: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    isolation: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A whole run."""

    environment: Environment
    results: tuple[Result, ...] = ()
    properties: tuple[Properties, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the order people read it: version, environment, results, properties."""
        return {
            "version": VERSION,
            "environment": _flat(self.environment),
            "results": [_flat(row) for row in self.results],
            "properties": [_flat(row) for row in self.properties],
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
            environment=_environment(fields.child("environment")),
            results=tuple(_result(row) for row in fields.children("results")),
            properties=tuple(_properties(row) for row in fields.children("properties", optional=True)),
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


def _flat(value: Any) -> Any:
    """A dataclass as a dict with its ``extra`` fields beside its own; mappings and plain values as they are."""
    if isinstance(value, Mapping):
        return {name: _flat(inner) for name, inner in value.items()}
    names = getattr(value, "__dataclass_fields__", None)
    if names is None:
        return value
    own = {name: _flat(getattr(value, name)) for name in names if name != "extra"}
    return own | dict(value.extra)


def _times(fields: Fields) -> Times:
    launched, replayed = fields.number("launched", optional=True), fields.number("replayed", optional=True)
    return Times(launched=launched, replayed=replayed, extra=fields.rest())


def _speedup(fields: Fields) -> Speedup:
    low, estimate, high = (fields.number(name) for name in ("low", "estimate", "high"))
    if not 0 < low <= estimate <= high:
        raise RecordError(f"{fields.where}: expected 0 < low <= estimate <= high, got {low}, {estimate}, {high}")
    return Speedup(estimate=estimate, low=low, high=high, extra=fields.rest())


def _kernel(fields: Fields | None) -> Kernel | None:
    if fields is None:
        return None
    return Kernel(path=fields.text("path"), hash=fields.text("hash", optional=True), extra=fields.rest())


def _result(fields: Fields) -> Result:
    return Result(
        spec=fields.text("spec"),
        case=fields.text("case"),
        target=fields.text("target"),
        language=fields.text("language", optional=True),
        status=fields.one_of("status", STATUSES),
        message=fields.text("message", optional=True) or "",
        time_us=_times(fields.child("time_us")),
        baseline_us={name: _times(child) for name, child in fields.named("baseline_us", optional=True)},
        floor_us=fields.number("floor_us", optional=True),
        speed_of_light=fields.number("speed_of_light", optional=True),
        speedup={name: _speedup(child) for name, child in fields.named("speedup")},
        pairs=fields.integer("pairs", optional=True),
        method=fields.text("method", optional=True),
        kernel=_kernel(fields.child("kernel", optional=True)),
        evaluations=fields.integer("evaluations", optional=True),
        extra=fields.rest(),
    )


def _properties(fields: Fields) -> Properties:
    return Properties(
        spec=fields.text("spec"),
        target=fields.text("target"),
        language=fields.text("language", optional=True),
        status=fields.one_of("status", STATUSES),
        message=fields.text("message", optional=True) or "",
        draws=fields.integer("draws"),
        excluded=fields.integer("excluded"),
        kernel=_kernel(fields.child("kernel", optional=True)),
        extra=fields.rest(),
    )


def _environment(fields: Fields) -> Environment:
    return Environment(
        device=fields.text("device"),
        arch=fields.text("arch"),
        date=fields.text("date"),
        versions=fields.mapping("versions"),
        toolchain=fields.mapping("toolchain"),
        isolation=fields.mapping("isolation"),
        commit=fields.text("commit", optional=True),
        extra=fields.rest(),
    )
