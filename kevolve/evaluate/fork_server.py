"""The judge's handle on a fork server: start it, ask it for children, learn how they ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kevolve.evaluate.channel import Closed, Garbage, pair

_START_S = 120.0  # importing torch on a cold disk
_ANSWER_S = 30.0
_END_S = 5.0
_LOG_TAIL_BYTES = 4000
_BOOT = """
import sys
sys.path.append({root!r})
from kevolve.evaluate.server import main
main({fd}, {judge}, {target!r}, {language!r}, {sys_path!r})
"""


class ServerFailed(Exception):
    """A server could not be started: the environment is broken, not the candidate. The message has its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a process ended: ``status`` as ``os.wait`` gives it; -1 when its server died and nobody knows."""

    status: int
    max_rss_bytes: int = 0

    def describe(self) -> str:
        """For the candidate's author: the exit code or the signal, and what it most likely means."""
        if self.status == -1:
            return "its server died"
        if not os.WIFSIGNALED(self.status):
            return f"exited with code {os.waitstatus_to_exitcode(self.status)} without a result"
        number = os.WTERMSIG(self.status)
        return f"killed by {signal.Signals(number).name}{_HINTS.get(number, '')}"


_HINTS: dict[int, str] = {
    signal.SIGKILL: " (by the system: out of memory?)",
    signal.SIGXFSZ: " (wrote more than a file or the log may hold)",
    signal.SIGSYS: " (a system call that is not allowed)",
    signal.SIGSEGV: " (an access outside its memory)",
    signal.SIGBUS: " (an access outside its memory)",
    signal.SIGABRT: " (an abort: a corrupted heap or an uncaught exception)",
    signal.SIGFPE: " (an integer division by zero)",
    signal.SIGILL: " (an instruction that this processor lacks)",
}


class ForkServer:
    """One clean process; a thread of ours listens to it."""

    def __init__(self, *, target: str, language: str, environment: Mapping[str, str], sys_path: Sequence[str], log: Path) -> None:
        self.channel, theirs = pair()
        self._condition = threading.Condition()
        self._sending = threading.Lock()
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._ends: dict[int, End] = {}
        self._numbers = itertools.count()
        self.isolation: Mapping[str, Any] | None = None
        self.alive = True
        self.log = log
        self._process = _start(theirs, target=target, language=language, environment=environment, sys_path=sys_path, log=log)
        self.pid = self._process.pid
        threading.Thread(target=self._listen, name=f"kevolve-server-{self.pid}", daemon=True).start()

    def wait_ready(self) -> None:
        """Wait until it has imported what it must. Raises ``ServerFailed`` with its log."""
        with self._condition:
            self._condition.wait_for(lambda: self.isolation is not None or not self.alive, timeout=_START_S)
        if self.isolation is None:
            self.close()
            raise ServerFailed(f"the worker's server did not start:\n{tail(self.log.read_bytes())}")

    def _listen(self) -> None:
        while True:
            try:
                fields = self.channel.receive().fields
            except (Closed, Garbage, OSError):
                break
            with self._condition:
                self._note(fields)
                self._condition.notify_all()
        with self._condition:
            self.alive = False
            self._condition.notify_all()
        self._process.wait()

    def _note(self, fields: Mapping[str, Any]) -> None:
        event = fields["event"]
        if event == "ready":
            self.isolation = fields["isolation"]
        elif event == "exited":
            self._ends[fields["pid"]] = End(status=fields["status"], max_rss_bytes=fields["max_rss_kb"] * 1024)
        else:
            self._answers[fields["number"]] = fields

    def send(self, command: str, fds: Sequence[int] = (), **fields: Any) -> None:
        """Say something that has no answer."""
        with self._sending, contextlib.suppress(Closed):
            self.channel.send({"command": command, **fields}, fds)

    def ask(self, command: str, fds: Sequence[int] = (), **fields: Any) -> Mapping[str, Any]:
        """Ask and wait. Raises ``ServerFailed``."""
        number = next(self._numbers)
        self.send(command, fds, number=number, **fields)
        with self._condition:
            self._condition.wait_for(lambda: number in self._answers or not self.alive, timeout=_ANSWER_S)
            if number not in self._answers:
                raise ServerFailed(f"the worker's server did not answer {command!r}:\n{tail(self.log.read_bytes())}")
            return self._answers.pop(number)

    def end_of(self, pid: int, *, timeout_s: float) -> End | None:
        """How the child ended, waiting for it; None where it has not."""
        with self._condition:
            self._condition.wait_for(lambda: pid in self._ends or not self.alive, timeout=timeout_s)
            return self._ends.get(pid, None if self.alive else End(status=-1))

    def forget(self, pid: int) -> None:
        """Drop what is known of a child's end: its number may come again."""
        with self._condition:
            self._ends.pop(pid, None)

    def close(self) -> None:
        """The server sees the socket close, kills its children and ends."""
        with contextlib.suppress(OSError):
            self.channel.shutdown()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(
    theirs: socket.socket, *, target: str, language: str, environment: Mapping[str, str], sys_path: Sequence[str], log: Path
) -> subprocess.Popen[bytes]:
    import kevolve

    root = str(Path(kevolve.__file__).parents[1])
    code = _BOOT.format(root=root, fd=theirs.fileno(), judge=os.getpid(), target=target, language=language, sys_path=list(sys_path))
    with theirs, log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=dict(environment),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )


def tail(data: bytes) -> str:
    """The end of a log."""
    return data[-_LOG_TAIL_BYTES:].decode(errors="replace")
