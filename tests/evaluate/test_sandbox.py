"""Each confinement alone, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kevolve.evaluate import sandbox
from kevolve.evaluate.client import Child
from kevolve.evaluate.sandbox import Limits

PRELUDE = """
import ctypes, os, signal, socket, subprocess, sys, threading
from pathlib import Path
from kevolve.evaluate import sandbox
scratch = Path(sys.argv[1])
sandbox.begin(sandbox.Limits(memory_bytes=1 << 30), address_space=True)
had = sandbox.confine(sandbox.Limits(file_bytes=1 << 20), scratch=scratch)
"""
FILTERED = "no programs, processes, sockets, tracing or signals to others"


def confined(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PRELUDE + code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)


def refused(tmp_path: Path, code: str) -> str:
    """The name of the exception that ``code`` ends with."""
    return confined(tmp_path, code).stderr.strip().splitlines()[-1].partition(":")[0]


@pytest.fixture(scope="session", autouse=True)
def _filter(tmp_path_factory: pytest.TempPathFactory) -> None:
    result = confined(tmp_path_factory.mktemp("scratch"), "print(had['system_calls'], had['files'], sep='|')")
    if result.stdout.strip() != f"{FILTERED}|read-only outside the scratch directory":
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
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.sched_setaffinity(os.getppid(), {0})",
        "__import__('resource').prlimit(os.getppid(), __import__('resource').RLIMIT_CPU, (1, 1))",
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


def test_an_abort_is_still_an_abort(tmp_path: Path) -> None:
    assert confined(tmp_path, "os.abort()").returncode == -6


def test_a_target_that_starts_programs_gets_the_limits_only(tmp_path: Path) -> None:
    code = "from kevolve.evaluate import sandbox; from pathlib import Path; import os\n"
    code += "had = sandbox.confine(sandbox.Limits(), scratch=Path('.'), programs=True); print(had['files']); print(os.system('true'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.splitlines() == ["not confined: the target starts programs", "0"]


def test_limits_go_through_a_message() -> None:
    limits = Limits(memory_bytes=5, file_bytes=6, processes=7, open_files=8)
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
