"""What rules look at: one node's outcome with what is known around it; and what a rule says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kevolve.evaluate.outcome import Stage, Status
from kevolve.search.node import Node

_NUMERICAL = (Status.INCORRECT_NUMERICAL, Status.INCORRECT_SHAPE, Status.INCORRECT_DTYPE)
_CARET = re.compile(r"^\s*\^\s*\n(.+)$", re.MULTILINE)
_ERROR = re.compile(r"^.*?(?:error|Error)\b.*$", re.MULTILINE)
_LONGEST = 300
_COMMENT = {"python": re.compile(r"#.*"), "c": re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule saw: a bottleneck (of BOTTLENECKS), a sentence, words to look for, and what to try, the best first."""

    bottleneck: str
    says: str
    words: str
    directions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One case of a timed kernel, microseconds; None where unknown. ``speedup``: over the first baseline."""

    case: str
    speedup: float
    time_us: float | None = None
    floor_us: float | None = None
    least: float | None = None  # what the spec asks for
    bound: str = ""  # what the floor is made of, where the caller says: memory | compute | launch

    @property
    def light(self) -> float | None:
        """The fraction of the speed of light; None where it is unknown."""
        return self.floor_us / self.time_us if self.floor_us and self.time_us else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One node and its surroundings. ``node`` is None for a draft; ``siblings``: other attempts from where it came or comes from."""

    node: Node | None
    language: str
    vendor: str
    families: tuple[str, ...]
    timings: tuple[Timing, ...] = ()
    siblings: tuple[Node, ...] = ()
    empty_call_us: float | None = None  # an empty kernel's, by the method of the timings

    @property
    def status(self) -> Status | None:
        """The outcome's; None for a draft."""
        return self.node.outcome.status if self.node is not None else None

    @property
    def stage(self) -> Stage | None:
        """Where it was decided."""
        return self.node.outcome.stage if self.node is not None else None

    @property
    def message(self) -> str:
        """The outcome's message and the log beside it: what compilers, exceptions and the judge said."""
        if self.node is None:
            return ""
        return f"{self.node.outcome.message}\n{self.node.outcome.detail.get('log', '')}"

    @property
    def detail(self) -> Mapping[str, Any]:
        """The outcome's data."""
        return self.node.outcome.detail if self.node is not None else {}

    @property
    def resources(self) -> Mapping[str, float]:
        """Registers, spill_bytes, shared_bytes, occupancy: what compilers said."""
        found = self.detail.get("resources")
        return found if isinstance(found, Mapping) else {}

    @property
    def wrong(self) -> bool:
        """Whether it ran and gave something else than what was asked for."""
        return self.status in _NUMERICAL

    @property
    def source(self) -> str:
        """The kernel without comments."""
        if self.node is None:
            return ""
        return _COMMENT["c" if self.is_native else "python"].sub("", self.node.proposal.source)

    @property
    def is_native(self) -> bool:
        """Whether the language is of the C family, by its text."""
        return self.node is not None and bool(re.search(r"^\s*#\s*include\b|;\s*$", self.node.proposal.source, re.MULTILINE))

    @property
    def on_host(self) -> bool:
        """Whether the kernel runs on a processor of the host's kind."""
        return self.vendor == "x86"

    def has(self, *patterns: str) -> bool:
        """Whether the source holds one of the regular expressions."""
        return any(re.search(pattern, self.source) for pattern in patterns)

    def says(self, *patterns: str) -> re.Match[str] | None:
        """The first of the regular expressions that the message holds."""
        return next((found for pattern in patterns if (found := re.search(pattern, self.message, re.IGNORECASE))), None)

    @property
    def counterexample(self) -> Counterexample | None:
        """The failing draw; None where none was kept."""
        return Counterexample.of(self.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample:
    """A failing draw, shrunk: its arguments, and the places where the output differs most."""

    values: Mapping[str, Any]
    distribution: str
    layout: str
    expected: tuple[float, ...] = ()
    got: tuple[float, ...] = ()
    index: tuple[tuple[int, ...], ...] = ()
    errors: tuple[float, ...] = ()
    differences: int = 0
    total: int = 0
    described: str = field(default="")

    @classmethod
    def of(cls, detail: Mapping[str, Any]) -> Counterexample | None:
        """Read from an outcome's ``detail``; None where it holds no draw, or one of another form."""
        try:
            draw = json.loads(detail["draw"])
            worst = [place for place in detail.get("worst", ()) if isinstance(place, Mapping)]
            values = dict(draw["values"])
        except (KeyError, TypeError, ValueError):
            return None
        described = ", ".join(f"{name} = {_plain(value)}" for name, value in values.items())
        return cls(
            values=values,
            distribution=draw.get("distribution") or "",
            layout=draw.get("layout") or "",
            expected=_floats(worst, "expected"),
            got=_floats(worst, "got"),
            errors=_floats(worst, "error"),
            index=tuple(tuple(place.get("index", ())) for place in worst),
            differences=int(detail.get("differences", 0)),
            total=int(detail.get("total", 0)),
            described=", ".join(filter(None, (described, draw.get("distribution"), draw.get("layout")))),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments that are whole numbers."""
        return {name: value for name, value in self.values.items() if isinstance(value, int) and not isinstance(value, bool)}

    @property
    def dtype(self) -> str:
        """The floating type among the arguments, where one is."""
        return next((text for value in self.values.values() if (text := str(_plain(value))).startswith(("float", "bfloat"))), "")

    @property
    def greatest(self) -> float:
        """The greatest finite error, relative to the output's scale; 0 without one."""
        return max((error for error in self.errors if math.isfinite(error)), default=0.0)


def telling_line(message: str) -> str:
    """The line of a compiler's or an exception's message that says what is wrong; below a listing with a caret, what follows the caret."""
    caret = _CARET.search(message)
    if caret is not None and "CompilationError" in message:
        return caret.group(1).strip()[:_LONGEST]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    found = _ERROR.search(message)
    return (found.group(0).strip() if found else lines[0] if lines else "no reason was kept")[:_LONGEST]


def _plain(value: Any) -> Any:
    return value["$"] if isinstance(value, Mapping) and set(value) == {"$"} else value


def _floats(places: Sequence[Mapping[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(float(place[name]) if place.get(name) is not None else math.nan for place in places)
