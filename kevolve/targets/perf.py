"""Linux's ``perf stat`` around a kernel's calls: what the processor counted (perf-stat(1), "CSV FORMAT")."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kevolve.targets.profile import Counter, Profile, Unprofiled

# In the user's part of the process only: the system's would need more rights. Generic names, which every processor maps to its own.
HARDWARE = {
    "cycles": "cycles",
    "instructions": "instructions",
    "cache-references": "cache references",
    "cache-misses": "cache misses",
    "branches": "branches",
    "branch-misses": "branch misses",
    "L1-dcache-loads": "L1 loads",
    "L1-dcache-load-misses": "L1 load misses",
    "dTLB-load-misses": "TLB load misses",
}
SOFTWARE = {"task-clock": "processor time", "page-faults": "page faults", "context-switches": "context switches"}
# what share of what: in words, part, whole, factor, unit
_RATIOS = (
    ("instructions a cycle", "instructions", "cycles", 1.0, ""),
    ("cache misses of references", "cache-misses", "cache-references", 100.0, "%"),
    ("L1 misses of loads", "L1-dcache-load-misses", "L1-dcache-loads", 100.0, "%"),
    ("mispredicted branches", "branch-misses", "branches", 100.0, "%"),
)
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_MOST_PARANOID = 2  # a process may count itself; Debian's 3 and above forbid that
_OUTPUT, _CONTROL, _ANSWER = "perf.csv", "control", "answer"


class Perf:
    """``perf stat``, switched on for the watched calls alone. ``paranoid``: where the system says what it permits."""

    name = "perf stat"
    most_calls = 200
    needs_network = False

    def __init__(self, *, paranoid: Path = _PARANOID, program: str = "perf") -> None:
        self._paranoid, self._program = paranoid, program

    def missing(self) -> str | None:
        """No such program, or a system that lets nobody count."""
        if shutil.which(self._program) is None:
            return f"no {self._program} on PATH (Debian: apt install linux-perf)"
        level = _level(self._paranoid)
        if level is None:
            return f"{self._paranoid} is not there: a system without performance events"
        if level > _MOST_PARANOID and os.geteuid() != 0:
            return f"perf_event_paranoid is {level}: a process may not count its own events; {_MOST_PARANOID} would do"
        return None

    def command(self, folder: Path) -> Sequence[str]:
        """Counting begins when the process itself asks for it."""
        scratch = folder / "scratch"
        for name in (_CONTROL, _ANSWER):
            os.mkfifo(scratch / name)
        events = ",".join([*(f"{name}:u" for name in HARDWARE), *SOFTWARE])
        control = f"fifo:{scratch / _CONTROL},{scratch / _ANSWER}"
        return [self._program, "stat", "-x", ";", "-o", str(folder / _OUTPUT), "-e", events, "-D", "-1", "--control", control, "--"]

    @contextlib.contextmanager
    def watched(self, scratch: Path) -> Iterator[None]:
        """Counting on, and off again."""
        with (scratch / _CONTROL).open("wb", buffering=0) as control, (scratch / _ANSWER).open("rb", buffering=0) as answer:
            control.write(b"enable\n")
            answer.read(5)  # "ack\n" and a null byte
            yield
            control.write(b"disable\n")
            answer.read(5)

    def read(self, folder: Path, *, calls: int) -> Profile:
        """See ``parse``."""
        try:
            text = (folder / _OUTPUT).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise Unprofiled(f"perf left no figures: {error.strerror}") from error
        return parse(text, calls=calls)


def _level(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def parse(text: str, *, calls: int) -> Profile:
    """The figures that ``perf stat -x ';'`` wrote, a line each: value; unit; event; time it was counted; share of the time; ….

    Raises ``Unprofiled`` where not one event was counted.
    """
    found: dict[str, float] = {}
    absent: dict[str, list[str]] = {}
    for line in text.splitlines():
        fields = line.split(";")
        if line.startswith("#") or len(fields) < 3:
            continue
        name = fields[2].partition(":")[0]
        try:
            found[name] = float(fields[0].replace(",", ".")) * _SCALES.get(fields[1], 1.0)
        except ValueError:
            absent.setdefault(fields[0].strip("<>"), []).append(name)
    if not found:
        raise Unprofiled(f"perf counted nothing: {', '.join(absent) or text.strip()[:200] or 'no output'}")
    missing = [f"{_listed(names)} ({reason} on this {platform.machine()} machine)" for reason, names in absent.items()]
    return Profile(tool=Perf.name, calls=calls, counters=tuple(_counters(found, calls)), missing=tuple(missing))


_SCALES = {"msec": 1e3, "nsec": 1e-3}  # to microseconds


def _listed(names: Sequence[str]) -> str:
    return ", ".join((HARDWARE | SOFTWARE).get(name, name) for name in names)


def _counters(found: Mapping[str, float], calls: int) -> Iterator[Counter]:
    """Counts a call, then what they say of each other."""
    for name, words in (SOFTWARE | HARDWARE).items():
        if name in found:
            yield Counter(name=words, value=found[name] / max(1, calls), unit="us" if name == "task-clock" else "")
    for words, part, whole, factor, unit in _RATIOS:
        if found.get(whole) and part in found:
            yield Counter(name=words, value=factor * found[part] / found[whole], unit=unit)
