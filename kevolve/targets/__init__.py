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
    budget_s: float = 2.0  # what the timed rounds of a measurement should take
    quick_budget_s: float = 0.2  # and those of a rough one
    pairs_a_process: int = 1  # pairs that a process serves, its buffers allocated anew for each
    sets: int = 1  # input sets that calls rotate over; above 1 contents stay on the device and are rewritten whole before every call
    sets_bytes: int = 1 << 32  # the most that all sets together hold
    answered: int | None = None  # pairs in which outputs of the candidate's timed calls are asked for; None: every one, and of every side
    bound_us: float = 10.0  # how much longer than it claims a call may take by the judge's clock: what the host adds to it
    least: int = 1  # times the pairs of a first look without which a gate does not say that a kernel is no slower
    extension: int = 2  # times as many pairs as a first look has, at the most, where a gate's verdict stays open
    looks: int = 2  # that must all say "too slow"; a third only where the kernel is slower than asked by little
    trim: float = 0.0  # the share of a block's shortest and of its longest times that does not count


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTimes:
    """Device times of one block, microseconds a call; ``replayed_us`` where calls could be captured and replayed."""

    launched_us: tuple[float, ...]
    replayed_us: tuple[float, ...] | None = None


class CaptureError(RuntimeError):
    """Calls that cannot be captured: they wait for the device, or work where the capture does not see it."""


class Replays(Protocol):
    """Calls captured once, in groups of ``batch`` input sets, and replayed without the host."""

    groups: int

    def time(self, group: int) -> float:
        """Replay one group on cold caches; microseconds a call."""
        ...

    def outputs(self, group: int) -> Sequence[Any]:
        """What the group's calls return, overwritten by its next replay."""
        ...

    def replay(self, group: int) -> None:
        """Replay without timing or waiting."""
        ...


class Target(Protocol):
    """What a target module provides. The first group runs in the judge, the second in the worker.

    A target with a device of its own may say more (asked for with ``getattr``; what a host answers in brackets):

    - in the judge: ``limits_address_space`` (True); ``starts_programs`` (False) and ``writes`` (None, unsaid), paths or patterns besides
      its scratch folder that a child which starts programs may write to; ``forks_after_use`` (True), whether a process that has used the
      device may be forked; ``lock_path() -> Path | None``, a file whose lock is the device's; ``selections()`` (``({},)``), for each
      device here what a process must have in its environment to use it; ``judges_from`` (None, never), the
      elements of a draw's inputs from which its oracle runs on the device; ``checks_elsewhere``, the target that checks these kernels
      where ``missing()`` says there is no device; ``compiles_for``, the architectures that kernels are then compiled for;
      ``profilers`` (``profile.Profiler``), the first that can be had is asked about a kernel; ``condition() -> (held, tenants)``, for how
      many seconds by reason its clocks were held down so far, and the processes of others that use it now;
    - in the worker: ``marker(page, offset)``, a function that has the device write a number to a shared page in order with its work
      (None: not possible), so that calls need not be waited for one by one; ``fetch_all(tensors)``, many at once;
      ``stock(call, item)``, untimed calls until the allocator has what a block needs;
      ``capture(call, sets, batch) -> Replays`` (raises ``CaptureError``); ``reallocate(seed)``, which gives freed memory back, so that
      the next buffers lie elsewhere; ``crowds()`` (False), whether this process holds so much of the device's memory that others may
      lack it; ``explain(message) -> str``, a device's error in words for the kernel's author.
    """

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
