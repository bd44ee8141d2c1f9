"""What a child may do, set by itself before it meets a candidate.

Isolation (the kernel enforces it on the whole process, whatever code runs in it): no network (a network namespace, and no
sockets), no programs started and no processes made, no signals to or memory of other processes (a seccomp filter), writes to the
scratch directory only (Landlock), limits on memory and file sizes. Each is used where the system offers it; ``confine`` says
which were. Hardening (a determined candidate in the same process can undo it): hidden descriptors, the policy on source text,
the scrubbed environment. A candidate always shares its process with the code that reports its outputs, so nothing
that a child says is believed: the judge compares the outputs themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
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
    """What one child may use. ``memory_bytes`` is above what the server has; ``file_bytes`` bounds its log too."""

    memory_bytes: int = field(default_factory=default_memory_bytes)
    file_bytes: int = 64 << 20
    processes: int = 64
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


def confine(limits: Limits, *, scratch: Path, programs: bool = False, devices: Sequence[Path] | None = None) -> Mapping[str, str]:
    """The limits for an untrusted candidate; irreversible. What was had, by name.

    ``programs``: the target needs to start programs (a driver's compiler); then system calls are not filtered, and files are confined
    only where ``devices`` says which else are written to.
    """
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    if programs:
        files = "not confined: the target starts programs" if devices is None else confine_files(scratch, devices)
        return {"files": files, "system_calls": "not filtered: the target starts programs"}
    return {"files": confine_files(scratch), "system_calls": _filter_system_calls()}


# --- Landlock: read anywhere, write beneath the scratch directory (Linux 5.13 and later) ---

_WRITES = 0x1FFF & ~0b1101  # write, remove and make files of every kind; not execute, read, list
_WRITES_SINCE = ((2, 1 << 13), (3, 1 << 14))  # (version of the interface, right): link across folders, truncate
_FILE_WRITES = 0b10 | 1 << 14  # what a rule for a file may name: write, truncate
_RULE_PATH_BENEATH = 1


def landlock_version() -> int:
    """The version of Landlock's interface, 0 where the kernel has none."""
    return max(0, int(_libc.syscall(444, None, ctypes.c_size_t(0), 1)))


def confine_files(scratch: Path, devices: Sequence[Path] = ()) -> str:
    """Read anywhere, write beneath ``scratch`` and to ``devices`` (files or folders) only, programs started from here included.

    What was had: ``"read-only outside the scratch directory"``, or why not.
    """
    version = landlock_version()
    writes = _WRITES | sum(right for since, right in _WRITES_SINCE if version >= since)
    rules = struct.pack("<Q", writes)
    ruleset = _libc.syscall(444, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return f"not confined: Landlock: {os.strerror(ctypes.get_errno())}"
    _allow(ruleset, scratch, writes)
    for path in (Path("/dev/null"), *devices):
        if path.exists():
            _allow(ruleset, path, writes if path.is_dir() else _FILE_WRITES & writes)
    done = _libc.syscall(446, ruleset, 0) == 0
    reason = os.strerror(ctypes.get_errno())
    os.close(ruleset)
    return "read-only outside the scratch directory" if done else f"not confined: Landlock: {reason}"


def _allow(ruleset: int, path: Path, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    _libc.syscall(445, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", rights, fd), 0)
    os.close(fd)


# --- seccomp: a filter on system calls, in classic BPF ---

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000  # numbers of x86_64's second table begin here


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calls:
    """System call numbers of one architecture (``asm/unistd.h``)."""

    audit: int
    refused: Sequence[int]
    signals: Sequence[int]  # the first argument is a process: only oneself
    own: Sequence[int]  # as these, or 0 for oneself: else the processes beside it could be slowed
    clone: int
    clone3: int = 435


_CALLS = {
    "x86_64": _Calls(
        audit=0xC000003E,
        # socket, socketpair, fork, vfork, execve, ptrace, mount, chroot, process_vm_readv/writev, execveat, bpf, kexec, keyctl,
        # unshare, setns, perf_event_open, io_uring_setup, pidfd_open/send_signal/getfd, process_madvise, userfaultfd,
        # setsid, setpgid, tkill, setpriority, ioprio_set
        refused=(
            41,
            53,
            57,
            58,
            59,
            101,
            165,
            161,
            310,
            311,
            322,
            321,
            246,
            250,
            272,
            308,
            298,
            425,
            434,
            424,
            438,
            440,
            323,
            112,
            109,
            200,
            141,
            251,
        ),
        signals=(62, 234, 129, 297),
        own=(203, 144, 142, 314, 302),  # sched_setaffinity, sched_setscheduler, sched_setparam, sched_setattr, prlimit64
        clone=56,
    ),
    "aarch64": _Calls(
        audit=0xC00000B7,
        refused=(
            198,
            199,
            221,
            117,
            40,
            51,
            270,
            271,
            281,
            280,
            104,
            219,
            97,
            268,
            241,
            425,
            434,
            424,
            438,
            440,
            282,
            157,
            154,
            130,
            140,
            30,
        ),
        signals=(129, 131, 138, 240),
        own=(122, 119, 118, 274, 261),
        clone=220,
    ),
}


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _program(calls: _Calls, pid: int) -> bytes:
    """The filter: refused calls fail with EPERM, signals reach only ``pid``, ``clone`` makes threads only."""
    refuse, allow = _instruction(_RETURN, _REFUSE | errno.EPERM), _instruction(_RETURN, _ALLOW)
    first = _instruction(_LOAD, _FIRST_ARGUMENT_AT)
    lines = [_instruction(_LOAD, _ARCHITECTURE_AT), _instruction(_JUMP_EQUAL, calls.audit, 1, 0), refuse]
    lines += [_instruction(_LOAD, _NUMBER_AT), _instruction(_JUMP_ABOVE, _X32, 0, 1), refuse]
    for number in calls.refused:
        lines += [_instruction(_JUMP_EQUAL, number, 0, 1), refuse]
    for number in calls.signals:
        lines += [_instruction(_JUMP_EQUAL, number, 0, 4), first, _instruction(_JUMP_EQUAL, pid, 1, 0), refuse, allow]
    for number in calls.own:
        is_own = _instruction(_JUMP_EQUAL, 0, 2, 0), _instruction(_JUMP_EQUAL, pid, 1, 0)
        lines += [_instruction(_JUMP_EQUAL, number, 0, 5), first, *is_own, refuse, allow]
    lines += [_instruction(_JUMP_EQUAL, calls.clone, 0, 4), first, _instruction(_JUMP_SET, _CLONE_THREAD, 1, 0), refuse, allow]
    lines += [_instruction(_JUMP_EQUAL, calls.clone3, 0, 1), _instruction(_RETURN, _REFUSE | errno.ENOSYS)]  # glibc then uses clone
    return b"".join([*lines, allow])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter_system_calls() -> str:
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return f"not filtered: no table of system calls for {platform.machine()}"
    code = _program(calls, os.getpid())
    program = _Program(len(code) // 8, code)
    if _libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) != 0:
        return f"not filtered: {os.strerror(ctypes.get_errno())}"
    return "no programs, processes, sockets, tracing or signals to others"


def from_json(fields: Mapping[str, Any]) -> Limits:
    """Read what ``Limits.to_json`` wrote."""
    return Limits(**fields)
