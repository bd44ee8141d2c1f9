"""The worker's side of timing: blocks of calls on never-seen contents, and the outputs of some for the judge to verify.

Commands: ``time_inputs`` (the pool of contents), ``time_again`` (other buffers and contents), ``time_graph`` (capture calls),
``time_block`` (timed calls), ``time_replay`` (timed replays of captured ones), ``time_next`` and ``time_bound`` (contents, and calls on
them for the judge's own clock), ``time_arena`` and ``time_delivered`` (calls whose every output is handed over), ``time_outputs`` (what
a timed call returned), ``time_crowds`` and ``time_rest`` (memory given back until the next ``time_inputs``), ``time_compiler`` (import
torch.compile, to fork from). Every call of a process has a number, counted from 0 over all its blocks since its contents began.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from kevolve.evaluate.arena import Filler
from kevolve.evaluate.contents import Contents
from kevolve.evaluate.resident import REPLAYED_FROM, Resident, batch_size, captured_numbers, replayed_numbers, set_count
from kevolve.evaluate.state import as_tuple
from kevolve.targets import CaptureError

if TYPE_CHECKING:
    from kevolve.evaluate.worker import WorkerState

_SNAPSHOT_BYTES = 4 << 20  # outputs up to here are copied the moment the last call has returned
_GRAIN = 1 << 15  # elements from which on PyTorch gives an elementwise operator another thread
_MOST_SETTLING, _SETTLE_S, _FEW_FAULTS = 12, 0.3, 64
_SLOT = "timed"  # where the session lies in the worker's named sets


@dataclass(slots=True, kw_only=True)
class Session:
    """The timed calls of one process."""

    contents: Contents | Resident
    pool: int | None  # which memory the contents come from, where they stay on a device
    constants: dict[int, Any]  # by position: what the kernel's own preparation made of ``constant=`` inputs
    mutates: tuple[int, ...]
    number: int = 0
    last: tuple[Any, ...] = ()
    kept: list[tuple[Any, ...]] = field(default_factory=list)  # outputs of the last calls
    graphs: Any = None  # captured calls
    replay_number: int = REPLAYED_FROM  # captured calls have numbers of their own
    replayed: list[tuple[Any, ...]] = field(default_factory=list)  # outputs of the last replay
    arena: Filler | None = None  # where outputs are handed over
    found: Any = None  # what a call returned, to hand over in place of another call's

    def next_inputs(self) -> tuple[Any, ...]:
        """The inputs of the next call."""
        self.last = self._prepared(self.contents.inputs(self.number))
        self.number += 1
        return self.last

    def inputs_into(self, number: int, into: int) -> tuple[Any, ...]:
        """The inputs of call ``number`` in the buffers of one set."""
        assert isinstance(self.contents, Resident)
        self.replay_number = number + 1
        return self._prepared(self.contents.inputs(number, into))

    def _prepared(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs = list(given)
        for position, prepared in self.constants.items():
            inputs[position] = prepared
        return tuple(inputs)


class _Batch(Sequence[tuple[Any, ...]]):
    """The inputs of ``count`` calls, each made when it is asked for, in order and outside the timed window."""

    def __init__(self, session: Session, count: int) -> None:
        self._session = session
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._session.next_inputs()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self._session.next_inputs() for _ in range(self._count))


def handle(state: WorkerState, command: str, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Answer one ``time_…`` command. Raises ``ValueError`` for an unknown one, and whatever the kernel raises."""
    if command == "time_inputs":
        return _inputs(state, arguments, fds[0]), ()
    if command == "time_compiler":
        return _compiler(), ()
    if command not in _COMMANDS:
        raise ValueError(f"unknown command {command!r}; expected time_inputs, {', '.join(_COMMANDS)}")
    session: Any = state.inputs[_SLOT][0][0]
    return _COMMANDS[command](state, session, arguments, fds), ()


def _inputs(state: WorkerState, arguments: Mapping[str, Any], fd: int) -> dict[str, Any]:
    """Map a pool; ``layout``, ``seed``, ``mutates`` (positions) as the judge has them. Answers how many calls were made already."""
    layout, policy = arguments["layout"], state.target.blocks
    held = state.inputs.get(_SLOT)
    pool = os.fstat(fd).st_ino  # of memory without a name: no two that live have the same
    if held is not None and held[0][0].pool == pool:
        return _again(state, held[0][0], arguments, fds=())
    state.inputs.pop(_SLOT, None)  # a former session's memory is free before the next one's is taken
    contents: Contents | Resident
    if policy.sets > 1:
        sets = set_count(layout, policy.sets, policy.sets_bytes)
        state.target.reallocate(arguments["seed"])
        contents = Resident(fd, layout, arguments["seed"], place=state.target.place, sets=sets)
    else:
        contents = Contents(fd, layout, arguments["seed"], place=state.target.place)
    session = Session(contents=contents, pool=pool if policy.sets > 1 else None, constants={}, mutates=tuple(arguments.get("mutates", ())))
    _prepare_constants(state, session)
    state.inputs[_SLOT] = [(session,)]
    gc.freeze()
    return {"calls": _settle(state, session)}


def _prepare_constants(state: WorkerState, session: Session) -> None:
    if state.constant:
        prepared = state.prepared(session.contents.inputs(0))
        session.constants = {position: prepared[position] for position in state.constant}


def _again(state: WorkerState, session: Session, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Other buffers, other contents (``seed``), calls counted from 0: as good as another process."""
    assert isinstance(session.contents, Resident)
    _rest(state, session, arguments, fds)
    session.number, session.replay_number = 0, REPLAYED_FROM
    _prepare_constants(state, session)
    return {"calls": _settle(state, session)}


def _crowds(state: WorkerState, _: Session, __: Mapping[str, Any], ___: tuple[int, ...]) -> dict[str, Any]:
    """Whether other processes may lack the memory that this one holds, in use or not. Leaves the device alone."""
    return {"crowds": state.crowds()}


def _rest(state: WorkerState, session: Session, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    """Give back what the calls so far took: buffers, outputs, captured calls."""
    assert isinstance(session.contents, Resident)
    session.kept, session.replayed, session.last, session.graphs, session.constants = [], [], (), None, {}
    session.contents.release(arguments["seed"])
    state.target.reallocate(arguments["seed"])
    return {}


def _graph(state: WorkerState, session: Session, _: Mapping[str, Any], __: tuple[int, ...]) -> dict[str, Any]:
    """Capture a call on every input set. ``refused``: why that is not possible; the process must then be replaced."""
    contents = session.contents
    assert isinstance(contents, Resident)
    numbers = captured_numbers(contents.layout, contents.seed, session.replay_number, contents.sets)
    sets = [session.inputs_into(number, into) for into, number in enumerate(numbers)]
    try:
        session.graphs = state.target.capture(_callable(state), sets, batch_size(contents.layout, contents.sets))
    except CaptureError as error:
        return {"refused": str(error)}
    return {}


def _settle(state: WorkerState, session: Session) -> int:
    """Call until the process has the memory it needs: the C library finds room for aligned blocks only after some calls."""
    end, calm = time.monotonic() + _SETTLE_S, 0
    while session.number < _MOST_SETTLING and calm < 2 and time.monotonic() < end:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        state.call(session.next_inputs())
        calm = calm + 1 if resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < _FEW_FAULTS else 0
    stock = getattr(state.target, "stock", None)
    if stock is not None:
        stock(_callable(state), session.last)
    state.target.synchronise()
    return session.number


def _compiler() -> dict[str, Any]:
    """Import what ``torch.compile`` needs, single-threaded, so that processes forked from here need not."""
    for name in ("torch._dynamo", "torch._inductor.compile_fx"):
        importlib.import_module(name)
    gc.freeze()
    return {}


def _block(state: WorkerState, session: Session, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    """``warm`` untimed calls, then ``count`` timed ones; times in microseconds a call."""
    session.kept = []
    for number in range(int(arguments["warm"])):
        state.begin(number)
        state.call(session.next_inputs())
    state.target.synchronise()
    count = int(arguments["count"])
    gc.disable()
    times, outputs = state.target.time_block(_callable(state), _Batch(session, count))
    snapshot = _snapshot(outputs, session)
    gc.enable()
    session.kept = [as_tuple(output) for output in outputs]
    if snapshot is not None:
        # where inputs are mutated only the last call's remain: earlier ones have been written anew
        session.kept = [snapshot] if session.mutates else [*session.kept[:-1], snapshot]
    replayed = None if times.replayed_us is None else list(times.replayed_us)
    return {"launched_us": list(times.launched_us), "replayed_us": replayed}


def _replay(state: WorkerState, session: Session, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    """``count`` timed replays, each on contents never seen; times in microseconds a call, one for each replay."""
    contents, graphs = session.contents, session.graphs
    assert isinstance(contents, Resident)
    batch = batch_size(contents.layout, contents.sets)
    numbers = replayed_numbers(
        contents.layout, contents.seed, session.replay_number, count=int(arguments["count"]), sets=contents.sets, batch=batch
    )
    gc.disable()
    times = []
    for replay, calls in enumerate(numbers):
        group = replay % graphs.groups
        given = [session.inputs_into(number, group * batch + place) for place, number in enumerate(calls)]
        times.append(graphs.time(group))
    gc.enable()
    session.replayed = [
        as_tuple(output) + tuple(inputs[position] for position in session.mutates)
        for output, inputs in zip(graphs.outputs(group), given, strict=True)
    ]
    return {"replayed_us": times}


def _callable(state: WorkerState) -> Any:
    """The kernel itself where nothing needs to stand between."""
    if state.grad or state.loaded is None:
        return lambda *inputs: state.call(inputs)
    return state.loaded.call


def _snapshot(outputs: Sequence[Any], session: Session) -> tuple[Any, ...] | None:
    """A copy of the last call's outputs at once: what another thread still writes afterwards comes too late."""
    if not outputs:
        return None
    last = as_tuple(outputs[-1]) + tuple(session.last[position] for position in session.mutates)
    if not all(isinstance(value, torch.Tensor) for value in last):
        return None
    if not session.mutates and sum(value.nbytes for value in last) > _SNAPSHOT_BYTES:
        return None
    return tuple(value.detach().clone(memory_format=torch.preserve_format) for value in last)


def _next(state: WorkerState, session: Session, _: Mapping[str, Any], __: tuple[int, ...]) -> dict[str, Any]:
    """Make the inputs of the calls that ``time_bound`` makes: an index is made in more time than it is searched."""
    session.kept = []
    session.next_inputs()
    state.target.synchronise()
    return {}


def _bound(state: WorkerState, session: Session, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    """Calls on what ``time_next`` made, or replays, one after another with nothing between them, for the judge to time by its own clock."""
    if arguments.get("form") == "replayed":
        for number in range(int(arguments["count"])):
            session.graphs.replay(number % session.graphs.groups)
        state.target.synchronise()
        return {}
    inputs, call = session.last, _callable(state)
    for _number in range(int(arguments["count"])):
        call(*inputs)
    state.target.synchronise()
    return {}


def _arena(state: WorkerState, session: Session, _: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Map an output arena for ``time_delivered`` and touch all of it; one call, for what it returns."""
    session.arena = _filler(state, fds[0])
    session.arena.touch()
    session.found = _callable(state)(*session.next_inputs())
    return {}


def _delivered(state: WorkerState, session: Session, arguments: Mapping[str, Any], _: tuple[int, ...]) -> dict[str, Any]:
    """``count`` calls; the outputs of each go into the arena at once.

    ``idle``: the inputs are made, the threads woken that slept meanwhile, and what an earlier call returned is handed over in place of
    calling. (While contents are made a kernel's threads fall asleep; on a virtual machine waking one took longer than the call.)
    """
    filler, call = session.arena, _callable(state)
    assert filler is not None
    metas, threads = [], torch.get_num_threads()
    if arguments.get("idle"):
        shares = torch.empty(_GRAIN * threads)

        def call(*_: Any) -> Any:
            shares.fill_(0.0)
            return session.found

    session.kept = []
    for _number in range(int(arguments["count"])):
        torch.set_num_threads(1)  # threads that wait for each other take more of the processor than the copies themselves
        inputs = session.next_inputs()
        torch.set_num_threads(threads)
        outputs = as_tuple(call(*inputs))
        torch.set_num_threads(1)
        given = (*outputs, *(session.last[position] for position in session.mutates))
        metas.append([filler.put(state.target.fetch(value.detach())) for value in given])
    torch.set_num_threads(threads)
    return {"outputs": metas}


def _filler(state: WorkerState, fd: int) -> Filler:
    def grow(size: int) -> None:
        state.channel.send({"grow": size})
        state.channel.receive()

    return Filler(fd, grow)


def _outputs(state: WorkerState, session: Session, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """The outputs of the call ``back`` before the last one timed, or of the earliest kept, into the output arena."""
    held = session.replayed if arguments.get("form") == "replayed" else session.kept
    back = min(int(arguments["back"]), len(held) - 1)
    found = held[-1 - back]
    filler = _filler(state, fds[0])
    return {"outputs": [[filler.put(state.target.fetch(value.detach())) for value in found]], "back": back}


_COMMANDS = {
    "time_again": _again,
    "time_crowds": _crowds,
    "time_rest": _rest,
    "time_graph": _graph,
    "time_block": _block,
    "time_replay": _replay,
    "time_next": _next,
    "time_bound": _bound,
    "time_arena": _arena,
    "time_delivered": _delivered,
    "time_outputs": _outputs,
}
