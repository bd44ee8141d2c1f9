"""The parts of a run record: values, and what a search and a gate add to them. ``record.py`` puts them together.

Times are microseconds, speedups ratios (baseline over kernel). Fields that this version does not know are kept in ``extra``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
VERDICTS = ("faster", "same", "slower", "wrong", "grown", "unmeasurable", "new", "removed", "renamed", "baseline")
FAILING = ("slower", "wrong", "grown")


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
class Side:
    """One side of a comparison. ``revision``: a commit, or "" for the working tree; ``time_us``: the median as launched."""

    path: str
    hash: str
    revision: str = ""
    time_us: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A static figure of both sides. ``where``: architecture, function, specialisation. ``allowed``: the greatest ``new`` that passes.

    ``least``: more is better (an occupancy), and ``allowed`` is the least that passes.
    """

    name: str
    where: str
    old: float
    new: float
    allowed: float
    least: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def beyond(self) -> bool:
        """Whether the new figure is worse than allowed."""
        return self.new < self.allowed if self.least else self.new > self.allowed

    @property
    def bound(self) -> str:
        """``at most`` or ``at least``, which goes before what is allowed."""
        return "at least" if self.least else "at most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of one case, or of a whole kernel (``case`` is ""). ``ratio``: the old kernel's time over the new one's."""

    spec: str
    case: str
    target: str
    language: str | None
    verdict: str
    message: str = ""
    old: Side | None = None
    new: Side | None = None
    ratio: Speedup | None = None
    figures: tuple[Figure, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it fails the test."""
        return self.verdict in FAILING


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that a step took from a model, and dollars where prices are known. ``input`` counts cached ones apart."""

    input: int = 0
    cached: int = 0
    output: int = 0
    usd: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One step of a search. ``source`` and ``prompt`` are hashes of texts in the record, kept on the best's lineage only; "" for none."""

    id: int
    step: int
    parents: tuple[int, ...] = ()
    operator: str = ""
    model: str = ""
    idea: str = ""
    hypothesis: str = ""
    status: str = "PASSED"
    message: str = ""
    fitness: float = 0.0
    seconds: float = 0.0
    source: str = ""
    prompt: str = ""
    usage: Usage = field(default_factory=Usage)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """A search of this run: its steps in the order they were completed. ``best``: a node's id, None where none works."""

    spec: str
    target: str
    best: int | None = None
    nodes: tuple[NodeRow, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
