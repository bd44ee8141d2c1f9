"""Each confinement alone, in a process of its own."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kevolve.evaluate import landlock, sandbox, seccomp
from kevolve.evaluate.client import Child
from kevolve.evaluate.sandbox import Limits

PRELUDE = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading
from pathlib import Path
from kevolve.evaluate import sandbox
scratch, home = Path(sys.argv[1]), Path(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
def refuse(): raise PermissionError
sandbox.begin(sandbox.Limits(memory_bytes=1 << 30), address_space=True)
had = sandbox.confine(sandbox.Limits(file_bytes=1 << 20), scratch=scratch).had
"""
WITH_PROGRAMS = PRELUDE.replace("scratch=scratch)", "scratch=scratch, programs=True)")


def confined(tmp_path: Path, code: str, prelude: str = PRELUDE) -> subprocess.CompletedProcess[str]:
    """``home``: a folder with a key, as a user has one."""
    scratch, home = tmp_path / "scratch", tmp_path / "home"
    for folder in (scratch, home):
        folder.mkdir(exist_ok=True)
    (home / "id_ed25519").write_text("secret")
    command = [sys.executable, "-c", prelude + code, str(scratch), str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def refused(tmp_path: Path, code: str) -> str:
    """The name of the exception that ``code`` ends with."""
    return confined(tmp_path, code).stderr.strip().splitlines()[-1].partition(":")[0]


@pytest.fixture(scope="session", autouse=True)
def _filter(tmp_path_factory: pytest.TempPathFactory) -> None:
    result = confined(tmp_path_factory.mktemp("scratch"), "print(had['system_calls'], had['files'], sep='|')")
    if result.stdout.strip() != f"{seccomp.ALONE}; threads and processes are counted afterwards|{landlock.CONFINED}":
        pytest.skip(f"this kernel confines less: {result.stdout}{result.stderr}")


@pytest.mark.parametrize(
    "code",
    [
        "os.fork()",
        "subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "socket.socket()",
        "socket.socketpair()",
        "os.kill(os.getppid(), signal.SIGTERM)",
        "os.killpg(0, signal.SIGTERM)",
        "os.setsid()",
        "open('/tmp/kevolve-planted', 'w')",
        "os.mkdir('/tmp/kevolve-planted')",
        "os.truncate(__import__('kevolve').__file__, 0)",
        "os.unlink(__import__('kevolve').__file__)",
        "open(f'/proc/{os.getppid()}/mem', 'rb')",
        "open(f'/proc/{os.getppid()}/environ', 'rb')",
        "(home / 'id_ed25519').read_text()",
        "os.listdir(home)",
        "open(f'/proc/{os.getppid()}/cwd/pyproject.toml')",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.sched_setaffinity(os.getppid(), {0})",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "libc.unshare(0x10000000) == 0 or refuse()",
        "libc.mount(b'none', bytes(scratch), b'tmpfs', 0, None) == 0 or refuse()",
    ],
)
def test_an_untrusted_process_may_not(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code) == "PermissionError"


@pytest.mark.parametrize(
    "code",
    [
        "(scratch / 'file').write_text('x'); (scratch / 'folder').mkdir(); (scratch / 'file').rename(scratch / 'folder' / 'moved')",
        "thread = threading.Thread(target=print); thread.start(); thread.join()",
        "open('/dev/null', 'w').write('x')",
        "os.kill(os.getpid(), 0)",
        "os.sched_setaffinity(0, os.sched_getaffinity(0))",
        "Path('/proc/self/status').read_text()",
        "b = bytearray(256 << 20)",
    ],
)
def test_an_untrusted_process_may(tmp_path: Path, code: str) -> None:
    result = confined(tmp_path, code)
    assert (result.returncode, result.stderr) == (0, "")


def test_more_memory_than_the_limit_is_a_memory_error(tmp_path: Path) -> None:
    assert refused(tmp_path, "b = bytearray(50 << 30)") == "MemoryError"


def test_a_larger_file_than_the_limit_is_an_error(tmp_path: Path) -> None:
    assert refused(tmp_path, "(scratch / 'file').write_bytes(bytes(2 << 20))") == "OSError"


def test_a_limit_is_not_raised_again_by_root_either(tmp_path: Path) -> None:
    code = "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))"
    assert "not allowed to raise maximum limit" in confined(tmp_path, code).stderr


def test_an_abort_is_still_an_abort(tmp_path: Path) -> None:
    assert confined(tmp_path, "os.abort()").returncode == -6


def test_a_target_that_starts_programs_gets_the_limits_only(tmp_path: Path) -> None:
    code = "from kevolve.evaluate import sandbox; from pathlib import Path; import os\n"
    code += "sandbox.begin(sandbox.Limits(), address_space=False)\n"
    code += "had = sandbox.confine(sandbox.Limits(), scratch=Path('.'), programs=True, devices=None).had\n"
    code += "print(had['files']); print(os.system('true'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.splitlines() == ["not confined: the target does not say which devices it writes to", "0"]


@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
        "socket.socket(socket.AF_UNIX).bind(str(scratch / 'socket'))",
        "(home / 'id_ed25519').read_text()",
        "(scratch / 'own').write_text('#!/bin/sh'); (scratch / 'own').chmod(0o700); os.execv(scratch / 'own', ['own'])",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.sched_setaffinity(os.getppid(), {0})",
        "libc.unshare(0x10000000) == 0 or refuse()",
        "libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) >= 0 or refuse()",
        "os.kill(os.getppid(), signal.SIGCONT)",
    ],
)
def test_one_that_may_start_programs_may_still_not(tmp_path: Path, code: str) -> None:
    if "SIGCONT" in code and landlock.version() < 6:
        pytest.skip("Landlock keeps signals from version 6 on")
    if "syscall(56" in code and platform.machine() != "x86_64":
        pytest.skip("the number of clone on x86_64")
    code = f"import signal; signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n{code}"
    result = confined(tmp_path, code, WITH_PROGRAMS)
    assert result.stderr.strip().splitlines()[-1].partition(":")[0] == "PermissionError"


def test_a_compiler_in_the_child_works(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    code = f"""
(scratch / "one.cpp").write_text("#include <vector>\\nint one() {{ return std::vector<int>(1).size(); }}")
os.environ["TMPDIR"] = str(scratch)
subprocess.run([{compiler!r}, "-shared", "-fPIC", scratch / "one.cpp", "-o", scratch / "one.so"], check=True)
print(ctypes.CDLL(str(scratch / "one.so"))._Z3onev())
"""
    result = confined(tmp_path, code, WITH_PROGRAMS)
    assert (result.stdout, result.stderr) == ("1\n", "")


def test_threads_that_were_there_before_are_filtered_too(tmp_path: Path) -> None:
    before = """
import queue
asked, answered = queue.Queue(), queue.Queue()
def old():
    asked.get()
    try: answered.put(str(socket.socket()))
    except PermissionError: answered.put("refused")
import socket, threading
threading.Thread(target=old, daemon=True).start()
"""
    result = confined(tmp_path, "asked.put(0); print(answered.get())", before + PRELUDE)
    assert (result.stdout, result.stderr) == ("refused\n", "")


def test_devices_are_named_by_patterns_and_are_no_disks(tmp_path: Path) -> None:
    everything = list(landlock._nodes([Path("/dev")]))
    assert Path("/dev/shm") in everything
    assert not [path for path in everything if path.is_block_device()]
    assert list(landlock._nodes([tmp_path, tmp_path / "none"])) == [tmp_path]
    assert list(landlock._nodes([Path("/dev/nul*")])) == [Path("/dev/null")]


def test_what_is_read_names_no_home_and_no_run(tmp_path: Path) -> None:
    found = [str(path) for path in landlock.readable({"HOME": str(tmp_path), "LD_LIBRARY_PATH": "/somewhere/lib:relative"})]
    assert "/somewhere/lib" in found
    assert not {"/", "/home", "/root", "/tmp", "/var", "/etc", "/run", str(tmp_path)} & set(found)


@pytest.mark.parametrize(
    ("isolation", "level", "lacking"),
    [
        ({}, "full", set()),
        ({"network": "shared: no"}, "full", set()),  # sockets are refused
        ({"system_calls": seccomp.WITH_PROGRAMS}, "full", set()),
        ({"system_calls": seccomp.ALONE + seccomp._UNCOUNTED}, "partial", {"system_calls"}),
        ({"system_calls": "not filtered: no"}, "partial", {"system_calls"}),
        ({"system_calls": "not filtered: no", "network": "shared: no"}, "partial", {"system_calls", "network"}),
        ({"files": "not confined: no"}, "partial", {"files"}),
        ({"capabilities": "kept: no"}, "partial", {"capabilities"}),
        ({"files": "not confined: no", "system_calls": "not filtered: no"}, "none", {"files", "system_calls"}),
    ],
)
def test_levels_by_what_was_had(isolation: dict[str, str], level: str, lacking: set[str]) -> None:
    had = {"network": "namespace", "files": landlock.CONFINED, "system_calls": seccomp.ALONE, "capabilities": "none", **isolation}
    assert (sandbox.level(had), set(sandbox.missing(had))) == (level, lacking)


def test_limits_go_through_a_message() -> None:
    limits = Limits(memory_bytes=5, file_bytes=6, disk_bytes=9, processes=7, threads=10, open_files=8)
    assert sandbox.from_json(limits.to_json()) == limits


def test_a_child_may_use_half_of_the_free_memory_and_16_gib_at_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((8 << 30, 4 << 30), (100 << 30, 16 << 30)):
        monkeypatch.setattr("psutil.virtual_memory", lambda available=available: SimpleNamespace(available=available))
        assert Limits().memory_bytes == expected


def test_children_end_first_when_memory_runs_out(child: Child) -> None:
    code = "from pathlib import Path; own = Path('/proc/self/oom_score_adj'); own.write_text('500'); print(own.read_text().strip())"
    if subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False).stdout != "500\n":
        pytest.skip("this system lets no process raise its own oom_score_adj")
    assert int(Path(f"/proc/{child.pid}/oom_score_adj").read_text()) == 500
