"""Which files an untrusted process may read, run and write: Landlock (Linux 5.13 and later), on what it starts too.

Reading: the system's libraries and programs, the interpreter's folders, packages that are imported already, the candidate's own files. Not
the user's home, other runs, the store, keys; nor the environment and memory of processes outside (Landlock counts that as tracing).
Writing: the scratch folder, and a target's devices.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

CONFINED = "the system's and the interpreter's are read, the scratch directory is written to, nothing else"

_libc = ctypes.CDLL(None, use_errno=True)

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_READS = _EXECUTE | _READ_FILE | _READ_DIR
_WRITES = 0x1FFF & ~_READS  # write, remove and make files of every kind
_WRITES_SINCE = ((2, 1 << 13), (3, 1 << 14))  # (version of the interface, right): link across folders, truncate
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14  # what a rule for a file may name
_RULE_PATH_BENEATH = 1
_SIGNALS_STAY, _SIGNALS_SINCE = 2, 6  # no signal leaves the processes that are confined together
_EVERY_THREAD, EVERY_THREAD_SINCE = 1 << 3, 8

_SYSTEM = "/usr /lib /lib32 /lib64 /bin /sbin /opt /nix/store /gnu/store /proc /sys/devices /sys/fs/cgroup /sys/bus /sys/class /sys/module"
_SETTINGS = """
    ld.so.cache ld.so.conf ld.so.conf.d ld.so.preload localtime timezone nsswitch.conf passwd group alternatives
    OpenCL vulkan ssl/openssl.cnf
"""
_DEVICES = "/dev/null /dev/zero /dev/full /dev/random /dev/urandom"
_found_before: list[Path] = []  # in a server and its children
_UNREAD = ("HOME", "TMPDIR", "PWD", "TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def version() -> int:
    """The version of Landlock's interface, 0 where the kernel has none or a container forbids it."""
    return max(0, int(_libc.syscall(444, None, ctypes.c_size_t(0), 1)))


def confine_files(scratch: Path, *, own: Sequence[Path] = (), devices: Sequence[Path] = ()) -> str:
    """Confine this thread and what it starts; every thread from version 8 on.

    ``own``: the candidate's files. ``devices``: files, folders or patterns of them that may be written to besides ``scratch``. What was
    had: ``CONFINED``, or why not.
    """
    found = version()
    writes = _WRITES | sum(right for since, right in _WRITES_SINCE if found >= since)
    handled = _READS | writes
    ruleset = _ruleset(handled, _SIGNALS_STAY if found >= _SIGNALS_SINCE else 0, found)
    if ruleset < 0:
        return f"not confined: Landlock: {os.strerror(ctypes.get_errno())}"
    _allow(ruleset, scratch, handled & ~_EXECUTE)
    for path in _found_before or readable(os.environ):
        _allow(ruleset, path, _READS)
    for path in own:
        _allow(ruleset, path.parent, _READ_DIR)
        for each in path.parent.glob(f"{path.stem}.*"):
            _allow(ruleset, each, _READ_FILE)
    for path in (*map(Path, _DEVICES.split()), *_nodes(devices)):
        _allow(ruleset, path, _READ_FILE | _READ_DIR | writes)
    reason = _restrict(ruleset, found)
    os.close(ruleset)
    return CONFINED if reason is None else f"not confined: Landlock: {reason}"


def look() -> None:
    """Find what may be read now, in the clean server: children forked from it need not, which would take a tenth of a second each."""
    _found_before[:] = readable(os.environ)


def _ruleset(handled: int, scoped: int, found: int) -> int:
    rules = struct.pack("<QQQ", handled, 0, scoped) if found >= _SIGNALS_SINCE else struct.pack("<Q", handled)
    return int(_libc.syscall(444, rules, ctypes.c_size_t(len(rules)), 0))


def _restrict(ruleset: int, found: int) -> str | None:
    every = _EVERY_THREAD if found >= EVERY_THREAD_SINCE else 0
    if every and _libc.syscall(446, ruleset, every) == 0:
        return None
    return None if _libc.syscall(446, ruleset, 0) == 0 else os.strerror(ctypes.get_errno())


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Allow ``rights`` below a folder, of them what there is of a file to a file; nothing where there is no such path."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = rights if stat.S_ISDIR(os.fstat(fd).st_mode) else rights & _OF_FILES
        _libc.syscall(445, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", allowed, fd), 0)
        os.close(fd)


def _nodes(devices: Iterable[Path]) -> Iterator[Path]:
    """What patterns of paths stand for; of ``/dev`` itself what is no disk."""
    for path in devices:
        found = path.iterdir() if path == Path("/dev") else Path("/").glob(str(path).lstrip("/"))
        yield from (each for each in found if not each.is_block_device())


def readable(environment: Mapping[str, str]) -> list[Path]:
    """Folders and files that a process which runs kernels reads, none of them below another."""
    wanted = {Path(name) for name in _SYSTEM.split()} | {Path("/etc", name) for name in _SETTINGS.split()}
    wanted |= {Path(prefix) for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)}
    sites = {Path(path) for path in sys.path if _holds_packages(Path(path))}
    wanted |= sites | {linked for site in sites for linked in _linked(site)}
    wanted |= set(_named(environment)) | set(_imported()) | set(_mapped())
    kept: list[Path] = []
    for path in sorted({path.resolve() for path in wanted}, key=lambda path: len(path.parts)):  # what is allowed is what a link leads to
        if path != Path("/") and not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _named(environment: Mapping[str, str]) -> Iterator[Path]:
    """Paths in what the target put into the environment: a toolkit, a driver's folder."""
    for name, value in environment.items():
        if name not in _UNREAD and name != "PATH":
            yield from (Path(part) for part in value.split(":") if part.startswith("/"))


def _holds_packages(path: Path) -> bool:
    """Whether packages were installed there: into an environment, or with ``pip install --target``."""
    return path.name in ("site-packages", "dist-packages") or next(path.glob("*.dist-info"), None) is not None


def _linked(site: Path) -> Iterator[Path]:
    """What installed packages link to elsewhere: each as a whole (Nix, Bazel), or each of their files (``uv --link-mode symlink``)."""
    for entry in site.iterdir() if site.is_dir() else ():
        inside = entry / "__init__.py"
        if entry.is_symlink():
            yield entry
        elif inside.is_symlink():
            yield inside.resolve().parent


def _imported() -> Iterator[Path]:
    """Packages and modules that the clean server imported: of a package its folder."""
    for name, module in list(sys.modules.items()):
        if "." not in name and name != "__main__":
            folders = [str(path) for path in getattr(module, "__path__", ())]
            file = getattr(module, "__file__", None)
            yield from map(Path, folders or ([file] if isinstance(file, str) else []))


def _mapped() -> Iterator[Path]:
    """Libraries that are loaded, wherever the loader found them."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if path and ".so" in path:
            yield Path("/" + path)
