"""What a child uses, as the judge sees it from outside: its memory, threads, processes and files."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from kevolve.evaluate.sandbox import children_of

MOST_FILES = 10_000  # in one scratch folder: a look at them must stay short
_MOST_PROCESSES = 10_000
_BLOCK = 512  # bytes, of st_blocks


def resident_bytes(pid: int) -> int:
    """Memory that is there, shared pages included; 0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * mmap.PAGESIZE
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def descendants(pid: int) -> list[int]:
    """The processes it has made that live, theirs included."""
    found: list[int] = []
    unvisited = [pid]
    while unvisited and len(found) < _MOST_PROCESSES:
        children = children_of(unvisited.pop())
        found += children
        unvisited += children
    return found


def threads(pids: Iterable[int]) -> int:
    """How many threads these processes have together."""
    return sum(_threads(pid) for pid in pids)


def _threads(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def stored_bytes(pid: int, folder: Path, ours: Container[tuple[int, int]]) -> int | None:
    """What lies below ``folder``, and in files without a name that it and its descendants hold open. None: more than ``MOST_FILES``.

    ``ours``: device and inode of files that the judge gave it.
    """
    total = 0
    for count, status in enumerate(_below(folder)):
        if count >= MOST_FILES:
            return None
        total += status.st_blocks * _BLOCK
    nameless = {(at.st_dev, at.st_ino): at.st_blocks * _BLOCK for each in (pid, *descendants(pid)) for at in _held(each) if not at.st_nlink}
    return total + sum(size for key, size in nameless.items() if key not in ours)


def _below(folder: Path) -> Iterator[os.stat_result]:
    unvisited = [folder]
    while unvisited:
        try:
            with os.scandir(unvisited.pop()) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        unvisited.append(Path(entry))
        except OSError:  # it went while we looked
            continue


def _held(pid: int) -> Iterator[os.stat_result]:
    """The plain files among its descriptors."""
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it ended, or hides
        return
    for link in links:
        try:
            status = link.stat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield status
