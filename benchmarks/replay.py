"""A recorded search of 500 steps told again, and what a policy's decision costs at 10,000 nodes: seconds, memory, milliseconds.

Usage: ``python -m benchmarks.replay [--steps 500] [--nodes 10000] [--json PATH]``; give it two cores (``taskset -c 0,1``).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.recorded import KERNEL_BYTES, SPEC, TARGET, record, replay
from kevolve import registry
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.search.index import Index
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Policy
from kevolve.search.replay import same_graph
from kevolve.search.step import Arm, Around, Step
from kevolve.store.graph_store import GraphStore

ARMS = (Arm(operator="samples"), Arm(operator="tuning"), Arm(operator="agent", model="one:a"), Arm(operator="agent", model="two:b"))
ASKED = 300  # decisions measured

Parents = Callable[[random.Random, int], tuple[int, ...]]
SHAPES: dict[str, Parents] = {
    "tree": lambda draw, number: (draw.randrange(max(1, number // 2), number),) if number > 10 else (),
    "star": lambda _draw, number: (1,) if number > 10 else (),
    "drafts": lambda _draw, _number: (),
    "crossed": lambda draw, number: tuple({draw.randrange(1, number), draw.randrange(1, number)}) if number > 10 else (),
}


def grown(count: int, parents: Parents, *, flat: bool = False) -> list[Node]:
    """A graph of ``count`` nodes; ``flat``: nothing can be timed, so that all are equally fit."""
    draw, nodes = random.Random(1), []
    for number in range(1, count + 1):
        fails = draw.random() < 0.3
        status = Status.INCORRECT_NUMERICAL if fails else Status.NOT_MEASURED if flat else Status.PASSED
        model = draw.choice(("", "one:a", "two:b"))
        proposal = Proposal(
            language="cpp",
            source="",
            operator="agent" if model else "tuning",
            idea="i",
            model=model,
            parents=parents(draw, number),
            seconds=30.0,
        )
        nodes.append(
            Node(
                id=number,
                run=1,
                spec=SPEC,
                spec_hash="h",
                target=TARGET,
                proposal=proposal,
                source_hash=str(number),
                normal_hash=str(number),
                outcome=Outcome(status=status, stage=Stage.QUICK),
                fitness=0.0 if fails or flat else draw.lognormvariate(0.3, 0.4),
                seconds=3.0,
                created="",
                step=number,
            )
        )
    return nodes


def decisions(policy: Policy, nodes: list[Node]) -> dict[str, float]:
    """Milliseconds of processor time of a decision as the graph grows by ``ASKED`` nodes to its end, its index's growth included.

    Processor time: other processes on the machine are not the policy's.
    """
    index = Index(nodes[:-ASKED])
    policy.ask(Graph(tuple(nodes[:-ASKED]), Around(arms=ARMS, seed=1, number=1), [index]), 1, [])
    pending = [replace(_UNDER_WAY, parents=(nodes[place].id,), number=place) for place in (1, 5, 9)]
    taken = []
    for number in range(len(nodes) - ASKED, len(nodes)):
        began = time.thread_time()
        index.add(nodes[number])
        around = Around(arms=ARMS, seed=1, number=number)
        policy.ask(Graph(tuple(nodes[: number + 1]), around, [index]), 1, pending)
        taken.append(1000 * (time.thread_time() - began))
    taken.sort()
    return {"median_ms": round(median(taken), 3), "p99_ms": round(taken[int(0.99 * len(taken))], 3), "most_ms": round(taken[-1], 3)}


_UNDER_WAY = Step(parents=(), operator="agent", model="one:a")


def loaded(nodes: list[Node]) -> dict[str, float]:
    """Seconds and memory of reading a store of such nodes, each with a kernel of its own."""
    with tempfile.TemporaryDirectory() as folder:
        with GraphStore(Path(folder)) as store:
            run = store.start_run(arguments=[], environment={})
            for node in nodes:
                text = f"// {node.id}\n" + "x" * KERNEL_BYTES
                proposal = replace(node.proposal, source=text, parents=())
                store.add(
                    run=run,
                    spec=SPEC,
                    spec_hash="h",
                    target=TARGET,
                    proposal=proposal,
                    normal_hash=node.normal_hash,
                    outcome=node.outcome,
                    fitness=node.fitness,
                    seconds=1.0,
                )
        said = subprocess.run([sys.executable, "-m", "benchmarks.replay", "--load", folder], capture_output=True, text=True, check=True)
    return dict(json.loads(said.stdout))


def _load(folder: str) -> None:
    before = _peak_mb()
    with GraphStore(Path(folder)) as store:
        began = time.perf_counter()
        nodes = store.nodes(SPEC, TARGET)
        graph = Graph(tuple(nodes))
        _ = graph.index
        seconds = time.perf_counter() - began
    print(json.dumps({"nodes": len(nodes), "seconds": round(seconds, 2), "peak_mb": _peak_mb(), "before_mb": before}))


def retold(folder: Path, policy: str, steps: int) -> dict[str, Any]:
    """A search recorded and replayed in a process of its own: seconds, peak memory, the difference (None)."""
    nodes = record(folder / "recorded", registry.load("policies", policy), steps)
    command = [sys.executable, "-m", "benchmarks.replay", "--replay", str(folder), policy, str(steps)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    with GraphStore(folder / "again") as store:
        difference = same_graph(nodes, store.nodes(SPEC, TARGET))
    return {"policy": policy, "steps": steps, **json.loads(said.stdout), "difference": difference}


def _replay(folder: str, policy: str, steps: str) -> None:
    began = time.perf_counter()
    found = replay(Path(folder) / "recorded", Path(folder) / "again", registry.load("policies", policy), int(steps))
    seconds = round(time.perf_counter() - began, 2)
    print(json.dumps({"seconds": seconds, "peak_mb": _peak_mb(), "nodes": len(found.graph.nodes), "reason": found.reason}))


def _peak_mb() -> float:
    """The most memory this process had resident (``ru_maxrss`` would count its parent's before the exec)."""
    status = Path("/proc/self/status").read_text()
    return round(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024, 1)


def main() -> int:
    """Run and print."""
    if sys.argv[1:2] == ["--replay"]:
        _replay(*sys.argv[2:])
        return 0
    if sys.argv[1:2] == ["--load"]:
        _load(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--policies", nargs="*", default=registry.names("policies"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for shape, parents in SHAPES.items():
        for flat in (False, True):
            nodes = grown(arguments.nodes, parents, flat=flat)
            rows += [
                {"policy": policy, "graph": shape + (", equal" if flat else ""), **decisions(registry.load("policies", policy), nodes)}
                for policy in arguments.policies
            ]
    print(f"a decision at {arguments.nodes} nodes")
    print(tabulate(rows, headers="keys"))
    with tempfile.TemporaryDirectory() as folder:
        again = [retold(Path(folder) / policy, policy, arguments.steps) for policy in arguments.policies]
    print(f"\n{arguments.steps} recorded steps told again")
    print(tabulate(again, headers="keys"))
    stored = loaded(grown(arguments.nodes, SHAPES["tree"]))
    print(f"\n{stored['nodes']} nodes read in {stored['seconds']} s, peak {stored['peak_mb']} MB of which {stored['before_mb']} MB before")
    if arguments.json:
        figures = {"cores": len(os.sched_getaffinity(0)), "decisions": rows, "replays": again, "stored": stored}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
