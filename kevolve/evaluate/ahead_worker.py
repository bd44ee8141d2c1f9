"""The untrusted side of compiling ahead: a confined child runs the candidate's entry on fake inputs while its launches are compiled."""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kevolve import registry
from kevolve.evaluate import worker
from kevolve.evaluate.arena import contiguous_strides, dtype_named
from kevolve.evaluate.state import WorkerState, as_tuple
from kevolve.languages import Ahead

_LOG_FD, _LOG_BYTES = 2, 1 << 16  # the child's log is its standard error
_MOST_PROBLEMS, _LONGEST = 8, 2000
_NEEDS_DATA = ("on meta tensors", "meta tensor", "Meta tensor", "no data")


def handle(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Compile what ``items`` (cases to be timed first, ``timed`` of them) launch, and write the archive into the last descriptor.

    Returns ``count`` and ``skipped`` specialisations, ``problems`` of the compiler, ``launches`` (item, kernel, folder of the archive),
    and ``stopped``: why the entry went no further.
    """
    gc.disable()  # a process that ends soon: collections took a twentieth of its time
    tempfile.tempdir = None  # found anew: the server may have looked for one, outside the scratch directory
    # Compilers are programs, so that programs may start; they and the candidate write beneath the scratch directory only.
    isolation = worker.confined(state, arguments, programs=True, devices=())
    language = registry.load("languages", arguments["language"])
    deadline = time.monotonic() + arguments["budget_s"]
    state.source = arguments["artifact"]
    state.constant = tuple(arguments["constant"])
    with language.ahead(arguments["arch"], jobs=arguments["jobs"], folder=Path.cwd()) as ahead:
        state.loaded = language.load(Path(arguments["artifact"]), entry=arguments["entry"], target=None)
        stopped = _run(state, ahead, arguments, deadline)
    begun = itertools.count(len(arguments["items"]))
    ahead.finish(deadline - time.monotonic(), told=lambda: state.begin(next(begun)))
    os.pwrite(fds[-1], ahead.archive(), 0)
    return {
        "count": ahead.count,
        "skipped": ahead.skipped,
        "problems": [problem[:_LONGEST] for problem in ahead.problems()[:_MOST_PROBLEMS]] + _printed(ahead),
        "stopped": "; ".join(filter(None, (stopped, *ahead.disturbances()[:1])))[:_LONGEST],
        "launches": ahead.launches(),
        "isolation": isolation,
    }


def _printed(ahead: Ahead) -> list[str]:
    """What compilers wrote to this process's log, where they refused something: their exceptions do not say it all."""
    if not ahead.problems():
        return []
    size = os.fstat(_LOG_FD).st_size
    lines = os.pread(_LOG_FD, _LOG_BYTES, max(0, size - _LOG_BYTES)).decode(errors="replace").splitlines()
    errors = [line.strip()[:_LONGEST] for line in lines if "error:" in line or "fatal" in line]
    return list(dict.fromkeys(errors))[:_MOST_PROBLEMS]


def _run(state: WorkerState, ahead: Ahead, arguments: Mapping[str, Any], deadline: float) -> str:
    """Call the entry with every item; an item that fails is left to the launch, which says how. The first failure's reason, or nothing."""
    stopped = ""
    for number, item in enumerate(arguments["items"]):
        if time.monotonic() > deadline:
            return stopped or "the time for compiling ahead is over"
        state.begin(number)
        ahead.timed, ahead.item = number < arguments["timed"], number
        try:
            _call(state, ahead, item)
        except Exception as error:  # noqa: BLE001  a candidate may raise anything, and more so on fakes: the real call decides
            stopped = stopped or _reason(error)
    return stopped


def _reason(error: Exception) -> str:
    message = str(error)
    if any(words in message for words in _NEEDS_DATA):
        return "it reads data (.item() or the like)"
    return f"{type(error).__name__}: {message[:300]}"


def _call(state: WorkerState, ahead: Ahead, item: Sequence[Any]) -> None:
    """The forward, and with ``grad`` the backward for gradients of the outputs that it made."""
    assert state.loaded is not None
    inputs = state.prepared([_made(ahead, slot) for slot in item])
    if not state.grad:
        state.call(inputs)
        return
    outputs = [output for output in as_tuple(state.loaded.call(*inputs)) if output.is_floating_point()]
    grads = [ahead.fake(output.dtype, output.shape, contiguous_strides(output.shape), 0) for output in outputs]
    state.grad_outputs = len(grads)
    state.call((*inputs, *grads))


def _made(ahead: Ahead, slot: Any) -> Any:
    if isinstance(slot, dict):
        return slot["value"]
    dtype, shape, strides, offset = slot
    return ahead.fake(dtype_named(dtype), shape, strides, offset)
