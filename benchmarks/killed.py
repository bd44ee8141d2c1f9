"""Kill -9 at random moments of a recorded search with models in flight, each time resumed: nothing lost, nothing twice, the same graph.

Usage: ``python -m benchmarks.killed [--kills 100] [--steps 400] [--policy uct] [--json PATH]``
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.recorded import SPEC, TARGET, record, replay
from kevolve import registry
from kevolve.search.loop import Progress
from kevolve.search.replay import same_graph
from kevolve.store.graph_store import GraphStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of it. ``difference``: between the finished graph and the uninterrupted one, or None."""

    kills: int
    steps: int
    nodes: int
    lost: int  # completed steps that are not there any more
    twice: int  # steps with more than one node
    caught: dict[str, int]  # steps by state, over all kills, at the moment of the kill
    difference: str | None

    @property
    def good(self) -> bool:
        """Whether nothing was lost, nothing done twice and the graph is the same."""
        return not self.lost and not self.twice and self.difference is None


def run(folder: Path, policy: str, *, steps: int, kills: int, seed: int, most_s: float, pause_s: float) -> Figures:
    """Record, replay in a process that is killed ``kills`` times, finish, compare."""
    uninterrupted = record(folder / "recorded", registry.load("policies", policy), steps)
    draw = random.Random(seed)
    told: set[str] = set()
    caught: Counter[str] = Counter()
    killed = lost = twice = 0
    ended = False
    while killed < kills and not ended:
        said = _life(folder, policy, steps, pause_s, draw.uniform(0.0, most_s))
        if said is None:
            ended = True  # before its kill
            break
        killed += 1
        told.update(said)
        with GraphStore(folder / "killed") as store:
            kept = [f"{node.step} {node.source_hash}" for node in store.nodes(SPEC, TARGET)]
            for search in store.searches():
                caught.update(step.state for step in store.steps(search.id))
                ended = search.ended is not None  # killed on its way out
        lost += len(told - set(kept))
        twice += len(kept) - len(set(kept))
    if not ended:
        replay(folder / "recorded", folder / "killed", registry.load("policies", policy), steps)
    with GraphStore(folder / "killed") as store:
        nodes = store.nodes(SPEC, TARGET)
    twice += sum(count - 1 for count in Counter(node.step for node in nodes).values())
    difference = same_graph(uninterrupted, nodes)
    return Figures(kills=killed, steps=steps, nodes=len(nodes), lost=lost, twice=twice, caught=dict(caught), difference=difference)


def _life(folder: Path, policy: str, steps: int, pause_s: float, seconds: float) -> list[str] | None:
    """Replay in a process that is killed ``seconds`` after it began to search; the steps that it told of. None: it ended before."""
    command = [sys.executable, "-m", "benchmarks.killed", "--worker", str(folder), policy, str(steps), str(pause_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the replaying process did not begin")
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().splitlines(keepends=True)
    if process.returncode == 0:
        return None
    return [line.strip() for line in said if line.endswith("\n")]


def _worker(folder: str, policy: str, steps: str, pause_s: str) -> None:
    def told(progress: Progress) -> None:
        if progress.node is not None:
            print(progress.node.step, progress.node.source_hash, flush=True)

    print("ready", flush=True)
    where = Path(folder)
    made = registry.load("policies", policy)
    replay(where / "recorded", where / "killed", made, int(steps), pause_s=float(pause_s), listener=told)


def main() -> int:
    """Run and print."""
    if sys.argv[1:2] == ["--worker"]:
        _worker(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--policy", default="best-first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(
            Path(folder),
            arguments.policy,
            steps=arguments.steps,
            kills=arguments.kills,
            seed=arguments.seed,
            most_s=0.3,
            pause_s=0.005,
        )
    print(json.dumps(asdict(figures), indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    return 0 if figures.good else 1


if __name__ == "__main__":
    raise SystemExit(main())
