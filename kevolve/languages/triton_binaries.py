"""A candidate's compiled kernels between processes: packed by the child that compiled them, kept by the judge, unpacked for the launch.

The archive comes from a process that ran the candidate's code. It is kept beside that candidate's own source under a name of its own
and never meets another's; what the judge reads of it is bounded and checked.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kevolve.files import write_atomically
from kevolve.languages import machine_code
from kevolve.languages.cubin import BadCubin, usage
from kevolve.languages.occupancy import amd_occupancy, occupancy

_SUFFIXES = (".json", ".cubin", ".so", ".amdgcn")  # metadata, binaries, the launchers that Triton 3.6 builds, AMD's assembler text
_TIMED = "timed.txt"  # the keys of the kernels that the timed cases launch
_ENTRY = re.compile(r"[A-Z2-7]{52}/[A-Za-z_][\w.-]{0,220}")
_GROUP = "__grp__"  # Triton's lists of the files that belong together, with absolute paths: written anew where they are unpacked
_MOST_BYTES = 256 << 20
_MOST_FILES = 4096


class BadArchive(ValueError):
    """An archive that no honest child writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One compiled kernel and what it needs. ``shared_bytes`` a block; ``occupancy`` None where the architecture is unknown."""

    name: str
    registers: int
    local_bytes: int
    shared_bytes: int
    warps: int
    occupancy: float | None
    timed: bool


def pack(folder: Path, keys: Collection[str], timed: Iterable[str]) -> bytes:
    """From Triton's cache ``folder`` the kernels of ``keys`` (its folders' names) and all launchers, as a ZIP file.

    ``timed``: the keys that the timed cases launch.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(_TIMED, "\n".join(sorted(timed)))
        for path in sorted(folder.glob("*/*")):
            wanted = path.suffix == ".so" or (path.suffix in _SUFFIXES and path.parent.name in keys)
            if wanted and not path.name.startswith(_GROUP):
                file.write(path, f"{path.parent.name}/{path.name}")
    return buffer.getvalue()


def keep(data: bytes, path: Path) -> None:
    """Write a child's archive to ``path``, whole or not at all, once it is known to hold nothing but such files. Raises ``BadArchive``."""
    contents = dict(_files(data))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, text in contents.items():
            file.writestr(name, text)
    write_atomically(path, buffer.getvalue())


def unpack(paths: Iterable[Path], folder: Path) -> None:
    """Make ``folder`` a cache of Triton's with what the archives hold. Raises ``BadArchive``.

    An archive that may not be read was kept after this process was confined, by another compilation of the same source.
    """
    groups: dict[Path, dict[str, str]] = {}
    for archive in paths:
        try:
            packed = archive.read_bytes()
        except PermissionError:
            continue
        for name, data in _files(packed):
            if name == _TIMED:
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            if path.suffix in (".json", ".cubin"):
                groups.setdefault(path.parent, {})[path.name] = str(path)
    for place, files in groups.items():
        for name in [name for name in files if name.endswith(".json")]:
            (place / f"{_GROUP}{name}").write_text(json.dumps({"child_paths": files}))


def binaries(path: Path, arch: str) -> list[Binary]:
    """The kernels in a kept archive. What is no kernel of this form is left out: the figures inform, they decide nothing."""
    files = dict(_files(path.read_bytes()))
    timed = set(files.get(_TIMED, b"").decode(errors="replace").split())
    found: list[Binary] = []
    for name, data in files.items():
        metadata = _metadata(files.get(name.removesuffix(".cubin") + ".json", b"")) if name.endswith(".cubin") else None
        if metadata is not None:
            found += _binaries(data, metadata, arch, name.partition("/")[0] in timed)
    return found


def _binaries(cubin: bytes, metadata: tuple[int, int], arch: str, timed: bool) -> Iterator[Binary]:
    shared_bytes, warps = metadata
    try:
        kernels = usage(cubin)
    except BadCubin:
        return
    for name, used in kernels.items():
        share = occupancy(arch, registers=used.registers, shared_bytes=shared_bytes, warps=warps)
        yield Binary(
            name=name,
            registers=used.registers,
            local_bytes=used.local_bytes,
            shared_bytes=shared_bytes,
            warps=warps,
            occupancy=share,
            timed=timed,
        )


def inspected(data: bytes, arch: str) -> dict[str, dict[str, float]]:
    """By folder of an archive, its kernel's figures by name. What is no kernel of this form is left out. Raises ``BadArchive``."""
    files = dict(_files(data))
    found: dict[str, dict[str, float]] = {}
    for name, contents in files.items():
        stem, _, kind = name.rpartition(".")
        metadata = _metadata(files.get(f"{stem}.json", b""))
        if metadata is not None and kind in ("cubin", "amdgcn"):
            read = _nvidia if kind == "cubin" else _amd
            found |= {name.partition("/")[0]: figures for figures in read(contents, arch, *metadata)}
    return found


def _nvidia(cubin: bytes, arch: str, shared_bytes: int, warps: int) -> Iterator[dict[str, float]]:
    try:
        counted = machine_code.of_cubin(cubin)
    except BadCubin:
        return
    for kernel in _binaries(cubin, (shared_bytes, warps), arch, False):
        needs: dict[str, float] = {"registers": kernel.registers, "spills": kernel.local_bytes, "shared_bytes": kernel.shared_bytes}
        share = {} if kernel.occupancy is None else {"occupancy": kernel.occupancy}
        if kernel.name in counted:
            yield needs | share | counted[kernel.name].figures()


def _amd(text: bytes, arch: str, shared_bytes: int, warps: int) -> Iterator[dict[str, float]]:
    counted, metadata = machine_code.of_amdgcn(text.decode(errors="replace"))
    registers = metadata.get("vgpr_count")
    if registers is None:
        return
    needs: dict[str, float] = {
        "registers": registers,
        "scalar_registers": metadata.get("sgpr_count", 0),
        "spills": metadata.get("private_segment_fixed_size", 0),
        "shared_bytes": shared_bytes,
    }
    occupied = amd_occupancy(arch, registers=registers, shared_bytes=shared_bytes, warps=warps)
    yield needs | ({} if occupied is None else {"occupancy": occupied}) | counted.figures()


def _metadata(text: bytes) -> tuple[int, int] | None:
    """Shared memory and warps of one kernel's metadata."""
    try:
        fields: Any = json.loads(text)
        shared, warps = fields["shared"], fields["num_warps"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (shared, warps) if type(shared) is int and type(warps) is int and shared >= 0 < warps else None


def summary(found: Iterable[Binary]) -> Mapping[str, float]:
    """The most demanding kernel of those that are timed (of all where none is): registers, spills, shared memory, occupancy."""
    every = list(found)
    chosen = [binary for binary in every if binary.timed] or every
    if not chosen:
        return {}
    shares = [binary.occupancy for binary in chosen if binary.occupancy is not None]
    figures: dict[str, float] = {
        "registers": max(binary.registers for binary in chosen),
        "spill_bytes": max(binary.local_bytes for binary in chosen),
        "shared_bytes": max(binary.shared_bytes for binary in chosen),
        "kernels": len(every),
    }
    return figures | ({"occupancy": min(shares)} if shares else {})


def _files(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents. Stored, not compressed, so that a small archive is no large one. Raises ``BadArchive``."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = file.infolist()
            if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise BadArchive(f"expected at most {_MOST_FILES} files and {_MOST_BYTES >> 20} MiB, got {len(entries)} files")
            for entry in entries:
                known = entry.filename == _TIMED or (_ENTRY.fullmatch(entry.filename) and entry.filename.endswith(_SUFFIXES))
                if not known or entry.compress_type != zipfile.ZIP_STORED:
                    raise BadArchive(f"expected <key>/<name> of a cache of Triton's, stored, got {entry.filename!r:.80}")
                yield entry.filename, file.read(entry)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OSError, UnicodeDecodeError) as error:
        raise BadArchive(f"expected a ZIP file, got {len(data)} bytes that are none: {error}") from error
