"""Every fault a kernel can make on the CPU, and kill -9 at random moments: nothing hangs, nothing is lost, the next figures are as before.

Before and after each fault a correct kernel is judged and timed; ``--rounds``: how often. ``--kills``: of the candidate's child or of the
fork server, in the middle of an evaluation. ``--runs``: of a whole search under pytest, judge and all, each time begun again.

Usage: ``python -m benchmarks.faults [--rounds 5] [--kills 100] [--runs 10] [--json PATH]``. GPU: ``faults_gpu``; searches: ``killed``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from tabulate import tabulate

from benchmarks import fault_reference
from kevolve import registry
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Limits, ServerFailed, Workers
from kevolve.evaluate.plan import of_draws
from kevolve.evaluate.statistics import Interval, interval
from kevolve.evaluate.timing import measure
from kevolve.languages.cpp import Cpp
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Draw, Spec

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(__file__).with_name("fault_kernels.cpp")
FAULTS = (
    "segmentation_fault",
    "aborts",
    "endless",
    "out_of_memory",
    "fork_bomb",
    "thread_bomb",
    "disk_filled",
    "disk_filled_unnamed",
    "gigabyte_on_stderr",
)
SIZE = 1 << 16
DEADLINE_S = 20.0
FAULTS_LIMITS = Limits(memory_bytes=4 << 30)  # fresh memory comes at less than a gigabyte a second: it shall end before the deadline
INNOCENT = ("RUNTIME_ERROR", "NOT_MEASURED", "environment")  # what may be said of a correct kernel whose process was killed
SEARCHED = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def scaled(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

@kevolve.kernel(scaled, min_speedup=100.0, baseline=("eager",), vary=dict(cols=sizes(1, 64)))
@pytest.mark.parametrize("rows, cols", [(8, 64)])
def test_scaled(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""


def spec_of() -> Spec:
    """The spec that all these kernels are of, with one case."""
    found = Reference(module=fault_reference.__name__, qualname="doubled", file=Path(fault_reference.__file__), inputs=("x",))
    case = Case(id="only", values={"n": SIZE})
    given: dict[str, Any] = dict(vary={}, choices={}, cases=(case,), hash="", min_speedup=1e-3)  # it is to be right, not quick
    return Spec(name="doubled", nodeid="faults.py::test_doubled", folder=ROOT, describe=lambda n: (Tensor(n),), reference=found, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What became of one evaluation. ``time_us``: the kernel's, None where it was not timed."""

    status: str
    message: str
    time_us: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """What became of evaluations in whose middle a process was killed, and of those after them."""

    moments: Mapping[str, int]
    statuses: Mapping[str, int]
    blamed: tuple[str, ...]  # what was said of the correct kernel that only its values or times can justify
    failed_after: tuple[str, ...]  # of undisturbed evaluations right after a kill
    before_us: tuple[float, ...]
    after_us: tuple[float, ...]
    longest_s: float


@dataclass(slots=True, kw_only=True)
class Bench:
    """A target, a spec and a built library, to evaluate with."""

    workers: Workers
    target: Any
    library: Path
    pairs: int
    sizes: tuple[int, ...]  # of the draws
    spec: Spec = field(default_factory=spec_of)

    def evaluate(self, entry: str, seed: int) -> Evaluated:
        """Check, and where it passes time."""
        began = time.perf_counter()
        candidate = Candidate(name=entry, language="cpp", entry=entry, artifact=self.library)
        plan = of_draws(self.spec, [Draw(values={"n": size}, seed=seed) for size in self.sizes])
        time_us = None
        try:
            outcome = check(self.workers, self.spec, candidate, plan, target=self.target, deadline_s=DEADLINE_S)
            if outcome.passed:
                (case,) = self.spec.cases
                found = measure(
                    self.workers, self.spec, case, candidate, target=self.target, baselines=("eager",), seed=seed, pairs=self.pairs
                )
                outcome, time_us = found.outcome, found.time_us.get("launched")
            status, message = str(outcome.status), outcome.message
        except ServerFailed as error:
            status, message = "environment", str(error)
        return Evaluated(status=status, message=message, time_us=time_us, seconds=time.perf_counter() - began)

    def right(self, seed: int) -> Evaluated:
        """The correct kernel."""
        return self.evaluate("right", seed)


@contextlib.contextmanager
def bench(
    target: Any,
    folder: Path,
    *,
    sys_path: tuple[str, ...] = (),
    pairs: int = 7,
    sizes: tuple[int, ...] = (1, 37, SIZE),
    limits: Limits | None = None,
) -> Iterator[Bench]:
    """Workers and the built kernels."""
    library = Cpp().build(SOURCE.read_text(), entry="right", target=target, cache=folder / "cache", timeout_s=120).artifact
    with Workers(sys_path=[*sys_path, str(ROOT)], scratch=folder / "scratch", limits=limits) as workers:
        yield Bench(workers=workers, target=target, library=library, pairs=pairs, sizes=sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What became of each fault; ``ratios``: the correct kernel's time after one over that before it, by fault and round."""

    rows: Sequence[Mapping[str, Any]]
    ratios: Mapping[str, Sequence[float]]
    failed_after: tuple[str, ...]

    @property
    def change(self) -> Interval:
        """Of all rounds of all faults together, a ratio."""
        return interval([math.log(ratio) for ratios in self.ratios.values() for ratio in ratios])


def faults(made: Bench, names: tuple[str, ...] = FAULTS, rounds: int = 1) -> Faults:
    """Each fault between two evaluations of the correct kernel, ``rounds`` times."""
    made.right(0)
    rows, ratios, failed = [], {}, []
    for number, name in enumerate(names):
        ratios[name], found = list[float](), []
        for again in range(rounds):
            seed = 1000 * number + 10 * again
            before = made.right(seed)
            found.append(made.evaluate(name, seed + 1))
            after = made.right(seed + 2)
            failed += [f"{each.status} after {name}: {each.message}" for each in (before, after) if each.status != "PASSED"]
            ratios[name] += [after.time_us / before.time_us] if after.time_us and before.time_us else []
        messages = Counter(_what(each) for each in found)
        longest = max(each.seconds for each in found)
        statuses = ", ".join(sorted({each.status for each in found}))
        change = 100 * (median(ratios[name]) - 1) if ratios[name] else math.nan
        rows.append({"fault": name, "status": statuses, "longest_s": longest, "change_%": change, "message": messages.most_common(1)[0][0]})
    return Faults(rows=rows, ratios=ratios, failed_after=tuple(failed))


def _what(found: Evaluated) -> str:
    """The line after the one that names the draw."""
    return (*found.message.splitlines()[1:2], *found.message.splitlines()[:1], "")[0]


def children(made: Bench) -> list[psutil.Process]:
    """The processes forked from the fork servers."""
    return [child for server in servers(made) for child in server.children()]


def servers(_: Bench) -> list[psutil.Process]:
    """The fork servers of this process."""
    return [process for process in psutil.Process().children() if process.name().startswith("python")]


VICTIMS: Mapping[str, Callable[[Bench], list[psutil.Process]]] = {"child": children, "server": servers}


def kill_at_random(made: Bench, moments: Mapping[str, int], *, seed: int) -> Kills:
    """Kill one process a moment, drawn from those that are there, somewhere in an evaluation; then evaluate undisturbed."""
    draw = random.Random(seed)
    made.right(0)
    usual = [made.right(number) for number in range(1, 4)]
    most_s = median(found.seconds for found in usual)
    kinds = [kind for kind, count in moments.items() for _ in range(count)]
    draw.shuffle(kinds)
    statuses: Counter[str] = Counter()
    blamed, failed, after_us, longest = [], [], [], 0.0
    for number, kind in enumerate(kinds):
        killer = threading.Thread(target=_kill, args=(made, kind, draw.uniform(0.0, most_s), draw.random()))
        killer.start()
        while True:  # until the process was there to be killed
            disturbed = made.right(1000 + number)
            longest = max(longest, disturbed.seconds)
            statuses[disturbed.status] += 1
            if disturbed.status != "PASSED" and not disturbed.status.startswith(INNOCENT):
                blamed.append(f"{kind}: {disturbed.status}: {disturbed.message:.300}")
            killer.join(0)
            if not killer.is_alive():
                break
        after = made.right(2000 + number)
        longest = max(longest, after.seconds)
        if after.status != "PASSED" or after.time_us is None:
            failed.append(f"{kind}: {after.status}: {after.message:.300}")
        else:
            after_us.append(after.time_us)
    return Kills(
        moments=dict(moments),
        statuses=dict(statuses),
        blamed=tuple(blamed),
        failed_after=tuple(failed),
        before_us=tuple(found.time_us or 0.0 for found in usual),
        after_us=tuple(after_us),
        longest_s=longest,
    )


def _kill(made: Bench, kind: str, seconds: float, which: float) -> None:
    time.sleep(seconds)
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = VICTIMS[kind](made)
            if found:
                found[int(which * len(found))].kill()
                return
        time.sleep(0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What became of searches that were killed. ``lost``: nodes that were kept, and are not there any more."""

    kills: int
    nodes: tuple[int, ...]
    lost: int
    left_behind: int  # processes that lived on
    finished: bool
    said: str  # the end of what the last one printed


def kill_runs(folder: Path, arguments: list[str], *, kills: int, most_s: float, seed: int, environment: Mapping[str, str]) -> Runs:
    """A search under pytest in ``folder``, killed with everything that it knows ``kills`` times and begun again; then to its end."""
    draw = random.Random(seed)
    (folder / "test_scaled.py").write_text(SEARCHED)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kevolve-optimize", "--kevolve-seed", "3", *arguments]
    known: set[tuple[Any, ...]] = set()
    counts, lost, left = [], 0, 0
    for _ in range(kills):
        with subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(draw.uniform(0.0, most_s))
            started = _descendants(process.pid)
            process.send_signal(signal.SIGKILL)
        left += len(psutil.wait_procs(started, timeout=20)[1])
        kept = _nodes(folder)
        lost += len(known - kept)
        known |= kept
        counts.append(len(kept))
    last = subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=600, check=False)
    kept = _nodes(folder)
    lost += len(known - kept)
    finished = last.returncode in (0, 1) and "Traceback" not in last.stdout
    return Runs(kills=kills, nodes=(*counts, len(kept)), lost=lost, left_behind=left, finished=finished, said=last.stdout[-1000:])


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _nodes(folder: Path) -> set[tuple[Any, ...]]:
    """The nodes that a search has kept, read as any other program would."""
    file = folder / ".kevolve" / "kevolve.db"
    if not file.exists():
        return set()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        if not connection.execute("select 1 from sqlite_master where name = 'nodes'").fetchone():
            return set()
        return set(connection.execute("select id, source_hash from nodes"))


def _said(ratio: Interval) -> str:
    return f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] at 99%"


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of every fault")
    parser.add_argument("--kills", type=int, default=100, help="one in ten is a fork server")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    target = registry.load("targets", "cpu")
    moments = {"child": arguments.kills - arguments.kills // 10, "server": arguments.kills // 10}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bench(target, folder / "faults", limits=FAULTS_LIMITS) as made:
            found = faults(made, rounds=arguments.rounds)
        print(tabulate([dict(row) for row in found.rows], headers="keys", floatfmt=".2f"))
        print(f"time after over time before, all rounds: {_said(found.change)}, expected an interval with 1 in it", flush=True)
        with bench(target, folder / "bench") as made:
            kills = kill_at_random(made, moments, seed=arguments.seed)
            print(json.dumps(asdict(kills), indent=1), flush=True)
        (folder / "run").mkdir()
        budget = ["--kevolve-budget", "evaluations=12"]
        runs = kill_runs(folder / "run", budget, kills=arguments.runs, most_s=15.0, seed=arguments.seed, environment=os.environ)
        print(json.dumps(asdict(runs), indent=1))
    if arguments.json:
        kept = {"rows": found.rows, "ratios": found.ratios, "failed_after": found.failed_after, "change": asdict(found.change)}
        whole = {"environment": dict(target.device()), "faults": kept, "kills": asdict(kills), "runs": asdict(runs)}
        arguments.json.write_text(json.dumps(whole, indent=1) + "\n")
    unaffected = found.change.low <= 1 <= found.change.high and not found.failed_after
    good = unaffected and not kills.blamed and not kills.failed_after and not runs.lost and not runs.left_behind and runs.finished
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
