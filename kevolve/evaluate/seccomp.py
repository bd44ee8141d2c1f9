"""The filter on system calls that an untrusted process puts on itself: seccomp, in classic BPF, on all its threads and programs.

Two forms. *Alone*: no programs, no processes, no sockets. *With programs* (a driver's compiler runs in the process): sockets are between
the processes below it only. In both each new thread and process waits until the judge has counted (``Listener``), and what reaches into
other processes is refused: tracing, their memory and descriptors, their limits, priority and cores (a baseline could be slowed by them).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Callable
from dataclasses import dataclass

ALONE = "no programs, processes, sockets, tracing or signals to others"
WITH_PROGRAMS = "no sockets to others, tracing or namespaces; programs may start"
_UNCOUNTED = "; threads and processes are counted afterwards"

_libc = ctypes.CDLL(None, use_errno=True)

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _ASK = 0x7FFF0000, 0x00050000, 0x7FC00000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000
_AF_UNIX = 1
_X32 = 0x40000000  # numbers of x86_64's second table begin here
_MODE_FILTER, _ALL_THREADS, _LISTEN, _NUMBERED = 1, 1, 8, 16

_ARCHITECTURES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}  # audit's name of it, and the number of seccomp(2)
_PLACE = {"x86_64": 0, "aarch64": 1}
_NONE = -1  # a call that an architecture lacks

# Numbers of system calls (asm/unistd.h): x86_64, aarch64.
_OTHERS = {  # reaching into other processes, and ways around the filter; never needed by a kernel nor by a compiler
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
}
_STARTS = {  # refused where the process is alone
    "socket": (41, 198),
    "socketpair": (53, 199),
    "fork": (57, _NONE),
    "vfork": (58, _NONE),
    "execve": (59, 221),
    "execveat": (322, 281),
    "pidfd_open": (434, 434),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "tkill": (200, 130),
}
_REACHES = {"connect": (42, 203), "bind": (49, 200)}  # refused where sockets may be made
_OWN = {  # the first argument names a process: none but the caller (0), whose limits it may lower
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "prlimit64": (302, 261),
}
_SIGNALS = {"kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
_FORKS = {"fork": (57, _NONE), "vfork": (58, _NONE)}
_SOCKETS = {"socket": (41, 198), "socketpair": (53, 199)}
_CLONE, _CLONE3 = (56, 220), (435, 435)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """What was had. ``listener``: the descriptor on which new threads and processes are announced; the receiver closes it."""

    said: str
    listener: int | None = None


def filter_calls(*, programs: bool, listen: bool) -> Filtered:
    """Filter this process's system calls, those of all its threads and of what it starts. Irreversible.

    ``listen``: ask whoever reads the listener before a thread or a process is made; without it they are made freely.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return Filtered(said=f"not filtered: no table of system calls for {machine}")
    said = WITH_PROGRAMS if programs else ALONE
    if listen:
        problem, listener = _install(_program(machine, programs, ask=True), _LISTEN | _NUMBERED)
        if problem is None:
            return Filtered(said=said, listener=listener)
    problem, _ = _install(_program(machine, programs, ask=False), 0)
    return Filtered(said=problem or said + _UNCOUNTED)


def _program(machine: str, programs: bool, *, ask: bool) -> bytes:
    return _with_programs(machine, ask=ask) if programs else _alone(machine, os.getpid(), ask=ask)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _install(code: bytes, flags: int) -> tuple[str | None, int]:
    """Why not, or None; and what the system answered: the listener where ``flags`` ask for one."""
    program = _Program(len(code) // 8, code)
    _, number = _ARCHITECTURES[platform.machine()]
    answer = int(_libc.syscall(number, _MODE_FILTER, _ALL_THREADS | flags, ctypes.byref(program)))
    if answer < 0:
        return f"not filtered: {os.strerror(ctypes.get_errno())}", -1
    if answer > 0 and not flags:
        return "not filtered: a thread has a filter of its own", -1
    return None, answer


# --- the programs ---


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


_REFUSED, _ALLOWED = _instruction(_RETURN, _REFUSE | errno.EPERM), _instruction(_RETURN, _ALLOW)
_FIRST = _instruction(_LOAD, _FIRST_ARGUMENT_AT)


def _numbers(calls: dict[str, tuple[int, int]], machine: str) -> list[int]:
    return [numbers[_PLACE[machine]] for numbers in calls.values() if numbers[_PLACE[machine]] != _NONE]


def _when(number: int, *lines: bytes) -> list[bytes]:
    """``lines`` for one system call; they return, or fall through to what follows with the number lost."""
    return [_instruction(_JUMP_EQUAL, number, 0, len(lines)), *lines]


def _begins(machine: str) -> list[bytes]:
    audit, _ = _ARCHITECTURES[machine]
    known = [_instruction(_LOAD, _ARCHITECTURE_AT), _instruction(_JUMP_EQUAL, audit, 1, 0), _REFUSED]
    return [*known, _instruction(_LOAD, _NUMBER_AT), _instruction(_JUMP_ABOVE, _X32, 0, 1), _REFUSED]


def _shared(machine: str) -> list[bytes]:
    lines = [line for number in _numbers(_OTHERS, machine) for line in _when(number, _REFUSED)]
    for number in _numbers(_OWN, machine):
        lines += _when(number, _FIRST, _instruction(_JUMP_EQUAL, 0, 1, 0), _REFUSED, _ALLOWED)
    return lines


def _alone(machine: str, pid: int, *, ask: bool) -> bytes:
    """Refused calls fail with EPERM, signals reach only ``pid``, ``clone`` makes threads only; ``ask``: when whoever listens says so."""
    place = _PLACE[machine]
    made = _instruction(_RETURN, _ASK) if ask else _ALLOWED
    lines = _begins(machine) + _shared(machine)
    lines += [line for number in _numbers(_STARTS, machine) for line in _when(number, _REFUSED)]
    for number in _numbers(_SIGNALS, machine):
        lines += _when(number, _FIRST, _instruction(_JUMP_EQUAL, pid, 1, 0), _REFUSED, _ALLOWED)
    lines += _when(_CLONE[place], _FIRST, _instruction(_JUMP_SET, _CLONE_THREAD, 1, 0), _REFUSED, made)
    lines += _when(_CLONE3[place], _instruction(_RETURN, _REFUSE | errno.ENOSYS))  # glibc then uses clone
    return b"".join([*lines, _ALLOWED])


def _with_programs(machine: str, *, ask: bool) -> bytes:
    """Programs may start; ``ask``: a new thread or process only when whoever listens says so."""
    place = _PLACE[machine]
    made = _instruction(_RETURN, _ASK) if ask else _ALLOWED
    lines = _begins(machine) + _shared(machine)
    lines += [line for number in _numbers(_REACHES, machine) for line in _when(number, _REFUSED)]
    for number in _numbers(_SOCKETS, machine):
        lines += _when(number, _FIRST, _instruction(_JUMP_EQUAL, _AF_UNIX, 1, 0), _REFUSED, _ALLOWED)
    lines += [line for number in _numbers(_FORKS, machine) for line in _when(number, made)]
    lines += _when(_CLONE[place], _FIRST, _instruction(_JUMP_SET, _CLONE_NAMESPACES, 0, 1), _REFUSED, made)
    lines += _when(_CLONE3[place], _instruction(_RETURN, _REFUSE | errno.ENOSYS))
    return b"".join([*lines, _ALLOWED])


# --- the judge's end ---

_NOTICE = struct.Struct("<QIIiIQ6Q")  # struct seccomp_notif
_ANSWER = struct.Struct("<QqiI")  # struct seccomp_notif_resp
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1


class Listener:
    """Where a confined process's wish for another thread or process arrives. The descriptor came from the process: it may be anything."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        """For ``poll``."""
        return self.fd

    def answer(self, allowed: Callable[[int, bool], bool]) -> None:
        """Answer one wish: let it be made where ``allowed`` (given who asks, and whether for a process), else fail it with EAGAIN.

        Raises ``OSError`` where this is no listener, or nobody is left who could ask.
        """
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, notice)
            number, thread, _, call, _, _, first, *_ = _NOTICE.unpack(notice)
            process = call != _CLONE[_PLACE[platform.machine()]] or not first & _CLONE_THREAD
            answer = (number, 0, 0, _CONTINUE) if allowed(thread, process) else (number, 0, -errno.EAGAIN, 0)
            fcntl.ioctl(self.fd, _SEND, bytearray(_ANSWER.pack(*answer)))
        except FileNotFoundError:
            return  # who asked has ended meanwhile

    def close(self) -> None:
        """Close it: what still waits, or asks later, fails with ENOSYS."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
