"""Who may use a device when: checks share it, a timing has it alone, in this process and in every other on the machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True, eq=False)
class _Use:
    """One that may be interrupted: its lock, what stops it and lets it go on."""

    fd: int
    pause: Callable[[], None]
    resume: Callable[[], None]
    paused: bool = False


class Hold:
    """The lock of one device, a file's (``flock``). Timings that wait come before checks that wait, one after another.

    A timing waits for every check under way to end: several in a row wait for that once. What takes long and can be stopped is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turnstile = threading.Lock()
        self._timings = threading.Condition()
        self._waiting = 0  # timings of this process
        self._timed = 0  # those, and the one that has it
        self._sharing = 0  # uses of this process that end by themselves
        self._interruptible: list[_Use] = []

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Use it beside others that share it."""
        fd = self._open()
        try:
            with self._timings:
                self._timings.wait_for(lambda: not self._waiting)
            with self._turnstile:
                fcntl.flock(fd, fcntl.LOCK_SH)
                with self._timings:
                    self._sharing += 1
            try:
                yield
            finally:
                with self._timings:
                    self._sharing -= 1
                    self._timings.notify_all()
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Have it alone."""
        fd = self._open()
        try:
            with self._counted():
                with self._first(), self._turnstile:
                    with self._timings:  # what is stopped may hold something that those who share the device wait for: they end first
                        self._timings.wait_for(lambda: not self._sharing)
                    self._interrupt()
                    fcntl.flock(fd, fcntl.LOCK_EX)
                yield
        finally:
            os.close(fd)
            self._go_on()

    @contextlib.contextmanager
    def interruptible(self, pause: Callable[[], None], resume: Callable[[], None]) -> Iterator[None]:
        """Use it beside others for long: a timing of this process does not wait for the end, but calls ``pause``, and ``resume`` after."""
        use = _Use(fd=self._open(), pause=pause, resume=resume)
        try:
            with self._timings:
                self._timings.wait_for(lambda: not self._waiting)
            with self._turnstile:
                fcntl.flock(use.fd, fcntl.LOCK_SH)
                self._interruptible.append(use)
            yield
        finally:
            with self._turnstile:
                if use in self._interruptible:
                    self._interruptible.remove(use)
                if use.paused:  # its end was under way when it was stopped
                    resume()
                os.close(use.fd)

    def _interrupt(self) -> None:
        """Under the turnstile: whoever may be interrupted lets go."""
        for use in self._interruptible:
            if not use.paused:
                use.pause()
                fcntl.flock(use.fd, fcntl.LOCK_UN)
                use.paused = True

    def _go_on(self) -> None:
        """After a timing, unless the next one has begun or waits."""
        with self._turnstile:
            for use in self._interruptible:
                if use.paused and not self._timed:
                    fcntl.flock(use.fd, fcntl.LOCK_SH)
                    use.paused = False
                    use.resume()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._timings:
            self._timed += 1
        try:
            yield
        finally:
            with self._timings:
                self._timed -= 1

    @contextlib.contextmanager
    def _first(self) -> Iterator[None]:
        with self._timings:
            self._waiting += 1
        try:
            yield
        finally:
            with self._timings:
                self._waiting -= 1
                self._timings.notify_all()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)  # another user's file may be locked, not made anew
        except FileNotFoundError:
            return os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


class Holds:
    """The locks of targets' devices, by path; a target without a device of its own needs none."""

    def __init__(self) -> None:
        self._holds: dict[Path, Hold] = {}
        self._lock = threading.Lock()

    def shared(self, target: Any) -> contextlib.AbstractContextManager[None]:
        """Use the target's device beside others."""
        hold = self._of(target)
        return contextlib.nullcontext() if hold is None else hold.shared()

    def interruptible(self, target: Any, pause: Callable[[], None], resume: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Use the target's device beside others, stopped for every timing."""
        hold = self._of(target)
        return contextlib.nullcontext() if hold is None else hold.interruptible(pause, resume)

    def alone(self, target: Any) -> contextlib.AbstractContextManager[None]:
        """Have the target's device alone."""
        hold = self._of(target)
        return contextlib.nullcontext() if hold is None else hold.alone()

    def _of(self, target: Any) -> Hold | None:
        lock_path = getattr(target, "lock_path", None)
        path = lock_path() if lock_path is not None else None
        if path is None:
            return None
        with self._lock:
            return self._holds.setdefault(path, Hold(path))
