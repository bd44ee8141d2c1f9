"""What a search shows while it runs: live on a terminal, one plain line an attempt elsewhere.

The search tells a listener what happens (``kevolve.search.loop.Progress``); ``PlainProgress`` and ``LiveProgress`` are the
two that people see. The text itself comes from pure functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kevolve.report import text
from kevolve.report.record import Speedup

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live


class Verdict(Protocol):
    """What the reports need of an outcome."""

    @property
    def status(self) -> str:
        """One of the record's statuses."""
        ...

    @property
    def message(self) -> str:
        """For the kernel's author."""
        ...


class Listener(Protocol):
    """What a search tells. ``fitness`` and ``best`` are speedups over the first baseline; None where nothing works yet."""

    def searching(self, spec: str, target: str, language: str) -> None:
        """A search begins."""
        ...

    def trying(self, idea: str, seconds_left: float | None) -> None:
        """A candidate goes to the evaluator."""
        ...

    def attempt(self, number: int, idea: str, outcome: Verdict, fitness: float, best: float | None, seconds_left: float | None) -> None:
        """A candidate is decided: the ``number``-th evaluation of this search."""
        ...

    def accepted(self, spec: str, path: Path, speedup: Speedup | None, baseline: str) -> None:
        """A kernel passed its fresh full check and was written; no speedup over ``baseline`` where it could not be timed."""
        ...

    def finished(self, spec: str, best: float | None, evaluations: int, reason: str) -> None:
        """The search is over."""
        ...

    def close(self) -> None:
        """Nothing more will be told; after an interrupt too."""
        ...


def searching_line(spec: str, target: str, language: str) -> str:
    """``kevolve: rms_norm on cpu in cpp``."""
    return f"kevolve: {spec} on {target} in {language}"


def attempt_line(number: int, idea: str, outcome: Verdict, fitness: float, best: float | None, seconds_left: float | None) -> str:
    """One attempt in one line: ``   3  2.31x  best 2.31x  4 min 10 s left  one pass, 8 lanes``."""
    left = "" if seconds_left is None else f"  {text.duration(seconds_left)} left"
    return f"  {number:>3}  {gave(outcome, fitness)}  best {_times(best)}{left}  {idea}{_why(outcome)}"


def gave(outcome: Verdict, fitness: float) -> str:
    """What an attempt gave: its speedup where it was timed, else its status."""
    return _times(fitness) if outcome.status in ("PASSED", "TOO_SLOW") and fitness > 0 else outcome.status


def accepted_line(spec: str, path: Path, speedup: Speedup | None, baseline: str) -> str:
    """``kevolve: rms_norm wrote suites/kernels/rms_norm/cpu.cpp: 2.31x [2.25, 2.38] over eager``."""
    return f"kevolve: {spec} wrote {path}: {text.ratio(speedup) + f' over {text.baseline(baseline)}' if speedup else 'checked, not timed'}"


def finished_line(spec: str, best: float | None, evaluations: int, reason: str) -> str:
    """``kevolve: rms_norm best 2.31x after 14 evaluations (goal reached); checking it anew``."""
    then = "; checking it anew" if best else ""
    return f"kevolve: {spec} best {_times(best)} after {text.plural(evaluations, 'evaluation')} ({reason}){then}"


def _why(outcome: Verdict) -> str:
    if outcome.status in ("PASSED", "TOO_SLOW") or not outcome.message:
        return ""
    where, *what = outcome.message.splitlines()
    told = [where] if outcome.status == "COMPILE_ERROR" else [where, *what[:1]]  # a counterexample comes before what is wrong with it
    return f": {'; '.join(text.shorten(line.strip(), 110) for line in told)}"


def _times(fitness: float | None) -> str:
    return "none" if not fitness else f"{text.digits(fitness)}x"


class PlainProgress:
    """One line an event. ``write`` takes a whole line without its end."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def searching(self, spec: str, target: str, language: str) -> None:
        """See ``Listener``."""
        self._write(searching_line(spec, target, language))

    def trying(self, idea: str, seconds_left: float | None) -> None:
        """Nothing: an attempt has one line, when it is decided."""

    def attempt(self, number: int, idea: str, outcome: Verdict, fitness: float, best: float | None, seconds_left: float | None) -> None:
        """See ``Listener``."""
        self._write(attempt_line(number, idea, outcome, fitness, best, seconds_left))

    def accepted(self, spec: str, path: Path, speedup: Speedup | None, baseline: str) -> None:
        """See ``Listener``."""
        self._write(accepted_line(spec, path, speedup, baseline))

    def finished(self, spec: str, best: float | None, evaluations: int, reason: str) -> None:
        """See ``Listener``."""
        self._write(finished_line(spec, best, evaluations, reason))

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the live display shows. ``ends``: on the display's clock, when the budget is spent; None without a limit."""

    title: str = ""
    number: int = 0
    idea: str = ""
    last: str = ""
    best: float | None = None
    ends: float | None = None

    def lines(self, now: float) -> tuple[str, ...]:
        """Four lines: the search and the time left, what is being tried, what the last attempt gave, the best so far."""
        left = "" if self.ends is None else f", {text.duration(self.ends - now)} left"
        return (
            f"{self.title}{left}",
            f"  trying  {self.idea or '…'}",
            f"  last    {self.last or '…'}",
            f"  best    {_times(self.best)} after {text.plural(self.number, 'evaluation')}",
        )


class LiveProgress:
    """A display that is redrawn in place; what is decided for good (a kernel written, a search over) scrolls by above it."""

    def __init__(self, console: Console, now: Callable[[], float]) -> None:
        self._console, self._now = console, now
        self._view = View()
        self._live: Live | None = None

    def searching(self, spec: str, target: str, language: str) -> None:
        """See ``Listener``."""
        from rich.live import Live

        self.close()
        self._view = View(title=searching_line(spec, target, language))
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True, redirect_stdout=False)
        self._live.start()

    def trying(self, idea: str, seconds_left: float | None) -> None:
        """See ``Listener``."""
        self._view = replace(self._view, idea=idea, ends=self._end(seconds_left))

    def attempt(self, number: int, idea: str, outcome: Verdict, fitness: float, best: float | None, seconds_left: float | None) -> None:
        """See ``Listener``."""
        last = f"{gave(outcome, fitness)}  {idea}{_why(outcome)}"
        self._view = replace(self._view, number=number, last=last, best=best, ends=self._end(seconds_left))

    def accepted(self, spec: str, path: Path, speedup: Speedup | None, baseline: str) -> None:
        """See ``Listener``."""
        self._say(accepted_line(spec, path, speedup, baseline))

    def finished(self, spec: str, best: float | None, evaluations: int, reason: str) -> None:
        """See ``Listener``."""
        self.close()
        self._say(finished_line(spec, best, evaluations, reason))

    def close(self) -> None:
        """Take the display away; called again, nothing happens."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _end(self, seconds_left: float | None) -> float | None:
        return None if seconds_left is None else self._now() + seconds_left

    def _render(self) -> RenderableType:
        from rich.text import Text

        return Text("\n".join(self._view.lines(self._now())), no_wrap=True, overflow="ellipsis")

    def _say(self, line: str) -> None:
        self._console.print(text.wrapped(line, self._console.width), markup=False, highlight=False, soft_wrap=True)
