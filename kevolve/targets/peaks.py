"""Peaks of a processor, measured by a small C++ probe in a process that starts as the workers do, and kept by device name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from kevolve import registry
from kevolve.languages import BuildError
from kevolve.targets import Peaks

if TYPE_CHECKING:
    from kevolve.targets import Target

_SOURCE = Path(__file__).with_name("cpu_peaks.cpp")
_ENTRY = "cpu_peaks"
_LANGUAGE = "cpp"
_FOOTPRINTS = (64 << 10, 256 << 10, 1 << 20, 2 << 20, 8 << 20, 24 << 20, 64 << 20, 128 << 20)
_NOTHING, _READ, _COPY, _FILL, _RANDOM, _FLOAT32, _FLOAT64 = range(7)  # the probe's kinds
_MOST_SWEEPS = 6
_BUDGET_S = 0.01
_EMPTY_CALLS = 2_000
_LEAST_MARGIN, _MOST_MARGIN = 1.25, 2.0
_TIMEOUT_S = 120.0
Curve: TypeAlias = tuple[tuple[float, float], ...]
_BOOT = "import json, sys; sys.path += json.loads(sys.argv[1]); from kevolve.targets.peaks import main; main(sys.argv[2:])"


def measured_peaks(target: Target, cache: Path) -> Peaks:
    """The peaks of this machine, from ``cache`` where they were measured before (about two seconds otherwise).

    What was measured on a busy machine (the widest margin) is measured again the next time.
    Unknown (``Peaks()``) where the probe cannot be built; that is not kept.
    """
    known = kept(_kept_path(target, cache))
    return known if known is not None and known.margin < _MOST_MARGIN else measured_again(target, cache)


def measured_again(target: Target, cache: Path) -> Peaks:
    """Measured now, and the higher of that and what is kept: a machine that was busy all the time looks slow, and evenly so."""
    language = registry.load("languages", _LANGUAGE)
    if language.missing() is not None:
        return Peaks()
    try:
        built = language.build(_SOURCE.read_text(), entry=_ENTRY, target=target, cache=cache, timeout_s=_TIMEOUT_S)
    except BuildError:
        return Peaks()
    return keep_higher(_kept_path(target, cache), _probed(target, built.artifact))


def kept(path: Path) -> Peaks | None:
    """What a file keeps; None where there is none, or another version's."""
    try:
        return from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_higher(path: Path, found: Peaks) -> Peaks:
    """Keep the higher of what was found now and what the file has; what is kept now."""
    known = kept(path)
    highest = found if known is None else higher(known, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(to_json(highest), file)
    Path(file.name).replace(path)
    return highest


def higher(before: Peaks, now: Peaks) -> Peaks:
    """The better figure of two measurements everywhere; the margin of the second."""

    def curve(first: Curve, second: Curve) -> Curve:
        kept = dict(first)
        return tuple((size, max(rate, kept.get(size, rate))) for size, rate in second)

    calls = [us for us in (before.empty_call_us, now.empty_call_us) if us is not None]
    return Peaks(
        bandwidth=curve(before.bandwidth, now.bandwidth),
        operations={name: max(rate, before.operations.get(name, rate)) for name, rate in now.operations.items()},
        random_accesses=curve(before.random_accesses, now.random_accesses),
        empty_call_us=min(calls, default=None),
        margin=now.margin,
    )


def _kept_path(target: Target, cache: Path) -> Path:
    device = target.device()
    name = re.sub(r"[^\w.-]+", "-", f"{device['name']}-{device.get('arch', '')}-{device.get('cores', '')}")
    version = hashlib.sha256(_SOURCE.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    return cache / "peaks" / f"{name}-{version}.json"


def _probed(target: Target, artifact: Path) -> Peaks:
    """Run the probe in a process of its own, with the workers' thread policy."""
    command = [sys.executable, "-I", "-B", "-c", _BOOT, search_path(), target.name, str(artifact)]
    environment = {"PATH": os.defpath, **target.environment(_LANGUAGE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"the probe of this processor's peaks failed (exit {done.returncode}):\n{done.stderr[-2000:]}")
    return from_json(json.loads(done.stdout))


def search_path() -> str:
    """Where this process finds kevolve and what is registered with it, as JSON: a probe without our environment looks there last."""
    return json.dumps([str(Path(__file__).parents[2]), *(path for path in sys.path if path)])


def main(arguments: Sequence[str]) -> None:
    """Measure in this process and print JSON: the probe's own process."""
    target = registry.load("targets", arguments[0])
    target.enter("time")
    language = registry.load("languages", _LANGUAGE)
    probe = language.load(Path(arguments[1]), entry=_ENTRY, target=target).call
    sys.stdout.write(json.dumps(to_json(measure(probe))))


def measure(
    probe: Callable[[int, int, float], float], *, most_sweeps: int = _MOST_SWEEPS, clock: Callable[[], int] = time.perf_counter_ns
) -> Peaks:
    """Sweep the probe over footprints until a sweep finds nothing much better; every figure is the best of the sweeps.

    The margin is how much better the last sweep still was somewhere: wide where the machine was busy.
    """
    best = _sweep(probe)
    for _ in range(most_sweeps - 1):
        sweep = _sweep(probe)
        scatter = max(sweep[key] / best[key] for key in best)
        best = {key: max(best[key], sweep[key]) for key in best}
        if scatter < _LEAST_MARGIN:
            break
    return Peaks(
        bandwidth=tuple((float(size), max(best[kind, size] for kind in (_READ, _COPY, _FILL))) for size in _FOOTPRINTS),
        operations={"float32": best[_FLOAT32, 0], "float64": best[_FLOAT64, 0]},
        random_accesses=tuple((float(size), best[_RANDOM, size]) for size in _FOOTPRINTS),
        empty_call_us=_empty_call_us(probe, clock),
        margin=min(max(scatter, _LEAST_MARGIN), _MOST_MARGIN),
    )


def _sweep(probe: Callable[[int, int, float], float]) -> dict[tuple[int, int], float]:
    memory = [(kind, size) for size in _FOOTPRINTS for kind in (_READ, _COPY, _FILL, _RANDOM)]
    return {(kind, size): float(probe(kind, size, _BUDGET_S)) for kind, size in [*memory, (_FLOAT32, 0), (_FLOAT64, 0)]}


def _empty_call_us(probe: Callable[[int, int, float], float], clock: Callable[[], int]) -> float:
    """The quickest call that does nothing, from Python, one at a time as kernels are timed."""
    times = []
    for _ in range(_EMPTY_CALLS):
        start = clock()
        probe(_NOTHING, 0, 0.0)
        times.append(clock() - start)
    return min(times) / 1e3


def to_json(peaks: Peaks) -> dict[str, Any]:
    """Peaks for a file or the record."""
    return {
        "bandwidth": [list(point) for point in peaks.bandwidth],
        "operations": dict(peaks.operations),
        "random_accesses": [list(point) for point in peaks.random_accesses],
        "empty_call_us": peaks.empty_call_us,
        "margin": peaks.margin,
    }


def from_json(read: Mapping[str, Any]) -> Peaks:
    """What ``to_json`` wrote. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
    return Peaks(
        bandwidth=tuple((float(size), float(rate)) for size, rate in read["bandwidth"]),
        operations={str(name): float(rate) for name, rate in read["operations"].items()},
        random_accesses=tuple((float(size), float(rate)) for size, rate in read["random_accesses"]),
        empty_call_us=None if read["empty_call_us"] is None else float(read["empty_call_us"]),
        margin=float(read["margin"]),
    )
