"""The untrusted side: one child, one candidate. Answers the judge's commands until the judge closes the socket.

Commands: ``ping``, ``enter``, ``confine``, ``load_candidate``, ``load_callable``, ``load_reference``, ``warm``, ``prepare``,
``trace``, ``run``, ``rewrite``, ``fork``; those that begin with ``time_`` go to ``kevolve.evaluate.timed``.

Every command may carry ``grad`` (positions of the inputs to differentiate by) and ``grad_outputs`` (how many trailing inputs of an
item are gradients of the outputs); they stay set until the next command that carries them.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from kevolve import registry
from kevolve.evaluate import sandbox
from kevolve.evaluate.arena import Filler, Mapped
from kevolve.evaluate.channel import Channel, Closed, Message, close_all
from kevolve.evaluate.moved import Moved, import_moved
from kevolve.evaluate.state import WorkerState, check_outputs, private_copy
from kevolve.evaluate.watch import Watch
from kevolve.languages import Loaded
from kevolve.spec.reference import Reference, resolve

__all__ = ["WorkerState", "main", "serve"]

_SOCKET_FD, _PROGRESS_FD = 3, 4
_AT_ONCE, _BYTES_AT_ONCE = 64, 32 << 20  # calls that are not waited for one by one, and bytes of their outputs
_LARGE = ("run", "rewrite", "warm", "judge")  # commands after which a device's memory may be full of what nothing uses any more
_TRACEBACK_LINES = 6
_LONGEST_MESSAGE = 4000


# --- commands ---


def _ping(_: WorkerState, __: Mapping[str, Any], ___: tuple[int, ...]) -> dict[str, Any]:
    return {"pid": os.getpid()}


def _enter(state: WorkerState, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    state.target = registry.load("targets", arguments["target"])
    state.target.enter(arguments["stage"])
    return {}


def _confine(state: WorkerState, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    """Give up what an untrusted candidate may not have. ``probe``: only to see what can be had."""
    programs, writes = bool(state.fields["programs"]), state.fields["writes"]
    devices = [Path(path) for path in writes or ()] if writes is not None or not programs else None
    return {"isolation": confined(state, arguments, programs=programs, devices=devices)}


def confined(state: WorkerState, arguments: Mapping[str, Any], *, programs: bool, devices: Sequence[Path] | None) -> dict[str, str]:
    """What was had. The judge, which counts this process's processes, is told before a candidate is loaded.

    Raises ``PermissionError`` where the run is strict and something was not had.
    """
    made = sandbox.confine(
        sandbox.from_json(state.fields["limits"]),
        scratch=Path(state.fields["scratch"]),
        own=[Path(arguments["artifact"])] if "artifact" in arguments else [],
        programs=programs,
        devices=devices,
        listen=state.channel is not None,
    )
    if made.listener is not None:
        state.channel.send({"listen": True}, (made.listener,))
        os.close(made.listener)
    absent = sandbox.missing({"network": state.fields["network"], **made.had})
    if absent and state.fields["strict"] and not arguments.get("probe"):
        raise PermissionError(f"not confined as --kevolve-sandbox=strict demands: {absent}")
    return dict(made.had)


def _load_candidate(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    language = registry.load("languages", arguments["language"])
    begin = getattr(language, "begin", None)
    if begin is not None:
        begin(Path(arguments["artifact"]))
    _confine(state, arguments, fds)
    state.source = arguments["artifact"]
    state.loaded = language.load(Path(arguments["artifact"]), entry=arguments["entry"], target=state.target)
    return {"backward": state.loaded.backward is not None, "prepare": state.loaded.prepare is not None}


def _load_callable(state: WorkerState, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    module_name, _, name = arguments["path"].partition(":")
    moved = arguments.get("moved")
    module = importlib.import_module(module_name) if moved is None else import_moved(module_name, Moved.from_json(moved))
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    state.loaded = Loaded(call=found, backward=getattr(module, f"{name}_backward", None), prepare=getattr(module, f"{name}_prepare", None))
    state.trusted, state.source = True, getattr(module, "__file__", None)
    return {"backward": state.loaded.backward is not None, "prepare": state.loaded.prepare is not None}


def _load_reference(state: WorkerState, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    given = dict(arguments["reference"])
    given |= {"file": Path(given["file"]), "inputs": tuple(given["inputs"])}
    given["init"] = tuple(given["init"]) if given.get("init") is not None else None
    reference = Reference(**given)
    call = resolve(reference, arguments.get("values", {}))
    if arguments.get("compile"):
        call = torch.compile(call, dynamic=False, mode=arguments["compile"])
    state.loaded = Loaded(call=call)
    state.trusted, state.source = True, str(reference.file)
    return {}


def _warm(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Compile and call once in a thread of its own, so that this one has no OpenMP pool and can be forked."""
    mapped = Mapped(fds[0], arguments["layout"])
    failures: list[Exception] = []

    def work() -> None:
        try:
            for number in range(len(mapped.layout)):
                state.begin(number)
                state.call(state.prepared(_placed(state, mapped.take(number))))
        except Exception as error:  # noqa: BLE001  a reference may raise anything; the main thread reports it
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return {}


def _prepare(state: WorkerState, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    state.constant = tuple(arguments["positions"])
    return {}


def _trace(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    mapped, watch = _mapped(state, fds[0], arguments["layout"]), Watch()
    for number in range(len(mapped.layout)):
        state.begin(number)
        inputs = state.prepared(mapped.take(number))
        with watch:
            outputs = state.call(inputs)
        state.target.synchronise()
        watch.look()
        check_outputs(outputs, inputs, trusted=state.trusted)
    return {"operators": list(watch.names)}


def _run(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Call with every item; then once more with those named in ``repeat``.

    ``mutates``: positions of inputs that the call may change; it gets private copies, whose final state is returned after the outputs.
    An item's outputs are read only after the next call, so that one buffer given out twice shows.
    """
    mapped = _mapped(state, fds[0], arguments["layout"])
    mutates = tuple(arguments.get("mutates", ()))
    filler = Filler(fds[1], lambda size: _grow(state, size))
    count, watch = len(mapped.layout), None if state.trusted else Watch()
    numbers = [*range(count), *arguments.get("repeat", ())]
    metas: list[list[Any]] = []
    held: list[tuple[Any, ...]] = []
    while numbers:
        made = _called(state, mapped, numbers, mutates, watch)
        del numbers[: len(made)]
        metas += _filled(state, filler, [*held, *made[:-1]])
        held = made[-1:]
    metas += _filled(state, filler, held)
    mapped.give_back(state.target.fetch)
    return {"outputs": metas[:count], "repeated": metas[count:], "operators": _operators(watch)}


def _operators(watch: Watch | None) -> list[str]:
    return [] if watch is None else list(watch.names)


def _rewrite(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Items in twos: a call with the first's contents, then one with the second's in the same tensors, which do not say that they changed.

    What the first call returned is read after the second.
    """
    mapped = _mapped(state, fds[0], arguments["layout"])
    mutates = tuple(arguments.get("mutates", ()))
    filler = Filler(fds[1], lambda size: _grow(state, size))
    metas: list[list[Any]] = []
    watch = None if state.trusted else Watch()
    for first in range(0, len(mapped.layout), 2):
        inputs = [private_copy(value) if isinstance(value, torch.Tensor) else value for value in mapped.take(first)]
        before = _one_call(state, inputs, mutates, first, watch)
        for into, value in zip(inputs, mapped.take(first + 1), strict=True):
            if isinstance(into, torch.Tensor) and isinstance(value, torch.Tensor):
                view = _other_view(into)
                view.copy_(value[tuple(slice(size) for size in view.shape)])
        metas += _filled(state, filler, [before, _one_call(state, inputs, mutates, first + 1, watch)])
    return {"outputs": metas, "operators": _operators(watch)}


def _one_call(state: WorkerState, inputs: Sequence[Any], mutates: Sequence[int], number: int, watch: Watch | None) -> tuple[Any, ...]:
    state.begin(number)
    with watch or contextlib.nullcontext():
        outputs = state.call(inputs)
    state.target.synchronise()
    if watch is not None:
        watch.look()
    check_outputs(outputs, [value for position, value in enumerate(inputs) if position not in mutates], trusted=state.trusted)
    return (*outputs, *(private_copy(inputs[position]) for position in mutates))


def _other_view(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements in a tensor with a version counter of its own; along a broadcast axis the first ones."""
    shape = [1 if stride == 0 else size for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
        tensor.untyped_storage(), tensor.storage_offset(), shape, tensor.stride()
    )


def _called(
    state: WorkerState, mapped: Mapped, numbers: Sequence[int], mutates: Sequence[int], watch: Watch | None
) -> list[tuple[Any, ...]]:
    """The outputs of the first of ``numbers``; of more than one where the device itself says which it has come to."""
    mark = state.marker()
    most = 1 if mark is None else _AT_ONCE
    made: list[tuple[list[Any], tuple[Any, ...]]] = []
    size = 0
    try:
        for number in numbers[:most]:
            state.begin(number)
            if mark is not None:
                mark(number)
            inputs: list[Any] = mapped.take(number)
            for position in mutates:
                inputs[position] = private_copy(inputs[position])
            prepared = state.prepared(inputs)
            with watch or contextlib.nullcontext():
                made.append((inputs, state.call(prepared)))
            size += sum(getattr(output, "nbytes", 0) for output in made[-1][1])
            if size > _BYTES_AT_ONCE:
                break
    finally:
        state.target.synchronise()  # before what was raised is told: the device may be behind, and its error comes first
    if watch is not None:
        watch.look()
    for number, (inputs, outputs) in zip(numbers, made, strict=False):
        state.begin(number)
        check_outputs(outputs, [value for position, value in enumerate(inputs) if position not in mutates], trusted=state.trusted)
    return [(*outputs, *(inputs[position] for position in mutates)) for inputs, outputs in made]


def _filled(state: WorkerState, filler: Filler, outputs: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """The metas of several calls' outputs, copied into the arena."""
    flat = [value.detach() for item in outputs for value in item]
    fetch_all = getattr(state.target, "fetch_all", None)
    fetched = iter([state.target.fetch(value) for value in flat] if fetch_all is None else fetch_all(flat))
    return [[filler.put(next(fetched)) for _ in item] for item in outputs]


def _mapped(state: WorkerState, fd: int, layout: list[Any]) -> Mapped:
    """The items of an arena, moved to the target's device in one piece."""
    if state.target is None:
        raise RuntimeError('the target is unknown: send "enter" first')
    return Mapped(fd, layout, place=state.target.place)


def _placed(state: WorkerState, inputs: list[Any]) -> list[Any]:
    if state.target is None:
        raise RuntimeError('the target is unknown: send "enter" first')
    return [state.target.place(value) if isinstance(value, torch.Tensor) else value for value in inputs]


def _grow(state: WorkerState, size: int) -> None:
    state.channel.send({"grow": size})
    state.channel.receive()


def _fork(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Fork twice, so that the server becomes the new child's parent and reports its end."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        pid = os.fork()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
        _become_fork(state, arguments, fds)
    os.wait()
    os.close(writer)
    pid = int(os.read(reader, 32))
    os.close(reader)
    return {"pid": pid}


def _become_fork(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> NoReturn:
    server = int(state.fields["server"])
    while os.getppid() != server:
        os.sched_yield()
    os.setsid()
    sandbox.die_with_parent(server)
    sock, progress, log = fds
    for old, new in ((log, 1), (log, 2), (sock, _SOCKET_FD), (progress, _PROGRESS_FD)):
        os.dup2(old, new, inheritable=new < _SOCKET_FD)
    os.closerange(_PROGRESS_FD + 1, 1024)
    state.fields = {**state.fields, "scratch": arguments["scratch"]}
    _settle(state)  # state.channel stays: its descriptor is the new socket now
    serve(state)


COMMANDS: dict[str, Callable[[WorkerState, Mapping[str, Any], tuple[int, ...]], dict[str, Any]]] = {
    "ping": _ping,
    "enter": _enter,
    "confine": _confine,
    "load_candidate": _load_candidate,
    "load_callable": _load_callable,
    "load_reference": _load_reference,
    "warm": _warm,
    "prepare": _prepare,
    "trace": _trace,
    "run": _run,
    "rewrite": _rewrite,
    "fork": _fork,
}


# --- the loop ---


def _answer(state: WorkerState, message: Message) -> tuple[dict[str, Any], tuple[int, ...]]:
    arguments = dict(message.fields)
    command = arguments.pop("command")
    if "grad" in arguments:
        state.grad = tuple(arguments["grad"])
        state.grad_outputs = int(arguments.get("grad_outputs", 1 if state.grad else 0))
    state.begin(-1)
    if command.startswith("time_"):
        from kevolve.evaluate import timed  # here, because it imports this module

        return timed.handle(state, command, arguments, message.fds)
    if command == "ahead":
        from kevolve.evaluate import ahead_worker  # as above

        return ahead_worker.handle(state, arguments, message.fds), ()
    if command == "count":
        from kevolve.evaluate import count_worker  # as above

        return count_worker.handle(state, arguments, message.fds), ()
    if command == "judge":
        from kevolve.evaluate import referee  # here: only one process of a run needs it

        return referee.handle(state, arguments, message.fds), ()
    if command not in COMMANDS:
        raise ValueError(f"unknown command {command!r}; expected {', '.join(COMMANDS)} or time_…")
    return COMMANDS[command](state, arguments, message.fds), ()


def _failure(state: WorkerState, error: BaseException) -> dict[str, Any]:
    """What a candidate's author needs of an exception: type, message, and the lines of the candidate's own file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == state.source]
    lines = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames[-_TRACEBACK_LINES:]]
    explain = getattr(state.target, "explain", str)
    return {"type": type(error).__name__, "message": explain(str(error))[:_LONGEST_MESSAGE], "traceback": lines}


def serve(state: WorkerState) -> NoReturn:
    """Answer until the judge closes the socket; then end without running anything a candidate left for the end."""
    while True:
        try:
            message = state.channel.receive()
        except Closed:
            os._exit(0)
        fds: tuple[int, ...] = ()
        try:
            reply, fds = _answer(state, message)
            if message.fields["command"] in _LARGE and state.crowds():
                state.target.reallocate(0)
        except Exception as error:  # noqa: BLE001  a candidate may raise anything; here, and only here, it becomes an answer
            reply = {"error": _failure(state, error)}
        close_all(message.fds)
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        state.channel.send(reply, fds)
        close_all(fds)


def _settle(state: WorkerState) -> None:
    """A working directory, home and temporary directory of our own."""
    scratch = state.fields["scratch"]
    os.chdir(scratch)
    os.environ |= {"HOME": scratch, "TMPDIR": scratch, "TRITON_HOME": scratch}  # Triton reads HOME when it is imported, in the server
    tempfile.tempdir = None  # the server may have looked for one, elsewhere
    state.progress = mmap.mmap(_PROGRESS_FD, mmap.PAGESIZE)


def main(fields: Mapping[str, Any]) -> NoReturn:
    """Become the child that ``fields`` (of the server's fork request) describes; the socket is on 3, progress on 4."""
    state = WorkerState(fields=fields, channel=Channel(socket.socket(fileno=_SOCKET_FD)), progress=mmap.mmap(_PROGRESS_FD, mmap.PAGESIZE))
    _settle(state)
    sandbox.begin(sandbox.from_json(fields["limits"]), address_space=bool(fields["address_space"]))
    serve(state)
