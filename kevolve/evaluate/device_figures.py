"""What every timing of a run needs of its device: its peaks and the scatter between processes, each measured once and kept."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kevolve.evaluate.client import Workers
from kevolve.evaluate.scatter import Scatter, scatter
from kevolve.targets import Peaks

if TYPE_CHECKING:
    from kevolve.targets import Target


class DeviceFigures:
    """The figures of one run's device, measured when first needed and by no two threads at once. ``cache``: where they are kept."""

    def __init__(self, target: Target, workers: Workers, cache: Path) -> None:
        self._target, self._workers, self._cache = target, workers, cache
        self._lock = threading.RLock()
        self._again = False

    @cached_property
    def peaks(self) -> Peaks:
        """What the device can do."""
        with self._lock, self._workers.holds.alone(self._target):
            return self._target.peaks(self._cache)

    @cached_property
    def scatter(self) -> Scatter | None:
        """How far the times of one kernel lie apart between processes, where these serve several pairs. Raises as ``scatter``."""
        with self._lock:
            return scatter(self._workers, self._target, self._cache, clock=time.perf_counter)

    @property
    def known_peaks(self) -> Peaks | None:
        """The peaks, where something needed them."""
        return self.__dict__.get("peaks")

    def both(self) -> tuple[Scatter | None, Peaks]:
        """The scatter and the peaks. Raises as ``scatter``."""
        with self._lock:
            return self.scatter, self.peaks

    def peaks_again(self) -> Peaks:
        """The higher of what was measured before and now: peaks that were measured while others used the machine came out too low.

        Once a run, for the first time that a kernel beats them. Those before, where the target has no ``peaks_again`` or that fails.
        """
        with self._lock:
            again = getattr(self._target, "peaks_again", None)
            if again is not None and not self._again:
                self._again = True
                with self._workers.holds.alone(self._target), contextlib.suppress(OSError, RuntimeError, subprocess.SubprocessError):
                    found = again(self._cache)
                    self.__dict__["peaks"] = found if found.bandwidth else self.peaks
            return self.peaks
