"""Where timing shares the cores with everything else: who may compute beside whom, within this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Compiles and checks pass together, a timing passes alone, and neither keeps the other out for ever.

    A timing that waits lets nobody else in; when it is over, those who waited meanwhile go before the next timing.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0  # sharing
        self._alone = False
        self._timings = 0  # waiting
        self._waiting = 0  # to share
        self._invited = 0  # of those, who go before the next timing

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Compute beside others that share."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._alone and (self._invited or not self._timings))
            finally:
                self._waiting -= 1
                self._invited = max(0, self._invited - 1)
                self._changed.notify_all()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Compute while nobody else does."""
        with self._changed:
            self._timings += 1
            try:
                self._changed.wait_for(lambda: not self._alone and not self._inside and not self._invited)
                self._alone = True
            finally:
                self._timings -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._invited = self._waiting
                self._changed.notify_all()
