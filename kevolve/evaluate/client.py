"""The judge's side of its children: fork one, ask it, watch it, end it. Nothing a child says is trusted."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kevolve.evaluate import landlock, sandbox, usage
from kevolve.evaluate.channel import Closed, Garbage, Message, close_all
from kevolve.evaluate.deadline import Deadline
from kevolve.evaluate.fork_server import End, ForkServer, ServerFailed, tail
from kevolve.evaluate.hold import Holds
from kevolve.evaluate.outcome import Status
from kevolve.evaluate.parts import Parts
from kevolve.evaluate.quiet import Quiet
from kevolve.evaluate.sandbox import Limits
from kevolve.evaluate.seccomp import Listener

if TYPE_CHECKING:
    from kevolve.targets import Target

__all__ = ["Child", "ChildFailed", "Limits", "Reply", "ServerFailed", "Workers"]

_FORK_S = 30.0
_END_S = 5.0
_FIRST_S = 0.002  # most answers come at once, and a first look at the child costs more than they do
_WATCH_S = 0.05  # how often a child's memory is looked at: sixteen children at once must not cost the judge a core
_UNWATCHED_S = 0.25  # of a call that the judge times: a look at a thousand files takes longer than many of them
_LOOKS_SHARE = 0.1  # of its time, at the most, the judge spends on looks at all children together
_APART_S = 0.25  # but for the sake of many others no child goes unwatched for longer
_COUNT_EVERY = 2  # so many looks, and its processes, threads and files are counted
_MAKING_S = 0.2  # within which a process that was allowed is there to be counted, also on a busy machine
_TIMED = "time_"
_CONFINING = ("load_candidate", "confine", "ahead")  # commands after which a child is an untrusted one's
_GIB = 1 << 30
_PROGRESS = struct.Struct("<q")
_MOST_KEPT = 20  # trusted processes: each holds a device's context and a case's inputs


class ChildFailed(Exception):
    """A child did not answer as it should: the candidate raised, crashed, took too much or too long.

    ``status``: RUNTIME_ERROR or TIMEOUT. ``log``: the tail of what it printed. ``progress``: the index of the last item it had
    begun, or None.
    """

    def __init__(self, status: Status, message: str, *, log: str = "", progress: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.log = log
        self.progress = progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A child's answer: untrusted fields, and descriptors that the receiver closes."""

    fields: Mapping[str, Any]
    fds: tuple[int, ...] = ()


class Workers:
    """Servers by environment, and the children forked from them. Thread-safe.

    ``sys_path``: where references and targets are imported from (pytest's ``sys.path``). ``scratch``: a folder of this run.
    ``cache``: where torch.compile keeps what it made for references; None: in ``scratch``. ``strict``: a candidate that cannot be fully
    confined is not loaded.
    """

    def __init__(
        self, *, sys_path: Sequence[str], scratch: Path, limits: Limits | None = None, cache: Path | None = None, strict: bool = False
    ) -> None:
        self._sys_path = [str(Path(path).resolve()) for path in sys_path if path]
        self._scratch = scratch.resolve()
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._compile_cache = (cache.resolve() if cache else self._scratch) / "inductor"
        self.limits = limits or Limits()
        self._strict = strict
        self._servers: dict[tuple[Any, ...], ForkServer] = {}
        self._children: set[Child] = set()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._kept: dict[tuple[str, ...], Child] = {}
        self._making: dict[tuple[str, ...], threading.Lock] = {}
        self.holds = Holds()
        self.quiet = Quiet()
        self.referees = threading.Lock()  # one judgement on a device at a time
        # Thousands of small tensors are compared a candidate: sixteen threads at it hand Python's lock around and take thrice the time.
        self.judging = threading.Lock()
        self.forks = threading.Lock()  # of the process that has imported the compiler
        self.uncaptured: dict[tuple[str, ...], dict[str, str]] = {}  # by case: baselines whose calls cannot be captured, and why
        if not landlock.version():
            sandbox.hide_memory()  # Landlock would keep children from it; see sandbox

    def child(self, *, target: Target, language: str) -> Child:
        """Fork a child for one candidate from the server of this target and language, started when needed.

        Raises ``ServerFailed`` when the environment cannot run a server at all.
        """
        environment = self.environment(target, language)
        for _ in range(2):  # a server that died since it was last used is replaced once
            server = self._server(target, language, environment)
            with contextlib.suppress(ServerFailed):
                return self._fork(server, target)
        raise ServerFailed(f"the worker's server died twice:\n{tail(server.log.read_bytes())}")

    def kept(self, key: tuple[str, ...], make: Callable[[], Child]) -> Child:
        """A trusted process that serves many candidates: made when there is none that lives; those unused for longest make room."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            found = self._kept.get(key)
            if found is None or found.closed:
                found = make()
            with self._lock:
                self._kept.pop(key, None)
                self._kept[key] = found
                idle = [each for each, child in self._kept.items() if child is not found and not child.lent.locked()]
                oldest = [self._kept.pop(each) for each in idle[: max(0, len(self._kept) - _MOST_KEPT)]]
        for child in oldest:
            child.close()
        return found

    @property
    def has_room(self) -> bool:
        """Whether a kept process that could be done without takes no other's place."""
        return len(self._kept) < _MOST_KEPT // 2

    @contextlib.contextmanager
    def alone(self, target: Target, timed: Sequence[Child]) -> Iterator[None]:
        """The target's device alone, for calls of ``timed``; and the host, where other work has its cores."""
        with self.holds.alone(target), contextlib.nullcontext() if target.shares_cores else self.quiet.during(timed):
            yield

    def isolation(self, *, target: Target, language: str) -> dict[str, Any]:
        """What confines an untrusted candidate here, by name, as the system answered when asked for it, and ``level`` of it all."""
        with self.child(target=target, language=language) as child:
            confined = child.call("confine", deadline_s=_FORK_S, probe=True).fields["isolation"]
        server = self._server(target, language, self.environment(target, language))
        had = {**(server.isolation or {}), **confined}
        return {"level": sandbox.level(had), **had}

    def close(self) -> None:
        """End every server and its children."""
        with self._lock:
            servers, children = list(self._servers.values()), list(self._children)
            self._servers.clear()
        for child in children:
            child.close()
        for server in servers:
            server.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def opened(self, child: Child) -> None:
        """Remember a child, so that ``close`` ends it."""
        with self._lock:
            self._children.add(child)

    def ended(self, child: Child) -> None:
        """Forget a child."""
        with self._lock:
            self._children.discard(child)

    def folder(self) -> Path:
        """A new scratch directory for one child."""
        path = self._scratch / f"child-{os.getpid()}-{next(self._numbers)}"
        path.mkdir()
        return path

    @property
    def sys_path(self) -> list[str]:
        """Where references and targets are imported from."""
        return list(self._sys_path)

    def environment(self, target: Target, language: str) -> dict[str, str]:
        """What a process of this target and language has in its environment, and nothing else of ours."""
        clean = {"PATH": os.defpath, "HOME": str(self._scratch), "LANG": "C.UTF-8", "USER": "kevolve"}
        clean["TORCHINDUCTOR_CACHE_DIR"] = str(self._compile_cache)
        return clean | dict(target.environment(language))

    def confinement(self, target: Target) -> dict[str, Any]:
        """What a child of this target may do, as its ``fields`` say it."""
        return {
            "limits": self.limits.to_json(),
            "address_space": getattr(target, "limits_address_space", True),
            "programs": getattr(target, "starts_programs", False),
            "writes": getattr(target, "writes", None),
            "strict": self._strict,
        }

    def _server(self, target: Target, language: str, environment: Mapping[str, str]) -> ForkServer:
        key = (target.name, language, *sorted(environment.items()))
        with self._lock:
            server = self._servers.get(key)
            if server is None or not server.alive:
                log = self._scratch / f"server-{os.getpid()}-{next(self._numbers)}.log"
                server = ForkServer(target=target.name, language=language, environment=environment, sys_path=self._sys_path, log=log)
                self._servers[key] = server
        server.wait_ready()
        return server

    def _fork(self, server: ForkServer, target: Target) -> Child:
        parts = Parts(self.folder())
        network = (server.isolation or {}).get("network", "unknown")
        fields = {"scratch": str(parts.folder), "server": server.pid, "network": network, **self.confinement(target)}
        try:
            pid = server.ask("fork", parts.theirs, **fields)["pid"]
        except ServerFailed:
            parts.drop()
            raise
        return Child(self, server, int(pid), parts)


class Child:
    """One forked process. One call at a time; a context manager that leaves no process and no folder behind."""

    def __init__(self, workers: Workers, server: ForkServer, pid: int, parts: Parts) -> None:
        self.pid = pid
        self._workers = workers
        self._server = server
        self._parts = parts
        self._closed = False
        self._pausing, self._pauses = threading.Lock(), 0
        self.lent = threading.Lock()  # held by the measurement that a kept process serves
        self.served = 0  # such measurements
        self._end: End | None = None
        self._base_bytes: int | None = None
        self._confined = False
        self._listener: Listener | None = None
        # Threads that were let make another or a process: when, and whether a process; it may not be seen yet.
        self._making: dict[int, tuple[float, bool]] = {}
        self._ours = {_identity(parts.progress_fd), _identity(parts.log_fd)}  # files that it holds and did not make
        parts.handed_over()
        workers.opened(self)

    @property
    def closed(self) -> bool:
        """Whether it has been ended, or has ended itself."""
        return self._closed or self._server.end_of(self.pid, timeout_s=0) is not None

    @property
    def max_rss_bytes(self) -> int | None:
        """The most memory it had resident, once it has ended."""
        return self._end.max_rss_bytes if self._end else None

    def call(self, command: str, *, deadline_s: float | tuple[float, float], fds: Sequence[int] = (), **arguments: Any) -> Reply:
        """Ask and wait. ``arguments`` are JSON; an output arena is the last of ``fds``. ``deadline_s``: in all; or at an item, and in all.

        Raises ``ChildFailed``; after a crash, a kill or a time-out every further call raises it too.
        """
        if self._closed:
            raise ChildFailed(Status.RUNTIME_ERROR, f"was ended before {command!r}")
        with self._workers.quiet.calling(self) as stopped_s:
            return self._asked(command, partial(Deadline, deadline_s, self._reached, stopped_s), fds, arguments)

    def _asked(self, command: str, begin: Callable[[], Deadline], fds: Sequence[int], arguments: Mapping[str, Any]) -> Reply:
        self._confined |= command in _CONFINING
        self._ours.update(map(_identity, fds))
        for offset in (0, _PROGRESS.size):
            _PROGRESS.pack_into(self._parts.progress, offset, -1)
        deadline = begin()
        try:
            self._parts.channel.send({"command": command, **arguments}, fds, timeout_s=deadline.item_s)
            first_s = _UNWATCHED_S if command.startswith(_TIMED) else _FIRST_S
            while (message := self._receive(deadline, first_s)).fields.keys() & {"grow", "listen"}:
                if "grow" in message.fields:
                    self._grow(message.fields["grow"], fds)
                else:
                    self._listen(message.fds)
        except TimeoutError:
            self.kill()
            raise self._failed(deadline.missed(command), Status.TIMEOUT) from None
        except Closed:
            raise self._failed(self._why_closed()) from None
        except Garbage as error:
            self.kill()
            raise self._failed(f"answered {command!r} with something that is no message: {error}") from None
        if "error" in message.fields:
            close_all(message.fds)
            raise self._failed(_raised(message.fields["error"]))
        return Reply(fields=message.fields, fds=message.fds)

    def fork(self, *, deadline_s: float = _FORK_S) -> Child:
        """A copy of this child as it is now, with a folder and a conversation of its own. Not for a confined candidate."""
        parts = Parts(self._workers.folder())
        self._server.ask("expect")
        pid = None
        try:
            pid = int(self.call("fork", deadline_s=deadline_s, fds=parts.theirs, scratch=str(parts.folder)).fields["pid"])
        except (ChildFailed, KeyError, TypeError, ValueError):
            parts.drop()
            raise
        finally:
            self._server.send("adopt", pid=pid)
        return Child(self._workers, self._server, pid, parts)

    def kill(self) -> None:
        """End it and its process group now; a no-op when it has ended."""
        if self._end is None:
            self._server.send("kill", pid=self.pid)
            self._end = self._server.end_of(self.pid, timeout_s=_END_S)

    def pause(self) -> None:
        """Stop it and what it started where they are, until every ``pause`` has its ``resume``. What it began on a device ends."""
        self._stop(1, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._stop(-1, signal.SIGCONT)

    def _stop(self, change: int, number: signal.Signals) -> None:
        with self._pausing:
            before, self._pauses = self._pauses, self._pauses + change
            if 0 in (before, self._pauses) and self._end is None:
                for send in (os.killpg, os.kill):  # a fork that is under way leads no group yet
                    with contextlib.suppress(ProcessLookupError):
                        send(self.pid, number)

    def close(self) -> None:
        """Kill it, and remove its folder."""
        if not self._closed:
            self._closed = True
            self.kill()
            self._server.forget(self.pid)
            self._workers.ended(self)
            self._stop_listening()
            self._parts.drop()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, deadline: Callable[[], float], first_s: float) -> Message:
        """The next message, looking after the child meanwhile, for the first time after ``first_s`` seconds."""
        channel = self._parts.channel.fileno()
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        if self._listener is not None:
            poll.register(self._listener, select.POLLIN)
        looked, looks, wait_s = time.monotonic(), 0, first_s
        while channel not in (ready := [fd for fd, _ in poll.poll(1000 * max(0.0, min(looked + wait_s, deadline()) - time.monotonic()))]):
            now = time.monotonic()
            if now >= deadline():
                raise TimeoutError
            if ready and not self._allow():
                poll.unregister(ready[0])
            if now >= looked + wait_s:
                self._watch(count=looks % _COUNT_EVERY == 0)
                looked, looks = time.monotonic(), looks + 1
                wait_s = _until_next_look(looked - now, self._workers.quiet.calls)
        return self._parts.channel.receive(timeout_s=max(0.001, deadline() - time.monotonic()))

    def _watch(self, *, count: bool) -> None:
        """The second line behind the limits that the child put on itself. ``count``: its processes, threads and files too."""
        resident = usage.resident_bytes(self.pid)
        if self._base_bytes is None:
            self._base_bytes = min(resident, _GIB)
        limits = self._workers.limits
        if resident - self._base_bytes > limits.memory_bytes:
            self._end_for(f"out of memory: {resident / _GIB:.1f} GiB resident, the limit is {limits.memory_bytes / _GIB:g} GiB")
        if count:
            self._count(limits)
        if self._server.end_of(self.pid, timeout_s=0) is not None:
            raise Closed("ended, and something else holds its socket")

    def _count(self, limits: Limits) -> None:
        processes = usage.descendants(self.pid)
        if len(processes) > limits.processes:
            self._end_for(f"made {len(processes)} processes, the limit is {limits.processes}")
        if not self._confined:
            return
        threads = usage.threads((self.pid, *processes))
        if threads > limits.threads:
            self._end_for(f"made {threads} threads, the limit is {limits.threads}")
        stored = usage.stored_bytes(self.pid, self._parts.folder, self._ours)
        if stored is None:
            self._end_for(f"made more than {usage.MOST_FILES} files")
        elif stored > limits.disk_bytes:
            self._end_for(f"wrote {stored / _GIB:.1f} GiB to files, the limit is {limits.disk_bytes / _GIB:g} GiB")

    def _end_for(self, problem: str) -> NoReturn:
        self.kill()
        raise self._failed(problem)

    def _listen(self, fds: tuple[int, ...]) -> None:
        """From now on its new threads and processes wait for us. It says so before it loads a candidate; once."""
        if self._listener is not None or len(fds) != 1:
            close_all(fds)
            raise Garbage("asked to be listened to for a second time")
        self._listener = Listener(fds[0])

    def _allow(self) -> bool:
        """Let the child have another thread or process, or end it where there are too many. False: there is nothing to listen to."""
        assert self._listener is not None
        problem = ""

        def allowed(thread: int, process: bool) -> bool:
            nonlocal problem
            problem = self._too_many(thread, process)
            return not problem

        try:
            self._listener.answer(allowed)
        except OSError:  # all who could ask have ended, or it was no listener
            self._stop_listening()
            return False
        if problem:
            self._end_for(problem)
        return True

    def _too_many(self, thread: int, process: bool) -> str:
        """What there is too much of for ``thread`` to make another; empty where it may. What it makes is counted until it shows."""
        now, limits = time.monotonic(), self._workers.limits
        self._making = {other: made for other, made in self._making.items() if other != thread and now - made[0] < _MAKING_S}
        alive = usage.descendants(self.pid)
        processes = len(alive) + sum(forking for _, forking in self._making.values())
        threads = usage.threads((self.pid, *alive)) + len(self._making)
        self._making[thread] = (now, process)
        if process and processes >= limits.processes:
            return f"made {limits.processes} processes, the limit is {limits.processes}, and began another"
        return f"made {limits.threads} threads, the limit is {limits.threads}, and began another" if threads >= limits.threads else ""

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _grow(self, size: Any, fds: Sequence[int]) -> None:
        """Make the output arena larger, as far as the limit allows: only the judge changes its size."""
        if not fds or type(size) is not int or not 0 < size <= self._workers.limits.memory_bytes:
            raise Garbage(f"asked for an output arena of {size!r:.40} bytes, the limit is {self._workers.limits.memory_bytes}")
        if size > os.fstat(fds[-1]).st_size:
            os.ftruncate(fds[-1], size)
        self._parts.channel.send({"grown": size}, timeout_s=_END_S)

    def _why_closed(self) -> str:
        self._end = self._end or self._server.end_of(self.pid, timeout_s=0.5)
        if self._end is None and usage.has_ended(self.pid):  # the server did not come to say so yet
            self._end = self._server.end_of(self.pid, timeout_s=_END_S)
        if self._end is None:
            self.kill()
            return "closed its socket without a result"
        return self._end.describe()

    def _reached(self) -> tuple[int, int]:
        """The item that the host, and that the device has come to, or -1: the child's word."""
        item, device = (_PROGRESS.unpack_from(self._parts.progress, offset)[0] for offset in (0, _PROGRESS.size))
        return item, device

    def _failed(self, message: str, status: Status = Status.RUNTIME_ERROR) -> ChildFailed:
        item, device = self._reached()
        if 0 <= device < item and (self._end is None or status is Status.TIMEOUT):  # what ended the process was the host's doing
            item = device
        return ChildFailed(status, message, log=self._parts.log(), progress=item if item >= 0 else None)


def _until_next_look(took_s: float, calls: int) -> float:
    """``took_s``: the look before; ``calls``: how many children are looked at meanwhile."""
    alone_s = took_s / _LOOKS_SHARE
    return max(_WATCH_S, alone_s, min(calls * alone_s, _APART_S))


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return (status.st_dev, status.st_ino)


_OUT_OF_MEMORY = ("can't allocate memory", "bad_alloc", "Cannot allocate memory", "not enough memory")


def _raised(error: Any) -> str:
    """The candidate's exception in a few lines; every part of it is untrusted text."""
    fields = error if isinstance(error, Mapping) else {}
    kind, message = f"{fields.get('type', 'Exception')!s:.80}", f"{fields.get('message', '')!s:.4000}"
    memory = "out of memory: " if kind in ("MemoryError", "OutOfMemoryError") or any(words in message for words in _OUT_OF_MEMORY) else ""
    lines = fields.get("traceback", [])
    where = "".join(f"\n  {line!s:.300}" for line in lines[:8]) if isinstance(lines, list) else ""
    return f"{memory}{kind}: {message}{where}"
