"""How far the times of one kernel lie apart in different processes, on a device where a process serves several pairs.

Where a process's context, page tables and buffers come to lie moves a call by a tenth of a microsecond on an H200, the same for all pairs
of that process: their scatter does not show it. It is measured once a device, on a small kernel in fresh processes, and every interval
is made wider by it (``statistics.interval``).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING

from kevolve.evaluate.baselines import CANDIDATE, open_candidate
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Child, ChildFailed, Workers
from kevolve.evaluate.contents import Pool, case_pool
from kevolve.evaluate.runner import PairPlan, Runner
from kevolve.files import write_atomically
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from kevolve.targets import Target

_PROCESSES = 16
_AT_ONCE = 4  # contexts that are made beside each other
_BUFFERS = 3  # times a process's buffers are allocated anew, as between pairs
_CALLS, _WARM = 25, 3
_SHAPE = (256, 1024)  # of bfloat16: microseconds, where the scatter counts
_BLOCK_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Standard deviations over processes, microseconds a call, as launched and as replayed; and over how many processes."""

    launched_us: float
    replayed_us: float
    processes: int

    def of(self, *, replayed: bool) -> float:
        """The one of this form."""
        return self.replayed_us if replayed else self.launched_us


def scatter(workers: Workers, target: Target, cache: Path, *, clock: Callable[[], float]) -> Scatter | None:
    """What is kept in ``cache`` for this device, else measured now (some seconds); None where every pair has processes of its own.

    Raises ``ChildFailed`` or ``SideFailed`` where the device does not serve a process.
    """
    if target.blocks.pairs_a_process == 1:
        return None
    kept = _kept_path(target, cache)
    try:
        return Scatter(**json.loads(kept.read_text()))
    except (OSError, ValueError, TypeError):
        pass  # never measured, or by another version
    found = _measured(workers, target, clock)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, json.dumps(asdict(found)))
    return found


def _kept_path(target: Target, cache: Path) -> Path:
    device = target.device()
    name = re.sub(r"[^\w.-]+", "-", "-".join(device.get(key, "") for key in ("name", "memory", "driver")))
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    return cache / "scatter" / f"{target.name}-{name}-{version}.json"


def _measured(workers: Workers, target: Target, clock: Callable[[], float]) -> Scatter:
    spec, case = _small()
    times: list[tuple[float, float]] = []
    with case_pool(spec, case, seed=0) as pool:
        for _ in range(_PROCESSES // _AT_ONCE):
            with _opened(workers, spec, target, pool) as children:
                times += [_times(workers, target, child, pool, clock) for child in children]
    launched, replayed = zip(*times, strict=True)
    return Scatter(launched_us=stdev(launched), replayed_us=stdev(replayed), processes=len(times))


@contextmanager
def _opened(workers: Workers, spec: Spec, target: Target, pool: Pool) -> Iterator[list[Child]]:
    """A wave of fresh processes."""
    small = Candidate(name="sigmoid", language=target.languages[0], entry="sigmoid", callable="torch:sigmoid")
    with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE) as threads:
        opening = [threads.submit(open_candidate, workers, spec, small, target=target, pool=pool) for _ in range(_AT_ONCE)]
        children, failures = [], []
        for future in opening:  # every one that came is to be ended, also where another failed
            try:
                children.append(stack.enter_context(future.result()))
            except ChildFailed as error:
                failures.append(error)
        if failures:
            raise failures[0]
        yield children


def _times(workers: Workers, target: Target, child: Child, pool: Pool, clock: Callable[[], float]) -> tuple[float, float]:
    """One process's launched and replayed time, the means over several buffers; what cannot be captured counts as launched."""
    plan = PairPlan(policy=target.blocks, pool=pool, mutates=(), budget_s=1.0, deadline_s=_BLOCK_S, exact=False, clock=clock)
    rng = random.Random(child.pid)
    with workers.holds.alone(target):
        runner = Runner(CANDIDATE, child, plan, rng.randrange(1 << 62))
        runner.capture()
        blocks = []
        for number in range(_BUFFERS):
            if number:
                runner.again(rng.randrange(1 << 62))
            blocks.append(runner.block(_CALLS, _WARM))
    launched = math.fsum(block.launched_us for block in blocks) / len(blocks)
    return launched, math.fsum(block.in_form(replayed=True) for block in blocks) / len(blocks)


def _small() -> tuple[Spec, Case]:
    """A kernel of microseconds that every device has."""
    rows, cols = _SHAPE
    spec = Spec(
        name="sigmoid",
        nodeid="kevolve/evaluate/scatter.py::sigmoid",
        folder=Path(__file__).parent,
        describe=lambda rows, cols: (Tensor(rows, cols, dtype="bfloat16"),),
        reference=Reference(module="torch", qualname="sigmoid", file=Path(__file__), inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash="scatter",
    )
    return spec, Case(id=f"{rows}-{cols}", values={"rows": rows, "cols": cols})
