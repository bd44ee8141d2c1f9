"""The folder that rounds leave from and results come back to.

``0007-rms_norm.round.zip`` waits until ``0007-rms_norm.results.zip`` lies beside it; what was taken is moved to ``done/``. ``device.json``
says on which device the folder's results were measured: fitnesses of different devices do not compare.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kevolve.files import write_atomically
from kevolve.spool import SpoolError
from kevolve.spool import results as results_file
from kevolve.spool import round as round_file
from kevolve.spool.container import BadArchive
from kevolve.spool.results import Results
from kevolve.spool.round import ReadRound, Round

DONE, DEVICE = "done", "device.json"
_NUMBER = re.compile(r"(\d+)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A round in the folder, and where its results are awaited."""

    path: Path
    asked: ReadRound

    @property
    def results(self) -> Path:
        """Where ``kevolve evaluate`` leaves them."""
        return results_path(self.path)


def results_path(round_path: Path) -> Path:
    """``0007-rms_norm.results.zip`` beside ``0007-rms_norm.round.zip``; of another name, that with the ending."""
    name = round_path.name.removesuffix(round_file.SUFFIX).removesuffix(".zip")
    return round_path.with_name(name + results_file.SUFFIX)


class Shelf:
    """One folder. Several processes may use it at once; nothing in it is ever seen in part."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where there is none. Raises ``SpoolError`` where it cannot be written."""
        self.folder = folder
        self._read: dict[Path, tuple[tuple[int, int], ReadRound | None]] = {}
        self._lock = threading.Lock()
        try:
            (folder / DONE).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolError(f"--kevolve-evaluator: cannot write {folder}: {error.strerror}") from error

    def rounds(self, *, done: bool) -> Iterator[Sent]:
        """The rounds that wait, or those whose results were taken, oldest first. What is none of our archives is passed over."""
        for path in sorted((self.folder / DONE if done else self.folder).glob(f"*{round_file.SUFFIX}")):
            asked = self._asked(path)
            if asked is not None:
                yield Sent(path=path, asked=asked)

    def _asked(self, path: Path) -> ReadRound | None:
        """The round at ``path``, read once as long as the file stays the same."""
        try:
            stat = path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            with self._lock:
                known = self._read.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            found = _read_round(path)
        except FileNotFoundError:  # another process has moved it meanwhile
            return None
        with self._lock:
            self._read[path] = (stamp, found)
        return found

    def add(self, round: Round) -> Sent:
        """Leave a round under the next number. Raises ``SpoolError`` where it is too large to travel or cannot be written."""
        try:
            content = round.packed()
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".round-") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                path = self._linked(Path(file.name), round.declared.name)
        except (OSError, ValueError) as error:
            raise SpoolError(f"{self.folder}: a round of {round.declared.nodeid} cannot be left there: {error}") from error
        asked = self._asked(path)
        assert asked is not None, "a round that was written is there"
        return Sent(path=path, asked=asked)

    def _linked(self, temporary: Path, name: str) -> Path:
        """The whole file under a number of its own, which no other process has taken."""
        number = self._last() + 1
        while True:
            path = self.folder / f"{number:04}-{name}{round_file.SUFFIX}"
            try:
                os.link(temporary, path)
            except FileExistsError:
                number += 1
                continue
            return path

    def _last(self) -> int:
        names = (path.name for folder in (self.folder, self.folder / DONE) for path in folder.iterdir())
        return max((int(found[1]) for name in names if (found := _NUMBER.match(name))), default=0)

    def results(self, sent: Sent) -> Results | None:
        """What came back, or None as long as nothing did. Raises ``BadArchive``: damaged, of another round, of another device."""
        try:
            found = results_file.read(sent.results, sent.asked)
        except FileNotFoundError:
            return None
        self._same_device(found, sent)
        return found

    def _same_device(self, found: Results, sent: Sent) -> None:
        target = sent.asked.round.target
        known = self.device(target)
        if known is None:
            devices = {**self._devices(), target: dict(found.device)}
            write_atomically(self.folder / DEVICE, json.dumps(devices, indent=1) + "\n")
        elif known.get("name") != found.device["name"]:
            raise BadArchive(
                f"{sent.results.name}: measured on {found.device['name']}, the results before on {known.get('name')}: they do not compare; "
                f"measure there, or search with another folder"
            )

    def device(self, target: str) -> Mapping[str, str] | None:
        """The device that results for ``target`` come from; None before the first."""
        return self._devices().get(target)

    def _devices(self) -> dict[str, dict[str, str]]:
        path = self.folder / DEVICE
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            return {str(target): {str(name): str(value) for name, value in device.items()} for target, device in read.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError) as error:
            raise SpoolError(f'{path}: expected {{"target": {{"name": "device"}}}}, got something else ({error}); delete it') from error

    def take(self, sent: Sent) -> None:
        """Put a round whose results were all taken aside, with them: results first, so that no round waits for them again."""
        for path in (sent.results, sent.path):
            try:
                path.replace(self.folder / DONE / path.name)
            except FileNotFoundError:  # another search of the same spec was here first
                continue


def _read_round(path: Path) -> ReadRound | None:
    try:
        return round_file.read(path)
    except BadArchive:
        return None
