"""Archives between machines: what goes in is deterministic, what comes out is hostile until it was looked at.

A zip file of small texts. Nothing is ever extracted by an archive's own words: members are read into memory, their names, kinds and
sizes held against what the reader expects, and written by the reader where it decides.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

MOST_MEMBERS = 4096
MOST_BYTES = 16 << 20  # of one member
MOST_TOTAL_BYTES = 128 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")
_LONGEST_NAME = 240
_DATE = (1980, 1, 1, 0, 0, 0)  # the same texts give the same bytes


class BadArchive(ValueError):
    """An archive that is not believed; the message names the file and what is wrong with it."""


def packed(members: Mapping[str, bytes]) -> bytes:
    """An archive of ``members`` by name, in the order of their names. Raises ``ValueError`` for one that ``read`` would refuse."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(members.items()):
            if problem := _name_problem(name) or _size_problem(name, len(content)):
                raise ValueError(problem)
            archive.writestr(zipfile.ZipInfo(name, date_time=_DATE), content, compress_type=zipfile.ZIP_DEFLATED)
    return held.getvalue()


def read(path: Path) -> tuple[dict[str, bytes], str]:
    """The members of the archive at ``path`` by name, and the SHA-256 of the whole.

    Raises ``BadArchive``: no archive, damaged, encrypted, a name that leaves the archive or stands twice, a link or device, too large.
    Raises ``OSError`` where there is no such file.
    """
    if (size := path.stat().st_size) > MOST_TOTAL_BYTES:
        raise BadArchive(f"{path.name}: {size} bytes, at most {MOST_TOTAL_BYTES} are read")
    content = path.read_bytes()
    return _members(content, path), hashlib.sha256(content).hexdigest()


def _members(content: bytes, path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if problem := _problem(entries):
                raise BadArchive(f"{path.name}: {problem}")
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, BadArchive):
            raise
        raise BadArchive(f"{path.name}: expected a zip archive of kevolve's, got something else or a part of one ({error})") from error


def _problem(entries: list[zipfile.ZipInfo]) -> str | None:
    """Why an archive is refused before anything of it is read."""
    if len(entries) > MOST_MEMBERS:
        return f"{len(entries)} members, at most {MOST_MEMBERS} are read"
    total = sum(entry.file_size for entry in entries)
    if total > MOST_TOTAL_BYTES:
        return f"its members hold {total} bytes together, at most {MOST_TOTAL_BYTES} are read"
    seen: set[str] = set()
    for entry in entries:
        problem = _name_problem(entry.filename) or _size_problem(entry.filename, entry.file_size) or _kind_problem(entry)
        if problem is None and entry.filename in seen:
            problem = f"member {_shown(entry.filename)} stands in it twice"
        if problem is not None:
            return problem
        seen.add(entry.filename)
    return None


def _name_problem(name: str) -> str | None:
    if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name):
        return None
    return f"member {_shown(name)}: expected a relative path of plain names (no '..', no '/' in front, no '\\')"


def _size_problem(name: str, size: int) -> str | None:
    return f"member {_shown(name)} holds {size} bytes, at most {MOST_BYTES} are read" if size > MOST_BYTES else None


def _kind_problem(entry: zipfile.ZipInfo) -> str | None:
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return f"member {_shown(entry.filename)}: expected a plain file, got a link, a folder or a device"
    return f"member {_shown(entry.filename)} is encrypted" if entry.flag_bits & 0x1 else None


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")
