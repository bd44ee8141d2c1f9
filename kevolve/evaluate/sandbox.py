"""What a child may do, set by itself before it meets a candidate.

Isolation (the kernel enforces it on the whole process, whatever code runs in it): no network (a network namespace, and no
sockets), no programs started and no processes made, nothing done to other processes (``seccomp``), the system's files read and the
scratch directory written to and no others (``landlock``), no capabilities, limits on memory and file sizes. Each is used where the system
offers it; ``confine`` says which were, ``missing`` what is not there, and a strict run does without none of them. Hardening (a
determined candidate in the same process can undo it): hidden descriptors, the policy on source text,
the scrubbed environment. A candidate always shares its process with the code that reports its outputs, so nothing
that a child says is believed: the judge compares the outputs themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kevolve.evaluate import landlock, seccomp

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _CAPABILITY_VERSION_3 = 47, 4, 0x20080522
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIGKILL = 9
_THREAD_BYTES = 192 << 20  # address space that a thread's stack and malloc arena reserve without using

_libc = ctypes.CDLL(None, use_errno=True)


_MOST_BYTES = 16 << 30
_OUT_OF_MEMORY_SCORE = "500"  # of 1000: where memory runs out, children end before the judge and others


def default_memory_bytes() -> int:
    """What one child may use where nobody said: half of the memory that is available now, 16 GiB at the most."""
    from kevolve.evaluate.memory import available_bytes  # the judge's only: a child reads its limits from the judge

    return min(_MOST_BYTES, available_bytes() // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one child may use. ``memory_bytes`` is above what the server has; ``file_bytes`` bounds its log too.

    ``disk_bytes``: all its files together, those that it removed and holds open too. ``processes`` that live at once, besides itself.
    """

    memory_bytes: int = field(default_factory=default_memory_bytes)
    file_bytes: int = 64 << 20
    disk_bytes: int = 1 << 30
    processes: int = 64
    threads: int = 2048
    open_files: int = 256

    def to_json(self) -> dict[str, int]:
        """Plain numbers, for a message."""
        return asdict(self)


def _prctl(option: int, argument: int) -> bool:
    return bool(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) == 0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent thread ends; ends at once where it has gone already."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent dies, so that none escapes."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> bool:
    """Close ``/proc/<self>/mem`` and ptrace to other processes of this user without the privilege to trace. Isolation."""
    return _prctl(_PR_SET_DUMPABLE, 0)


def leave_network() -> str:
    """Move this single-threaded process into an empty network namespace: ``"namespace"``, or ``"shared: …"`` with the reason."""
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        return "namespace" if _libc.unshare(_CLONE_NEWNET) == 0 else f"shared: {reason}"
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with contextlib.suppress(OSError):
            Path(f"/proc/self/{name}").write_text(text)
    return "namespace"


def children_of(pid: int) -> list[int]:
    """The live and unreaped children of a process, those of all its threads."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return found


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def begin(limits: Limits, *, address_space: bool) -> None:
    """The limits that every child has, trusted or not."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _lower(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
    if address_space:
        _lower(resource.RLIMIT_AS, _address_space_bytes() + limits.memory_bytes + (os.cpu_count() or 1) * _THREAD_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """What was had, by name, and the descriptor on which new threads and processes are announced (the receiver's to close)."""

    had: Mapping[str, str]
    listener: int | None = None


def confine(
    limits: Limits,
    *,
    scratch: Path,
    own: Sequence[Path] = (),
    programs: bool = False,
    devices: Sequence[Path] | None = (),
    listen: bool = False,
) -> Confined:
    """The limits for an untrusted candidate; irreversible.

    ``own``: the candidate's files. ``programs``: the target needs to start programs (a driver's compiler); then files are confined only
    where ``devices`` says which else are written to. ``listen``: new threads and processes are counted by who reads the listener.
    """
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    capabilities = drop_capabilities()
    files = "not confined: the target does not say which devices it writes to"
    if devices is not None:
        files = landlock.confine_files(scratch, own=own, devices=devices)
    filtered = seccomp.filter_calls(programs=programs, listen=listen)
    had = {"files": files, "system_calls": filtered.said, "capabilities": capabilities}
    if threads > 1 and landlock.version() < landlock.EVERY_THREAD_SINCE:
        had["threads"] = f"{threads - 1} of the driver's, older than the confinement of files, lie outside it"
    return Confined(had=had, listener=filtered.listener)


def drop_capabilities() -> str:
    """Give up every privilege, root's and those in our own namespace, for this thread and what it starts. ``"none"``, or why not."""
    for number in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) != 0:
            break
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header, empty = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    return "none" if _libc.capset(header, empty) == 0 else f"kept: {os.strerror(ctypes.get_errno())}"


FULL, PARTIAL, NONE = "full", "partial", "none"


def missing(isolation: Mapping[str, Any]) -> dict[str, str]:
    """What keeps a child from being fully confined: by name, what was had in its place.

    ``isolation``: what the server and ``confine`` answered.
    """
    calls = isolation["system_calls"]
    wanted = {
        "network": isolation["network"] == "namespace" or not calls.startswith("not filtered"),
        "files": isolation["files"] == landlock.CONFINED,
        "system_calls": calls in (seccomp.ALONE, seccomp.WITH_PROGRAMS),
        "capabilities": isolation["capabilities"] == "none",
    }
    return {name: isolation[name] for name, had in wanted.items() if not had}


def level(isolation: Mapping[str, Any]) -> str:
    """``FULL``; ``NONE`` where neither files nor system calls are confined; ``PARTIAL`` between."""
    absent = missing(isolation)
    if not absent:
        return FULL
    return NONE if {"files", "system_calls"} <= absent.keys() and calls_free(isolation) else PARTIAL


def calls_free(isolation: Mapping[str, Any]) -> bool:
    """Whether no filter on system calls was had at all."""
    return str(isolation["system_calls"]).startswith("not filtered")


def from_json(fields: Mapping[str, Any]) -> Limits:
    """Read what ``Limits.to_json`` wrote."""
    return Limits(**fields)
