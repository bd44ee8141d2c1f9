"""Where kernels run: one module a target, registered under ``kevolve.targets``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """What the device can do, measured here; an absent figure is unknown, never a default.

    ``bandwidth``: (footprint in bytes, bytes per second read + written), ascending. ``operations``: per second by dtype.
    """

    bandwidth: tuple[tuple[float, float], ...] = ()
    operations: Mapping[str, float] = field(default_factory=dict)
    random_accesses: tuple[tuple[float, float], ...] = ()  # (table bytes, accesses per second)
    empty_call_us: float | None = None
    margin: float = 1.0  # faster than floor / margin is SUSPECT: how far these figures themselves scatter


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPolicy:
    """How calls are grouped when two processes alternate: a block lasts ``min_us`` and at least ``min_calls`` calls."""

    min_us: float
    min_calls: int
    max_calls: int
    warm_calls: int  # untimed calls after each hand-over
    cache: str  # what the record says: "warm (inputs rewritten between blocks)" …


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTimes:
    """Device times of one block, microseconds a call; ``replayed_us`` where calls could be captured and replayed."""

    launched_us: tuple[float, ...]
    replayed_us: tuple[float, ...] | None = None


class Target(Protocol):
    """What a target module provides. The first group runs in the judge, the second in the worker."""

    name: str
    languages: tuple[str, ...]  # in order of preference
    shares_cores: bool  # whether compiling on the host disturbs its timing
    modelled: bool  # whether its clock is a model: exact and repeatable, one pair is enough
    blocks: BlockPolicy

    def missing(self) -> str | None:
        """None where kernels can run here, else the reason."""
        ...

    def device(self) -> Mapping[str, str]:
        """``name``, ``arch`` (``"sm90"``, used in kernel file names) and versions, for the record."""
        ...

    def unmeasured(self, language: str) -> str | None:
        """Why kernels of ``language`` are checked here but not timed (an interpreter), or None."""
        ...

    def largest(self, language: str) -> int | None:
        """The most elements of one property draw (a cap for the interpreter), or None for no cap."""
        ...

    def environment(self, language: str) -> Mapping[str, str]:
        """Environment variables the worker's server must start with (thread policy, interpreter)."""
        ...

    def peaks(self, cache: Path) -> Peaks:
        """Measured peaks, kept in ``cache`` by device name."""
        ...

    def enter(self, stage: str) -> None:
        """Prepare the worker for ``"check"`` (poisoned allocations) or ``"time"`` (warm allocator)."""
        ...

    def place(self, tensor: Any) -> Any:
        """The tensor on this target's device (itself for a CPU), strides kept."""
        ...

    def fetch(self, tensor: Any) -> Any:
        """The tensor back on the host, strides kept."""
        ...

    def synchronise(self) -> None:
        """Wait for everything on the device, on every stream."""
        ...

    def time_block(self, call: Callable[..., Any], inputs: Sequence[tuple[Any, ...]]) -> tuple[BlockTimes, list[Any]]:
        """Call once with each element of ``inputs``; device times and the outputs of the last eight calls at most."""
        ...
