"""What a profiler says of a kernel, as values and in words; and what a target's profilers must provide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MOST_LINES = 20
MOST_KERNELS = 5  # that are told of, those that take longest first
_LONGEST_NAME = 80


class Unprofiled(Exception):
    """A profiler gave no figures; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One figure. ``name`` is in words for the kernel's author."""

    name: str
    value: float
    unit: str = ""

    @property
    def text(self) -> str:
        """``cycles 1,230,000``, ``occupancy 48.2%``."""
        shown = f"{self.value:,.0f}" if abs(self.value) >= 1_000 else f"{self.value:.3g}"
        return f"{self.name} {shown}{self.unit if self.unit in ('', '%') else f' {self.unit}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelProfile:
    """One device function: ``launches`` a call, ``time_us`` of one launch, and what was counted in it."""

    name: str
    launches: float
    time_us: float | None = None
    counters: tuple[Counter, ...] = ()

    @property
    def text(self) -> str:
        """One line."""
        times = "" if self.launches == 1 else f", {self.launches:.3g} launches a call"
        took = "" if self.time_us is None else f": {self.time_us:.3g} us"
        counted = "".join(f"; {counter.text}" for counter in self.counters)
        return f"{plain(self.name)}{took}{times}{counted}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What ``tool`` says of ``calls`` calls. ``counters`` are per call; ``missing``: what it could not tell, and why."""

    tool: str
    calls: int
    counters: tuple[Counter, ...] = ()
    kernels: tuple[KernelProfile, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """At most ``MOST_LINES`` lines for the kernel's author."""
        lines = [f"{self.tool}, per call over {self.calls} calls:" if self.counters else f"{self.tool}, {self.calls} calls:"]
        lines += [f"- {counter.text}" for counter in self.counters]
        by_time = sorted(self.kernels, key=lambda kernel: -(kernel.time_us or 0.0) * kernel.launches)
        lines += [f"- {kernel.text}" for kernel in by_time[:MOST_KERNELS]]
        if len(by_time) > MOST_KERNELS:
            lines.append(f"- and {len(by_time) - MOST_KERNELS} kernels that take less")
        lines += [f"- not known: {reason}" for reason in self.missing]
        return "\n".join(lines[:MOST_LINES])


class Profiler(Protocol):
    """One tool, a target's. ``missing``, ``command`` and ``read`` run in the judge, ``watched`` in the confined process.

    ``folder`` is the judge's: what is outside its ``scratch`` the confined process can read only.
    """

    name: str
    most_calls: int  # that are worth watching: a tool that replays every kernel many times needs one
    needs_network: bool  # to its own part inside the process; then the kernel is loaded once they are connected, and cut off

    def missing(self) -> str | None:
        """None where it can be tried, else the reason."""
        ...

    def command(self, folder: Path) -> Sequence[str]:
        """What the confined process is started by; empty for a tool that works inside of it."""
        ...

    def watched(self, scratch: Path) -> AbstractContextManager[None]:
        """Around the calls that count."""
        ...

    def read(self, folder: Path, *, calls: int) -> Profile:
        """What it left. Raises ``Unprofiled``; every file below ``scratch`` is the candidate's word."""
        ...


def plain(name: str) -> str:
    """A name of anybody's in printable characters, not too long."""
    text = re.sub(r"[^\x20-\x7e]", "?", name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."
