"""What an operator may ask of the harness while it proposes: the development plan, never the grading seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kevolve.evaluate.outcome import Outcome
    from kevolve.search.loop import Evaluated


class Lab(Protocol):
    """Builds, checks and times on request. Thread-safe; results are kept by normalised source, so that asking again costs nothing."""

    def build(self, language: str, source: str) -> Outcome:
        """Parse, policy, compile; resources (registers, spills…) in ``detail``."""
        ...

    def check(self, language: str, source: str) -> Outcome:
        """The above and the development plan."""
        ...

    def evaluate(self, language: str, source: str) -> Evaluated:
        """The above and a quick timing of every case."""
        ...
