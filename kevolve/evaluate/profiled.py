"""The process that a profiler watches: one candidate, confined as a worker is, called on one case's contents.

``main`` is run twice: first it supervises, so that nothing outlives the deadline, whatever a profiler or a candidate starts; below it,
and below the profiler's own command, it becomes the candidate's process. Figures are the profiler's; ``calls`` is the candidate's word.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JOB, POOL, LOG, CALLS, SCRATCH = "job.json", "pool", "log.txt", "calls.json", "scratch"
BOOT = "import sys; sys.path.insert(0, {root!r}); from kevolve.evaluate import profiled; profiled.main({folder!r}, supervised={supervised})"
_WATCHED_S = 0.3  # of calls
_WARM = 3


def main(folder: str, *, supervised: bool) -> None:
    """See the module."""
    job = json.loads((Path(folder) / JOB).read_text())
    if supervised:
        _run(Path(folder), job)
    else:
        _supervise(folder, job)


def _supervise(folder: str, job: Mapping[str, Any]) -> None:
    """Start the profiler with the process below it; kill what is left when it ends, or at the deadline."""
    from kevolve.evaluate import sandbox
    from kevolve.evaluate.server import kill_descendants

    sandbox.die_with_parent(job["judge"])
    sandbox.adopt_orphans()
    code = BOOT.format(root=job["root"], folder=folder, supervised=True)
    process = subprocess.Popen([*job["command"], sys.executable, "-I", "-B", "-c", code], stdin=subprocess.DEVNULL)
    try:
        status = process.wait(job["deadline_s"])
    except subprocess.TimeoutExpired:
        status = 124
    kill_descendants()
    os._exit(status if 0 <= status < 125 else 1)


def _run(folder: Path, job: Mapping[str, Any]) -> None:
    """Load the candidate, make its contents, call it under the profiler; what it raises is left in a file."""
    from kevolve.evaluate import sandbox, server, worker

    late = bool(job["needs_network"])
    network = "" if late else sandbox.leave_network()
    server.prepare(job["target"], job["language"], job["sys_path"])
    from kevolve import registry

    scratch = folder / SCRATCH
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_s"], job["cpu_s"]))
    os.chdir(scratch)
    os.environ |= {"HOME": str(scratch), "TMPDIR": str(scratch), "TRITON_HOME": str(scratch)}
    tempfile.tempdir = None
    fields = {**job["fields"], "scratch": str(scratch)}
    no_channel: Any = None  # nobody asks this process anything
    state = worker.WorkerState(fields=fields, channel=no_channel, progress=mmap.mmap(-1, mmap.PAGESIZE))
    sandbox.begin(sandbox.from_json(fields["limits"]), address_space=bool(fields["address_space"]))
    profiler = next(each for each in registry.load("targets", job["target"]).profilers if each.name == job["profiler"])
    state.grad, state.grad_outputs = tuple(job["grad"]), job["grad_outputs"]
    state.constant = tuple(job["constant"])
    pool = os.open(folder / POOL, os.O_RDONLY)
    try:
        worker.COMMANDS["enter"](state, {"target": job["target"], "stage": "time"}, ())
        if late and (network := sandbox.leave_network()) != "namespace":  # the tool is connected by now
            raise PermissionError(f"network {network}: a kernel is not run beside a tool that needs it")
        state.fields = {**fields, "network": network}
        worker.COMMANDS["load_candidate"](state, job["candidate"], ())
        answer: dict[str, Any] = {"calls": _called(state, job, pool, profiler, scratch)}
    except Exception as error:  # noqa: BLE001  a candidate may raise anything
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    sys.stdout.flush()
    (scratch / CALLS).write_text(json.dumps(answer))
    os._exit(0)  # nothing that a candidate left for the end; a profiler has written its figures, or does so as the process ends


def _called(state: Any, job: Mapping[str, Any], pool: int, profiler: Any, scratch: Path) -> int:
    """Warm calls, then watched ones, until there are enough of them."""
    from kevolve.evaluate import timed

    timed.handle(state, "time_inputs", {"layout": job["layout"], "seed": job["seed"], "mutates": job["mutates"]}, (pool,))
    timed.handle(state, "time_next", {}, ())
    timed.handle(state, "time_bound", {"count": _WARM}, ())
    calls, end = 0, time.monotonic() + _WATCHED_S
    with profiler.watched(scratch):
        while not calls or (calls < profiler.most_calls and time.monotonic() < end):
            timed.handle(state, "time_next", {}, ())
            timed.handle(state, "time_bound", {"count": 1}, ())
            calls += 1
    return calls
