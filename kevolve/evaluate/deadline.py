"""Until when a child is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """The moment, of the monotonic clock, until which an answer is waited for.

    ``limit_s``: for all of it; or for each item that the child comes to, and for all of them. ``reached``: the items that it and its device
    have come to. ``stopped_s``: how long it was stopped since, which does not count.
    """

    def __init__(
        self, limit_s: float | tuple[float, float], reached: Callable[[], tuple[int, int]], stopped_s: Callable[[], float]
    ) -> None:
        now = time.monotonic()
        self.item_s, self.total_s = limit_s if isinstance(limit_s, tuple) else (limit_s, limit_s)
        self._reached, self._stopped_s, self._seen, self._begun = reached, stopped_s, reached(), False
        self._end, self._last = now + self.item_s, now + self.total_s

    def __call__(self) -> float:
        """As far as the child has come by now."""
        stopped = self._stopped_s()
        if self.total_s > self.item_s and (reached := self._reached()) != self._seen:
            self._seen, self._begun = reached, True
            self._end = min(time.monotonic() - stopped + self.item_s, self._last)
        return self._end + stopped

    def missed(self, command: str) -> str:
        """What to say of one that was not met."""
        if self._begun and self._end < self._last:
            return f"no progress in {command!r} within {self.item_s:g} s"
        return f"no answer to {command!r} within {self.total_s if self._begun else self.item_s:g} s"
