"""One problem in a process of its own, ended when its time is over."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from typing import Any

_MEMORY_BYTES = 14 << 30


def apart(work: Callable[..., dict[str, Any]], *arguments: Any, seconds: float) -> dict[str, Any]:
    """What ``work`` gives, or ``{"error": …}``: what it raised, or that it did not end in time. Forked: torch is imported once."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(seconds) else {"error": f"not within {seconds:g} s"}
    except EOFError:
        found = {"error": "its process died (memory?)"}
    process.kill()
    process.join()
    return found  # type: ignore[no-any-return]


def _run(pipe: Any, work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        pipe.send(work(*arguments))
    except Exception as error:  # noqa: BLE001  a problem may raise anything, and the next is to be looked at
        pipe.send({"error": f"{type(error).__name__}: {error}"[:400]})
