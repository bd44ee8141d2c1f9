"""Times that records of earlier runs hold of a case: shown beside a verdict as history, never a reason for one.

A stored time means something on the same device with the same driver and toolchain only. Where any of them differs, or could not be read,
it is told what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kevolve.report import text
from kevolve.report.merge import environment_of
from kevolve.report.record import Environment, Record, RecordError, read

_VERSIONS = ("driver", "torch", "os")  # of an environment, besides its device and a language's toolchain
_APART = 0.10  # a difference worth a line: stored times were taken in other processes, on another day


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A case's time in a record. ``differs``: what is not as here, empty where the two may be compared."""

    date: str
    commit: str
    us: float
    form: str
    record: str
    differs: tuple[str, ...] = ()

    def line(self, us: float) -> str:
        """``38.0 us on 2026-11-21 (c01a516); now 5% slower``, with what differs."""
        when = f"{text.time(self.us)} on {self.date[:10]}{f' ({self.commit})' if self.commit else ''}"
        if self.differs:
            return f"{when}; advisory only: {'; '.join(self.differs)}"
        return f"{when}, same device, driver and toolchain; now {_change(us / self.us)}"

    def apart(self, us: float) -> bool:
        """Whether ``us`` is slower than a time that it may be compared with, by more than days differ."""
        return not self.differs and us > (1 + _APART) * self.us

    def to_json(self, us: float) -> dict[str, Any]:
        """Plain data, for the verdict's row, with what it says of ``us``, the time now."""
        return {**asdict(self), "differs": list(self.differs), "said": self.line(us), "apart": self.apart(us)}


class History:
    """The newest time of every case, in records given by path. ``problems``: paths that hold no record, and why."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.problems: list[str] = []
        self._records = [(path, record) for path in paths if (record := self._read(path)) is not None]

    def _read(self, path: Path) -> Record | None:
        try:
            return read(path)
        except (RecordError, OSError) as error:
            self.problems.append(str(error))
            return None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask for."""
        return not self._records

    def of(self, spec: str, case: str, target: str, language: str, form: str, here: Environment) -> Stored | None:
        """The newest time of a case in one form: of those like ``here`` if there is any, else of those that differ."""
        found = sorted(self._found(spec, case, target, language, form, here), key=lambda stored: (not stored.differs, stored.date))
        return found[-1] if found else None

    def _found(self, spec: str, case: str, target: str, language: str, form: str, here: Environment) -> Iterator[Stored]:
        for path, record in self._records:
            for row in record.results:
                us = getattr(row.time_us, form, None)
                if (row.spec, row.case, row.target, row.language) == (spec, case, target, language) and us:
                    there = environment_of(record, row)
                    known = {"date": there.date, "commit": (there.commit or "")[:9], "us": us, "form": form, "record": str(path)}
                    yield Stored(**known, differs=differences(there, here, language))


def differences(there: Environment, here: Environment, language: str) -> tuple[str, ...]:
    """What of device, driver and toolchain is not the same, in words: ``driver 580.1 there, 590.2 here``."""
    parts: list[tuple[str, str | None, str | None]] = [("device", there.device, here.device)]
    parts += [(name, there.versions.get(name), here.versions.get(name)) for name in _VERSIONS]
    parts += _toolchain(there.toolchain.get(language), here.toolchain.get(language), language)
    return tuple(f"{name} {was or 'unknown'} there, {now or 'unknown'} here" for name, was, now in parts if was != now)


def _toolchain(
    there: Mapping[str, str] | None, here: Mapping[str, str] | None, language: str
) -> Iterator[tuple[str, str | None, str | None]]:
    if there is None or here is None:
        yield f"{language}'s toolchain", _joined(there), _joined(here)
        return
    for name in sorted({*there, *here}):
        yield name, there.get(name), here.get(name)


def _joined(toolchain: Mapping[str, str] | None) -> str | None:
    return None if toolchain is None else ", ".join(f"{name} {version}" for name, version in toolchain.items())


def _change(ratio: float) -> str:
    return f"{ratio - 1:.0%} slower" if ratio >= 1.005 else f"{1 - ratio:.0%} faster" if ratio <= 0.995 else "the same"


def paths(rootdir: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that the patterns (of ``kevolve_gate_history``, below ``rootdir``) name. Raises ``ValueError`` for an absolute pattern."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute():
            raise ValueError(f"kevolve_gate_history: expected patterns below the rootdir, got {pattern!r}")
        found.update(dict.fromkeys(sorted(path for path in rootdir.glob(pattern) if path.is_file())))
    return list(found)
