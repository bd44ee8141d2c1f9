"""What else the machine did while something was timed: why a verdict could not be reached, read from counters and not guessed.

Counters are read before and after, and only their differences are looked at: what lay before a measurement disturbs nothing. A figure
that the system does not give (no ``/proc/pressure``, no cgroup, no such query of a device) is unknown and says nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kevolve.evaluate.sandbox import children_of
from kevolve.evaluate.statistics import Interval

PROC, SYS = Path("/proc"), Path("/sys")
# Shares of the time that was looked at. On two idle cores a measurement of ours alone leaves 1% to 4% of waiting, and nothing stolen.
_WAITED, _OTHERS, _STOLEN, _STOPPED = 0.10, 0.10, 0.02, 0.02
_LEAST_S = 0.05  # ticks are of 10 ms
NOISE = 2.0  # an interval that reaches from below asked / NOISE to above asked says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Counters at one moment, seconds where not said; None or absent where the system does not give them.

    ``waited``: some process waited for a core; ``stolen``: by the hypervisor, all cores together; ``busy``: of all cores; ``own``: this
    process's and its descendants'; ``stopped``: by a control group's quota; ``hot``: thermal interventions, a count.
    ``device``: by reason, how long a device held its clocks down. ``tenants``: other processes that use the device.
    """

    at: float
    waited: float | None = None
    stolen: float | None = None
    busy: float | None = None
    own: float | None = None
    stopped: float | None = None
    hot: int | None = None
    device: Mapping[str, float] = field(default_factory=dict)
    tenants: tuple[str, ...] = ()


def read(target: Any = None, *, proc: Path = PROC, sys: Path = SYS, clock: Callable[[], float] = time.monotonic) -> Reading:
    """The counters now, in about a millisecond. ``target``: asked for its device's (``condition``), where it has such queries."""
    stolen, busy = _ticks(proc)
    condition = getattr(target, "condition", None)
    device, tenants = condition() if condition is not None else ({}, ())
    return Reading(
        at=clock(),
        waited=_pressure(proc),
        stolen=stolen,
        busy=busy,
        own=_own(proc, os.getpid()),
        stopped=_stopped(sys),
        hot=_hot(sys),
        device=device,
        tenants=tuple(tenants),
    )


def reasons(before: Reading, after: Reading, *, cores: int) -> tuple[str, ...]:
    """What disturbed whatever ran between two readings, in words; none where nothing is known to have."""
    elapsed = after.at - before.at
    if elapsed < _LEAST_S:
        return ()
    waited, busy, own = (_share(getattr(before, name), getattr(after, name), elapsed) for name in ("waited", "busy", "own"))
    found = list(stalls(before, after, cores=cores))
    others = max(0.0, busy - own) if busy is not None and own is not None else None
    if others is not None and others > _OTHERS and (waited > _WAITED if waited is not None else others > cores / 2):
        beside = f"; processes waited for a core {waited:.0%} of the time" if waited is not None else ""
        found.append(f"other load: other processes used {others:.1f} of {cores} cores{beside}")
    if before.hot is not None and after.hot is not None and after.hot > before.hot:
        found.append(f"throttling: the processor held its clock down for its heat {after.hot - before.hot} times")
    found += [f"throttling: the device held its clocks down {share:.0%} of the time ({reason})" for reason, share in _held(before, after)]
    tenants = sorted({*before.tenants, *after.tenants})
    if tenants:
        found.append(f"other load: other processes use the device: {', '.join(tenants[:3])}" + (", …" if len(tenants) > 3 else ""))
    return tuple(found)


def stalls(before: Reading, after: Reading, *, cores: int) -> tuple[str, ...]:
    """Those of the reasons that stop a process without its waiting for a core being counted."""
    elapsed = after.at - before.at
    if elapsed < _LEAST_S:
        return ()
    stolen, stopped = (_share(getattr(before, name), getattr(after, name), elapsed) for name in ("stolen", "stopped"))
    found = []
    if stolen is not None and stolen / cores > _STOLEN:
        found.append(f"other load: the hypervisor gave {stolen / cores:.0%} of the processor's time to others")
    if stopped is not None and stopped > _STOPPED:
        found.append(f"throttling: the control group's quota stopped its processes {stopped:.0%} of the time")
    return tuple(found)


def stalled(before: Reading, after: Reading, *, cores: int) -> float:
    """The share of the time for which a hypervisor or a quota stopped processes; 0 where nobody counts."""
    elapsed = after.at - before.at
    if elapsed < _LEAST_S:
        return 0.0
    stolen, stopped = (_share(getattr(before, name), getattr(after, name), elapsed) for name in ("stolen", "stopped"))
    return max((stolen or 0.0) / cores, stopped or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What happened since a reading, read only where somebody asks."""

    before: Reading
    reading: Callable[[], Reading]
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)  # the counters are the whole machine's

    def reasons(self) -> tuple[str, ...]:
        """See ``reasons``."""
        return reasons(self.before, self.reading(), cores=self.cores)

    def stalled(self) -> float:
        """See ``stalled``."""
        return stalled(self.before, self.reading(), cores=self.cores)

    def stalls(self) -> tuple[str, ...]:
        """See ``stalls``."""
        return stalls(self.before, self.reading(), cores=self.cores)


def why(first: str, disturbed: Iterable[str]) -> str:
    """A reason and what may have caused it; that nothing is known to have, where nothing is."""
    causes = "; ".join(disturbed)
    return f"{first}; {causes}" if causes else f"{first}; no other load and no throttling was seen"


def noise(speedup: Interval, asked: float) -> str | None:
    """Why an interval does not tell whether a kernel is as fast as asked, or None where it does."""
    if not speedup.low < asked / NOISE < asked <= speedup.high:
        return None
    return (
        f"noise: {speedup.estimate:.3f}x [{speedup.low:.3f}, {speedup.high:.3f}] neither reaches {asked:g}x for sure nor excludes "
        f"a kernel of {asked / NOISE:g}x"
    )


def _share(before: float | None, after: float | None, elapsed: float) -> float | None:
    return None if before is None or after is None else max(0.0, after - before) / elapsed


def _held(before: Reading, after: Reading) -> list[tuple[str, float]]:
    """By reason the share of the time that the device's clocks were held down; only where that is more than a trifle."""
    elapsed = after.at - before.at
    shares = [(reason, (held - before.device.get(reason, held)) / elapsed) for reason, held in after.device.items()]
    return [(reason, min(1.0, share)) for reason, share in shares if share > _STOPPED]


def _pressure(proc: Path) -> float | None:
    """Seconds that some process waited for a core since the system started."""
    try:
        some = (proc / "pressure" / "cpu").read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return None


def _ticks(proc: Path) -> tuple[float | None, float | None]:
    """Seconds of all cores stolen by a hypervisor, and busy."""
    try:
        fields = [int(number) for number in (proc / "stat").read_text().split("\n", 1)[0].split()[1:]]
        user, nice, system, _, _, irq, soft, stolen = fields[:8]
    except (OSError, ValueError):
        return None, None
    unit = os.sysconf("SC_CLK_TCK")
    return stolen / unit, (user + nice + system + irq + soft) / unit


def _own(proc: Path, pid: int) -> float | None:
    """Seconds on a core of a process and its descendants, those that ended and were waited for among them."""
    total, unvisited, unit = 0, [pid], os.sysconf("SC_CLK_TCK")
    while unvisited:
        found = unvisited.pop()
        try:
            total += sum(map(int, (proc / str(found) / "stat").read_text().rpartition(")")[2].split()[11:15]))
        except (OSError, ValueError):
            if found == pid:
                return None
            continue
        unvisited += children_of(found)
    return total / unit


def _stopped(sys: Path) -> float | None:
    """Seconds that this control group's quota stopped it."""
    try:
        lines = (sys / "fs" / "cgroup" / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("throttled_usec"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _hot(sys: Path) -> int | None:
    """How often cores were slowed down for their heat."""
    counts = []
    for path in (sys / "devices" / "system" / "cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        try:
            counts.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return sum(counts) if counts else None
