"""Writing files so that nobody ever sees a part of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_MASK = _umask()  # asked once: it can be asked only by changing it, for all threads


def write_atomically(path: Path, text: str | bytes) -> None:
    """Write ``text`` (UTF-8 where it is one) to ``path`` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8") if isinstance(text, str) else text)
        Path(temporary).chmod(_mode(path))
        Path(temporary).replace(path)
    except BaseException:  # an interrupt too must leave no temporary file behind
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int:
    """The mode of the file replaced, else what ``open`` would give (``mkstemp`` makes files private)."""
    if path.exists():
        return path.stat().st_mode & 0o777
    return 0o666 & ~_MASK
