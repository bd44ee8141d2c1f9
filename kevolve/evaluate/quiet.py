"""A host that stands still for a timing: a reference as launched is the host's work, which others' compiling and checking would slow.

For where a device times and the host is left to others otherwise. The judge's own single thread goes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Protocol


class Stoppable(Protocol):
    """A process that can be stopped where it is."""

    def pause(self) -> None:
        """Stop it."""
        ...

    def resume(self) -> None:
        """Let it go on, once for each ``pause``."""
        ...


class Quiet:
    """Calls of processes and work of the judge's on many cores; and timings, one at a time, for which calls are stopped and work waits."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._calling: list[Stoppable] = []
        self._working = 0
        self._timed: Collection[Stoppable] | None = None  # whose calls go on
        self._began = 0.0
        self._quiet_s = 0.0  # of timings that are over

    @contextlib.contextmanager
    def calling(self, child: Stoppable) -> Iterator[Callable[[], float]]:
        """A call of ``child``, begun when no timing but its own is on. Gives for how many seconds it was stopped since."""
        with self._changed:
            self._changed.wait_for(lambda: self._timed is None or child in self._timed)
            timed, before = self._timed is not None, self._quiet_s
            self._calling.append(child)
        try:
            yield lambda: 0.0 if timed else self._stood_s() - before
        finally:
            with self._changed:
                self._calling.remove(child)

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return len(self._calling)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Work on many cores, in this process, begun when no timing is on."""
        with self._changed:
            self._changed.wait_for(lambda: self._timed is None)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def during(self, timed: Collection[Stoppable]) -> Iterator[None]:
        """Until the end nothing goes on but calls of ``timed``."""
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: not self._working)
                self._timed, self._began = timed, time.monotonic()
                stopped = [child for child in self._calling if child not in timed]
                for child in stopped:
                    child.pause()
            try:
                yield
            finally:
                with self._changed:
                    self._quiet_s += time.monotonic() - self._began
                    self._timed = None
                    for child in stopped:
                        child.resume()
                    self._changed.notify_all()

    def _stood_s(self) -> float:
        with self._changed:
            return self._quiet_s + (time.monotonic() - self._began if self._timed is not None else 0.0)
