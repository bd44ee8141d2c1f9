"""Peaks of an NVIDIA GPU, measured in a process of their own and kept by device name; a few seconds the first time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kevolve.targets import Peaks
from kevolve.targets.peaks import from_json, keep_higher, kept, search_path, to_json

_PROBE = Path(__file__).with_name("cuda_probe.py")
_TIMEOUT_S = 180.0
_BOOT = "import json, sys; sys.path += json.loads(sys.argv[1]); from kevolve.targets.cuda_peaks import main; main()"
MARGIN = 1.1  # between two measurements of one device a rate differs by a few percent
FOOTPRINTS = (1 << 20, 4 << 20, 16 << 20, 32 << 20, 128 << 20, 1 << 30)
MATRIX = ("float32", "float16", "bfloat16", "int8", "float64")


def measured_peaks(target: Any, cache: Path) -> Peaks:
    """The device's peaks, from ``cache`` where they were measured before. Unknown, with a warning, where the probe fails."""
    return kept(kept_path(target.device(), cache)) or measured_again(target, cache)


def measured_again(target: Any, cache: Path) -> Peaks:
    """Measured now, and the higher of that and what is kept: somebody else may have used the device. Unknown, with a warning, as above."""
    try:
        found = _probed(target)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        warnings.warn(f"the peaks of {target.device()['name']} could not be measured, so no speed of light: {error}", stacklevel=2)
        return Peaks()
    return keep_higher(kept_path(target.device(), cache), found)


def kept_path(device: Mapping[str, str], cache: Path) -> Path:
    """Where a device's peaks are kept: by name, memory (one name has several), driver and the probe's own text."""
    name = re.sub(r"[^\w.-]+", "-", "-".join(device.get(key, "") for key in ("name", "memory", "driver")))
    version = hashlib.sha256(_PROBE.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    return cache / "peaks" / f"{name}-{version}.json"


def _probed(target: Any) -> Peaks:
    with tempfile.TemporaryDirectory(prefix="kevolve-peaks-") as scratch:
        environment = {"PATH": os.defpath, "HOME": scratch, "TMPDIR": scratch, **target.environment("triton")}
        command = [sys.executable, "-I", "-B", "-c", _BOOT, search_path()]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=False, cwd=scratch)
    if done.returncode:
        raise ValueError(f"its probe failed (exit {done.returncode}): {done.stderr.strip()[-1500:]}")
    return from_json(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure in this process and print JSON: the probe's own process."""
    from kevolve.targets.cuda import CUDA
    from kevolve.targets.cuda_probe import Probe

    target = CUDA()
    target.enter("time")
    sys.stdout.write(json.dumps(to_json(measure(Probe(target.clock())))) + "\n")


def measure(probe: Any) -> Peaks:
    """Every figure the best of several looks.

    ``probe``: ``read(bytes)``, ``copy(bytes)`` and ``fill(bytes)`` in bytes a second, ``random(table bytes)`` in accesses a second,
    ``matrix(dtype)`` in operations a second or None, ``empty_us()``.
    """
    rates = {dtype: probe.matrix(dtype) for dtype in MATRIX}
    bandwidth = {size: _best(probe.read, probe.copy, probe.fill, size=size) for size in FOOTPRINTS}
    memory = bandwidth[FOOTPRINTS[-1]]  # caches are cold: what fits one crosses the memory's bus all the same
    return Peaks(
        bandwidth=tuple((float(size), max(rate, memory)) for size, rate in bandwidth.items()),
        operations={dtype: float(rate) for dtype, rate in rates.items() if rate is not None},
        random_accesses=tuple((float(size), float(probe.random(size))) for size in FOOTPRINTS),
        empty_call_us=float(probe.empty_us()),
        margin=MARGIN,
    )


def _best(*looks: Callable[[int], float], size: int) -> float:
    return max(float(look(size)) for look in looks)


__all__: Sequence[str] = ("kept_path", "main", "measure", "measured_peaks")
