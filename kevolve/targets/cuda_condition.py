"""What NVIDIA's management library knows of a device's condition: clocks held down, and who else uses it. No CUDA context is made."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
# nvmlPerfPolicyType_t; a power cap is normal where a kernel draws much, yet it slows one of two sides down like any other cause.
_POLICIES = {0: "power cap", 1: "heat", 3: "board limit", 5: "reliability"}
_MOST_PROCESSES = 64


class _Violation(ctypes.Structure):
    """nvmlViolationTime_t: microseconds of the reference, nanoseconds held down."""

    _fields_ = (("reference", ctypes.c_ulonglong), ("violation", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    """nvmlProcessInfo_v2_t."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("bytes", ctypes.c_ulonglong),
        ("instance", ctypes.c_uint),
        ("compute", ctypes.c_uint),
    )


def condition(uuid: str, *, library: Any = None, proc: Path = Path("/proc")) -> tuple[Mapping[str, float], tuple[str, ...]]:
    """Seconds that the device ``uuid`` (hexadecimal) held its clocks down, by reason, and the processes of others that use it.

    What the library does not answer is left out; without a library nothing is known.
    """
    known = _library() if library is None else library
    device = None if known is None else _device(known, uuid)
    if known is None or device is None:
        return {}, ()
    return _held(known, device), tuple(_others(_processes(known, device), proc))


@functools.cache
def _library() -> Any:
    try:
        found = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    return found if found.nvmlInit_v2() == _SUCCESS else None


def _device(library: Any, uuid: str) -> Any:
    parts = (uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:])
    device = ctypes.c_void_p()
    name = ("GPU-" + "-".join(parts)).encode()
    return device if library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(device)) == _SUCCESS else None


def _held(library: Any, device: Any) -> dict[str, float]:
    found = {}
    for policy, reason in _POLICIES.items():
        made = _Violation()
        if library.nvmlDeviceGetViolationStatus(device, policy, ctypes.byref(made)) == _SUCCESS:
            found[reason] = made.violation / 1e9
    return found


def _processes(library: Any, device: Any) -> list[int]:
    count, made = ctypes.c_uint(_MOST_PROCESSES), (_Process * _MOST_PROCESSES)()
    if library.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(count), made) != _SUCCESS:
        return []
    return [made[number].pid for number in range(min(count.value, _MOST_PROCESSES))]


def _others(pids: Iterable[int], proc: Path) -> list[str]:
    """Those that this process has not started. A process that cannot be seen here (another container's) is not named: it may be ours."""
    return [f"{name} ({pid})" for pid in pids if (name := _name(pid, proc)) is not None and not _is_ours(pid, proc)]


def _name(pid: int, proc: Path) -> str | None:
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return None


def _is_ours(pid: int, proc: Path) -> bool:
    """Whether this process is it or one of its forebears."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return True  # it has ended meanwhile
    return False
