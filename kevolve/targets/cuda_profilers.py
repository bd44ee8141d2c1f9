"""Profilers of NVIDIA GPUs: Nsight Compute's command line where counters are permitted, else torch's profiler."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kevolve import registry
from kevolve.targets.profile import Counter, KernelProfile, Profile, Unprofiled

# Nsight Compute's metrics (its "Metrics Reference") in words; units are the base ones (--print-units base).
METRICS = {
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": ("compute units busy", "%"),
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": ("memory bandwidth used", "%"),
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": ("L2 throughput", "%"),
    "l1tex__throughput.avg.pct_of_peak_sustained_active": ("L1 throughput", "%"),
    "lts__t_sector_hit_rate.pct": ("L2 hits", "%"),
    "dram__bytes_read.sum": ("read", "bytes"),
    "dram__bytes_write.sum": ("written", "bytes"),
    "sm__warps_active.avg.pct_of_peak_sustained_active": ("occupancy reached", "%"),
    "smsp__issue_active.avg.pct_of_peak_sustained_active": ("issue slots used", "%"),
    "launch__registers_per_thread": ("registers a thread", ""),
    "l1tex__data_bank_conflicts_pipe_lsu.sum": ("shared memory bank conflicts", ""),
}
DURATION = "gpu__time_duration.sum"  # nanoseconds
_TO_US = {"ns": 1e-3, "nsecond": 1e-3, "us": 1.0, "usecond": 1.0, "ms": 1e3, "msecond": 1e3, "s": 1e6, "second": 1e6}
_OUTPUT, _EVENTS = "ncu.csv", "kernels.json"
_MOST_EVENTS, _MOST_BYTES = 1_000, 1 << 20


class NsightCompute:
    """``ncu``: every kernel of one call, replayed until all counters are read."""

    name = "Nsight Compute"
    most_calls = 1
    needs_network = True

    def __init__(self, *, program: str = "ncu") -> None:
        self._program = program

    def missing(self) -> str | None:
        """No such program; whether counters are permitted shows when it runs."""
        return None if self._found() else f"no {self._program} on PATH or in the toolkit's folder"

    def _found(self) -> str | None:
        folders = registry.load("languages", "cuda").tool_folders()
        return shutil.which(self._program) or shutil.which(self._program, path=os.pathsep.join(map(str, folders)))

    def command(self, folder: Path) -> Sequence[str]:
        """Profiling begins when the process itself asks for it."""
        what = ["--metrics", ",".join([DURATION, *METRICS]), "--profile-from-start", "off", "--target-processes", "all"]
        return [self._found() or self._program, "--csv", "--print-units", "base", "--log-file", str(folder / _OUTPUT), *what]

    @contextlib.contextmanager
    def watched(self, scratch: Path) -> Iterator[None]:
        """Profiling on, and off again."""
        import torch

        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        yield
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()

    def read(self, folder: Path, *, calls: int) -> Profile:
        """See ``parse``."""
        try:
            text = (folder / _OUTPUT).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise Unprofiled(f"ncu left no figures: {error.strerror}") from error
        return parse(text, calls=calls)


@dataclass(slots=True)
class _Launches:
    """What was read of one kernel's launches."""

    ids: set[str] = field(default_factory=set)
    values: dict[str, list[float]] = field(default_factory=dict)


def parse(text: str, *, calls: int) -> Profile:
    """The figures of ``ncu --csv``: a row a metric and launch, after lines that begin with ``==``. Raises ``Unprofiled`` without any."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    kernels: dict[str, _Launches] = {}
    for row in csv.DictReader(lines):
        name, metric, value = row.get("Kernel Name"), row.get("Metric Name"), _number(row.get("Metric Value"))
        if name is None or metric is None or value is None:
            continue
        launches = kernels.setdefault(name, _Launches())
        launches.ids.add(row.get("ID") or "")
        scale = _TO_US.get(row.get("Metric Unit") or "", 1e-3) if metric == DURATION else 1.0
        launches.values.setdefault(metric, []).append(scale * value)
    if not kernels:
        raise Unprofiled(f"ncu: {_problem(text)}")
    return Profile(tool=NsightCompute.name, calls=calls, kernels=tuple(_kernel(name, found, calls) for name, found in kernels.items()))


def _number(text: str | None) -> float | None:
    """A metric's value; thousands are parted by commas, and what the device has not is ``n/a``."""
    try:
        value = float((text or "").replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _problem(text: str) -> str:
    """Why there are no figures: Nsight Compute says so itself."""
    said = [line.removeprefix("==ERROR==").strip() for line in text.splitlines() if line.startswith("==ERROR==")]
    said += [line.removeprefix("==WARNING==").strip() for line in text.splitlines() if line.startswith("==WARNING==")]
    return said[0][:300] if said else "no kernel was launched"


def _kernel(name: str, found: _Launches, calls: int) -> KernelProfile:
    """Means over its launches."""
    means = {metric: sum(values) / len(values) for metric, values in found.values.items()}
    counters = [Counter(name=words, value=means[metric], unit=unit) for metric, (words, unit) in METRICS.items() if metric in means]
    return KernelProfile(name=name, launches=len(found.ids) / max(1, calls), time_us=means.get(DURATION), counters=tuple(counters))


class TorchProfiler:
    """``torch.profiler``: which kernels ran, how often and how long; inside the process, no counters."""

    name = "torch.profiler"
    most_calls = 20
    needs_network = False

    def missing(self) -> str | None:
        """It is part of torch."""
        return None

    def command(self, folder: Path) -> Sequence[str]:
        """None: it works inside the process."""
        return ()

    @contextlib.contextmanager
    def watched(self, scratch: Path) -> Iterator[None]:
        """The kernels' times are left in ``scratch``."""
        import torch
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as session:
            yield
            torch.cuda.synchronize()
        events = [
            {"name": event.key, "launches": event.count, "time_us": event.self_device_time_total}
            for event in session.key_averages()
            if event.self_device_time_total > 0
        ]
        (scratch / _EVENTS).write_text(json.dumps(events[:_MOST_EVENTS]))

    def read(self, folder: Path, *, calls: int) -> Profile:
        """See ``parse_events``."""
        path = folder / "scratch" / _EVENTS
        try:
            if path.is_symlink() or path.stat().st_size > _MOST_BYTES:
                raise Unprofiled("torch.profiler left something other than figures")
            return parse_events(path.read_text(encoding="utf-8", errors="replace"), calls=calls)
        except OSError as error:
            raise Unprofiled(f"torch.profiler left no figures: {error.strerror}") from error


def parse_events(text: str, *, calls: int) -> Profile:
    """What ``TorchProfiler`` left: the candidate's word, every field checked. Raises ``Unprofiled``."""
    try:
        events = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unprofiled("torch.profiler left something other than figures") from error
    kernels = [_event(event, calls) for event in events[:_MOST_EVENTS]] if isinstance(events, list) else []
    known = tuple(kernel for kernel in kernels if kernel is not None)
    if not known:
        raise Unprofiled("torch.profiler saw no kernel")
    return Profile(tool=TorchProfiler.name, calls=calls, kernels=known, missing=("counters: only Nsight Compute reads them",))


def _event(event: Any, calls: int) -> KernelProfile | None:
    if not isinstance(event, Mapping):
        return None
    name, launches, total_us = event.get("name"), event.get("launches"), event.get("time_us")
    if not isinstance(name, str) or not _positive(launches) or not _positive(total_us):
        return None
    assert launches is not None
    assert total_us is not None
    return KernelProfile(name=name, launches=launches / max(1, calls), time_us=total_us / launches)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12
