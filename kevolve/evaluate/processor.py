"""How long another process has been at work, as the system's scheduler has counted it: no clock of that process has a part in it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_OF_PROCESS = 2  # the kernel's number of a process's clock of scheduled time (``CPUCLOCK_SCHED``)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Microseconds so far.

    ``passed`` by the judge's clock; ``first``: run by the first thread; ``used``: by all threads together, those that have ended too;
    ``waited``: for a core, by those that live.
    """

    passed: float
    first: float
    used: float
    waited: float


def look(pid: int, clock: Callable[[], float], *, proc: Path = Path("/proc")) -> Look | None:
    """What the system has counted of a process. None where it does not count."""
    try:
        first, _ = _scheduled(proc / str(pid) / "schedstat")
        used = time.clock_gettime((~pid << 3) | _OF_PROCESS) * 1e6
        waited = 0.0
        for task in (proc / str(pid) / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                waited += _scheduled(task / "schedstat")[1]
    except (OSError, ValueError, IndexError, OverflowError):
        return None
    return Look(passed=clock() * 1e6, first=first, used=used, waited=waited)


def _scheduled(path: Path) -> tuple[float, float]:
    ran, waited = path.read_text().split()[:2]
    return float(ran) / 1e3, float(waited) / 1e3


def least_between_us(before: Look | None, after: Look | None) -> float | None:
    """The least time that the work between two looks would have taken on a machine without other load; None where it is not known.

    No less than its first thread ran, nor than all of them ran on all cores, nor than what passed less what they waited for a core.
    """
    if before is None or after is None:
        return None
    waited = max(0.0, after.waited - before.waited)
    return max(after.first - before.first, (after.used - before.used) / len(os.sched_getaffinity(0)), after.passed - before.passed - waited)
