"""Run a command where a container forbids system calls: ``python forbidding.py unshare=1,landlock_create_ruleset=38 COMMAND …``.

The filter is the kernel's own, as a container runtime sets it: ``name=errno``, of the calls in ``NUMBERS``.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# x86_64, aarch64
NUMBERS = {"unshare": (272, 97), "landlock_create_ruleset": (444, 444), "seccomp": (317, 277), "capset": (126, 91)}
_LISTENER = "listener"  # seccomp, only where it asks for a listener: as another supervisor's being there already


def _lines(wanted: dict[str, int]) -> list[bytes]:
    place = ("x86_64", "aarch64").index(platform.machine())
    lines = [struct.pack("<HBBI", 0x20, 0, 0, 0)]
    for name, number in wanted.items():
        refused = struct.pack("<HBBI", 0x06, 0, 0, 0x00050000 | number)
        if name != _LISTENER:
            lines += [struct.pack("<HBBI", 0x15, 0, 1, NUMBERS[name][place]), refused]
            continue
        allowed = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
        flags = [struct.pack("<HBBI", 0x20, 0, 0, 24), struct.pack("<HBBI", 0x45, 0, 1, 8), refused, allowed]
        lines += [struct.pack("<HBBI", 0x15, 0, len(flags), NUMBERS["seccomp"][place]), *flags]
    return [*lines, struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid(wanted: dict[str, int]) -> None:
    """Have these system calls fail with these numbers, here and in everything that is started."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(_lines(wanted))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.byref(_Program(len(code) // 8, code)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "a filter on system calls")


if __name__ == "__main__":
    forbid({name: int(number) for name, _, number in (part.partition("=") for part in sys.argv[1].split(",") if part)})
    os.execvp(sys.argv[2], sys.argv[2:])
