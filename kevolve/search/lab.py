"""What an operator may ask of the harness while it proposes: on the development plan, never on the grading seeds."""

from __future__ import annotations

from typing import Protocol

from kevolve.evaluate.outcome import Outcome
from kevolve.search.crew import Evaluated


class Lab(Protocol):
    """Thread-safe. Answers are kept by normalised source: the evaluation of what is then proposed costs nothing again."""

    @property
    def times(self) -> bool:
        """Whether ``evaluate`` can time: False where the device is on another machine."""
        ...

    def build(self, language: str, source: str) -> Outcome:
        """Parse, policy, compile; ``detail["resources"]``: registers, spills and what else compilers said."""
        ...

    def check(self, language: str, source: str) -> Outcome:
        """The above, and the development plan."""
        ...

    def evaluate(self, language: str, source: str) -> Evaluated:
        """The above, and quick timing on every case: ``fitness``, ``outcome.detail["speedups"]``."""
        ...

    def profile(self, language: str, source: str) -> str:
        """What the target's profilers count in a kernel that was timed, in at most some twenty lines; nothing of any other."""
        ...
