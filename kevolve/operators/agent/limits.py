"""What one conversation may cost, and what is left of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kevolve.models import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps of one proposal. ``repairs``: how often a model that called no tool, or whose reply cannot be used, may answer again."""

    turns: int = 24
    calls: int = 48
    tokens: int = 400_000  # read and written; what is read again from a cache counts too
    output_tokens: int = 24_000  # a reply
    deadline_s: float = 1_800.0
    repairs: int = 1

    def within(self, most: Usage | None) -> Limits:
        """These, or less where a step may spend less."""
        if most is None or most.tokens <= 0:
            return self
        return replace(self, tokens=min(self.tokens, most.tokens))


class Meter:
    """What has been spent. ``usd``: the most that may be; None: no such limit."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float], *, usd: float | None = None) -> None:
        self.limits, self.usage = limits, Usage()
        self.turns = self.calls = 0
        self._usd, self._monotonic, self._began = usd, monotonic, monotonic()

    @property
    def seconds(self) -> float:
        """Since the conversation began."""
        return self._monotonic() - self._began

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return max(0.0, self.limits.deadline_s - self.seconds)

    @property
    def tokens_left(self) -> int:
        """Of the limit."""
        return max(0, self.limits.tokens - self.usage.tokens)

    def spent(self, next_input: int = 0) -> str:
        """Why no further reply may be asked for, ``next_input`` being about what it would read; empty where it may."""
        limits = self.limits
        if self.turns >= limits.turns:
            return f"{limits.turns} turns"
        if self.usage.tokens and self.tokens_left <= next_input:
            return f"{limits.tokens:,} tokens"
        if self._usd is not None and self.usage.usd is not None and self.usage.usd >= self._usd:
            return f"{self._usd:g} dollars"
        if self.seconds_left <= 0:
            return f"{limits.deadline_s:g} s"
        return ""

    def left(self) -> str:
        """In words for the model. No seconds: a replay must send the same text."""
        limits = self.limits
        turns, calls = limits.turns - self.turns, limits.calls - self.calls
        return f"{turns} turn{'s' * (turns != 1)}, {calls} tool call{'s' * (calls != 1)} and about {self.tokens_left // 1000:,},000 tokens"
