"""The machine's own processor: where kernels in C++ run natively and Triton's run interpreted."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kevolve.targets import BlockPolicy, BlockTimes, Peaks
from kevolve.targets.perf import Perf

# mallopt's parameters (glibc's malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_PERTURB = -1, -2, -4, -6
POISON = 0x7F  # every byte of fresh memory while checking: 3.4e38 as a float32, 127 as an int8
_LARGEST_INT = 2**31 - 1
_TOP_PAD = 64 << 20
_KEPT_OUTPUTS = 8
_KEPT_BYTES = 4 << 20  # more would push what is being timed out of the cache

_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma"}),
    ("x86-64-v3", {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}),
)
# OpenMP's threads wait this long for the next call before they sleep (libgomp: in turns, 0.1 to 0.5 ms; LLVM's: in milliseconds).
# Waking them takes 10 us at one time and 40 at another on a virtual machine; by default libgomp would spin into the other side's turn.
_SPINNING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
# The largest property draw in Triton's interpreter, in elements: it takes about a microsecond each.
_INTERPRETED_ELEMENTS = 1 << 15


class CPU:
    """The host as a target. Wall clock; both processes of a pair share its cores, so they alternate in blocks."""

    name = "cpu"
    languages: tuple[str, ...] = ("cpp", "triton")
    shares_cores = True
    modelled = False
    profilers = (Perf(),)
    blocks = BlockPolicy(
        min_us=5_000.0,
        min_calls=1,
        max_calls=1_000,
        warm_calls=3,
        cache="warm (inputs are rewritten before every call)",
        least=2,  # seven pairs last two seconds, which one disturbance may fill
        extension=32,  # pairs scatter by 1% to 3%: seven tell a slowdown of 10%, two hundred one of 3%
        looks=3,  # pairs of the same minute shift together, which an interval over pairs does not see
    )

    def missing(self) -> str | None:
        """None on Linux with glibc, else the reason."""
        if sys.platform != "linux":
            return f"the cpu target needs Linux, this is {sys.platform}; use a Linux machine, container or WSL"
        if _mallopt() is None:
            return "the cpu target needs glibc (mallopt keeps page faults out of the timings), this C library has none"
        return None

    def device(self) -> Mapping[str, str]:
        """The processor, its level (``"x86-64-v4"``), its cores, and what runs on it."""
        return {
            "name": processor_name(),
            "arch": architecture(),
            "cores": str(usable_cores()),
            "os": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "torch": version("torch"),
        }

    def unmeasured(self, language: str) -> str | None:
        """Triton's kernels are interpreted here, so that their time says nothing."""
        return "Triton kernels run interpreted on a cpu: checked, not timed" if language == "triton" else None

    def largest(self, language: str) -> int | None:
        """The interpreter's cap for Triton, none for native code."""
        return _INTERPRETED_ELEMENTS if language == "triton" else None

    def environment(self, language: str) -> Mapping[str, str]:
        """Threads that sleep soon when idle, as many as there are usable cores; for Triton its interpreter."""
        common = {
            "OMP_WAIT_POLICY": "passive",
            **_SPINNING,
            "OMP_NUM_THREADS": str(usable_cores()),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",  # a GPU's driver cannot be used after a fork, and nothing here needs it
        }
        common |= _inductors_compiler()
        return common | {"TRITON_INTERPRET": "1"} if language == "triton" else common

    def peaks(self, cache: Path) -> Peaks:
        """Measured on the first call (about two seconds) and kept in ``cache``."""
        from kevolve.targets.peaks import measured_peaks

        return measured_peaks(self, cache)

    def peaks_again(self, cache: Path) -> Peaks:
        """Measured once more; the higher figures are kept."""
        from kevolve.targets.peaks import measured_again

        return measured_again(self, cache)

    def enter(self, stage: str) -> None:
        """``"check"``: fresh memory is filled with ``POISON``. ``"time"``: memory once touched stays with the process.

        Raises ``RuntimeError`` where the C library has no mallopt (``missing`` says so beforehand).
        """
        mallopt = _mallopt()
        if mallopt is None:
            raise RuntimeError(self.missing())
        if stage == "check":
            mallopt(M_PERTURB, POISON ^ 0xFF)  # glibc writes the complement into fresh memory
        elif stage == "time":
            mallopt(M_PERTURB, 0)
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, _LARGEST_INT)
            mallopt(M_TOP_PAD, _TOP_PAD)
        else:
            raise ValueError(f"unknown stage: expected 'check' or 'time', got {stage!r}")

    def place(self, tensor: Any) -> Any:
        """The tensor itself."""
        return tensor

    def fetch(self, tensor: Any) -> Any:
        """The tensor itself."""
        return tensor

    def synchronise(self) -> None:
        """Nothing to wait for: a call has done its work when it returns."""

    def time_block(
        self,
        call: Callable[..., Any],
        inputs: Sequence[tuple[Any, ...]],
        *,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> tuple[BlockTimes, list[Any]]:
        """Time ``call(*item)`` for every item of ``inputs``; times in microseconds, and the last outputs.

        ``inputs`` may make an item when it is asked for one: that stands outside the timed window. Outputs are kept while
        they are small; of large ones only the last, and it is given back before the next call, as a caller would.
        """
        times: list[float] = []
        kept: deque[Any] = deque(maxlen=1)
        for item in inputs:
            if kept.maxlen == 1:
                kept.clear()
            start = clock()
            outputs = call(*item)
            end = clock()
            times.append((end - start) / 1e3)
            if len(times) == 1:
                kept = deque(maxlen=_ring(outputs))
            kept.append(outputs)
            outputs = None
        return BlockTimes(launched_us=tuple(times)), list(kept)


def _inductors_compiler() -> dict[str, str]:
    """torch.compile asks for g++ unless it is told of another; only where there is no g++, so that the baseline is every user's."""
    if shutil.which("g++", path=os.defpath) is None and shutil.which("clang++", path=os.defpath) is not None:
        return {"CXX": "clang++"}
    return {}


def _ring(outputs: Any) -> int:
    """How many outputs of this size may be kept."""
    held = outputs if isinstance(outputs, tuple | list) else (outputs,)
    size = sum(getattr(output, "nbytes", 0) for output in held)
    return max(1, min(_KEPT_OUTPUTS, _KEPT_BYTES // max(size, 1)))


@functools.cache
def _mallopt() -> Callable[[int, int], int] | None:
    """The ``mallopt`` of glibc, or None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).mallopt
    except AttributeError:
        return None


@functools.cache
def processor_name() -> str:
    """The processor's model name as the system gives it, else the machine type."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


@functools.cache
def architecture() -> str:
    """The micro-architecture level (``"x86-64-v3"``), on other machines their type (``"aarch64"``)."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return machine
    found = re.search(r"^flags\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    return next((level for level, needed in _LEVELS if needed <= flags), "x86-64-v2")


@functools.cache
def usable_cores() -> int:
    """The cores this process may use: its affinity, and the container's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota()
    return max(1, min(cores, int(quota))) if quota is not None else cores


def _quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """The control group's quota in cores, or None."""
    try:
        limit, period = path.read_text().split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) / int(period)


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
