"""The clean process that children are forked from: torch imported, single-threaded, no candidate, no secrets.

Started by ``client.Workers``; speaks over the socket whose descriptor is its first argument. It takes ``fork``, ``kill``,
``expect`` (a child will fork itself) and ``adopt`` (it did); it reports ``ready``, ``forked`` and ``exited``.
Orphans of dead children come to it (it is a subreaper) and are killed. It ends, and all with it, when the judge does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from kevolve.evaluate import landlock, sandbox
from kevolve.evaluate.channel import Channel, Closed, Garbage, Message, close_all

_SOCKET, _PROGRESS, _LOG = range(3)  # the order of a fork's descriptors


class Server:
    """The loop: requests from the judge, deaths of children."""

    def __init__(self, channel: Channel, judge: int) -> None:
        self._channel = channel
        self._judge = judge
        self._children: set[int] = set()
        self._expected = 0  # forks of children that are under way: their orphans are not to be killed
        self._wakeup, self._wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until the judge is gone, then kill every descendant."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        judge = os.pidfd_open(self._judge)
        try:
            while True:
                readable, _, _ = select.select([self._channel.fileno(), self._wakeup, judge], [], [])
                if judge in readable:
                    return
                if self._channel.fileno() in readable:
                    self._handle(self._channel.receive())
                if self._wakeup in readable:
                    os.read(self._wakeup, 4096)
                    self._reap()
        except (Closed, Garbage):
            return
        finally:
            kill_descendants()

    def _handle(self, message: Message) -> None:
        command = message.fields["command"]
        if command == "fork":
            self._fork(message)
        elif command == "kill":
            self._kill(int(message.fields["pid"]))
        elif command == "expect":
            self._expected += 1
            self._channel.send({"event": "expecting", "number": message.fields["number"]})
        elif command == "adopt":
            self._expected -= 1
            if message.fields["pid"] is not None:
                self._children.add(message.fields["pid"])

    def _fork(self, message: Message) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_child(message)
        close_all(message.fds)
        self._children.add(pid)
        self._channel.send({"event": "forked", "number": message.fields["number"], "pid": pid})

    def _become_child(self, message: Message) -> NoReturn:
        parent = os.getppid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGXFSZ, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        sandbox.die_with_parent(parent)
        _take_descriptors(message.fds)
        from kevolve.evaluate import worker

        worker.main(message.fields)

    def _kill(self, pid: int) -> None:
        if pid in self._children:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Report the dead; kill what they left behind."""
        died = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            died = True
            if pid in self._children or self._expected:
                self._children.discard(pid)
                self._channel.send({"event": "exited", "pid": pid, "status": status, "max_rss_kb": usage.ru_maxrss})
        if died and not self._expected:
            for pid in set(sandbox.children_of(os.getpid())) - self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _take_descriptors(fds: Sequence[int]) -> None:
    """Stand in, out and error on /dev/null and the log; the socket on 3, progress on 4; nothing else."""
    null = os.open("/dev/null", os.O_RDONLY)
    high = [os.dup2(fd, 100 + place) for place, fd in enumerate((null, fds[_LOG], fds[_LOG], fds[_SOCKET], fds[_PROGRESS]))]
    for place, fd in enumerate(high):
        os.dup2(fd, place, inheritable=place < 3)
    os.closerange(5, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def kill_descendants() -> None:
    """Kill every child, and as orphans come, their children."""
    while pids := sandbox.children_of(os.getpid()):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.wait4(-1, 0)


def prepare(target: str, language: str, sys_path: Sequence[str]) -> None:
    """Import what every child needs, from the interpreter's own path; only then may the judge's path be searched.

    A language names modules of its own in an attribute ``preload``. Raises ``registry.UnknownName`` for a target that is not
    registered here: that the judge knows it and its children would not is no candidate's fault.
    """
    import torch

    from kevolve import registry

    for name in ("worker", "timed"):  # once here instead of in every child
        importlib.import_module(f"kevolve.evaluate.{name}")
    if language in registry.names("languages"):
        for name in getattr(registry.load("languages", language), "preload", ()):
            importlib.import_module(name)
    torch.autograd.set_multithreading_enabled(False)
    own = [path for path in sys.path if path not in sys_path]
    sys.path[:] = [*sys_path, *own]
    registry.refresh()
    registry.load("targets", target)
    landlock.look()
    gc.collect()
    gc.freeze()


def main(fd: int, judge: int, target: str, language: str, sys_path: Sequence[str]) -> None:
    """Serve on the socket ``fd`` until the process ``judge`` ends."""
    channel = Channel(socket.socket(fileno=fd))
    os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the judge's to answer
    isolation: Mapping[str, Any] = {"network": sandbox.leave_network(), "orphans": sandbox.adopt_orphans()}
    prepare(target, language, sys_path)
    channel.send({"event": "ready", "pid": os.getpid(), "isolation": isolation})
    Server(channel, judge).run()
