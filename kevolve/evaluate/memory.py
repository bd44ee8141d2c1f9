"""How much memory there is, and how much a computation takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

_GROUP = Path("/sys/fs/cgroup")
_RESET_PEAK = "5"  # what clear_refs takes (proc(5), since Linux 4.0)


def available_bytes(group: Path = _GROUP) -> int:
    """What may still be taken: the system's free memory, and what the container's control group leaves of its own limit."""
    available = int(psutil.virtual_memory().available)
    try:
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        return min(available, max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # no such group, or "max"
        return available


def peak_bytes(work: Callable[[], object]) -> int | None:
    """By how much the resident memory of this process rose at the most while ``work`` ran; None where the system does not say."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        before = _status_bytes("VmRSS")
    except OSError:
        work()
        return None
    work()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), 0)
