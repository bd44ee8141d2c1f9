"""What is known of sources, kept under their normalised text: equal kernels are asked about once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from kevolve import registry

REMEMBERED = 256  # sources
Known = TypeVar("Known")


class Answers(Generic[Known]):
    """The latest ``most`` sources, each with what ``new`` made when it was first asked for. Thread-safe."""

    def __init__(self, new: Callable[[], Known], *, most: int = REMEMBERED) -> None:
        self._new, self._most = new, most
        self._kept: dict[str, Known] = {}
        self._lock = threading.Lock()

    def of(self, language: str, source: str) -> Known:
        """What is known of a source; the same object for texts that differ in layout and comments only."""
        normalised = registry.load("languages", language).normalise(source)
        key = hashlib.sha256(f"{language}\0{normalised}".encode()).hexdigest()
        with self._lock:
            found = self._kept.pop(key) if key in self._kept else self._new()
            self._kept[key] = found  # the latest last
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
        return found
