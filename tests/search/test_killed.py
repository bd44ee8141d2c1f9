"""kill -9 at any moment loses nothing but the step in flight."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from kevolve.store.graph_store import GraphStore
from tests.search.landscape import BEST

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
from pathlib import Path
from tests.search.test_loop import search, evaluate
from kevolve.store.graph_store import GraphStore

def slowly(proposals):
    for result in evaluate(proposals):
        time.sleep(float(sys.argv[2]))
        yield result
        print(result.proposal.source, flush=True)  # the search has stored it by the time it asks for the next

with GraphStore(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    found = search(store, evaluate=slowly).run()
    print("best", found.best.proposal.source, flush=True)
"""


def run(folder: Path, kill_after_s: float | None, pause_s: float) -> str:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(pause_s)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first == "ready\n"
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    return rest


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_search_goes_on_and_ends_where_it_would_have(tmp_path, seed):
    draw = random.Random(seed)
    completed: list[str] = []
    for _ in range(3):
        said = run(tmp_path, draw.uniform(0.0, 0.15), 0.01)
        completed += [line for line in said.splitlines() if line.startswith("{")]
        with GraphStore(tmp_path) as store:
            kept = Counter(node.proposal.source for node in store.nodes("s", "cpu"))
        assert set(completed) <= set(kept), "a completed step is gone"
        assert max(kept.values(), default=1) == 1, "a step was run twice"
    said = run(tmp_path, None, 0.0)
    with GraphStore(tmp_path) as store:
        nodes = store.nodes("s", "cpu")
    assert max(Counter(node.proposal.source for node in nodes).values()) == 1
    best = max(nodes, key=lambda node: node.fitness)
    assert best.proposal.knobs == BEST
    assert said.splitlines()[-1] == f"best {best.proposal.source}"


def test_a_killed_search_with_models_in_flight_ends_in_the_graph_of_the_uninterrupted_one(tmp_path):
    from benchmarks.killed import run as killed

    figures = killed(tmp_path, "best-first", steps=30, kills=3, seed=3, most_s=0.3, pause_s=0.005)
    assert figures.good, figures
    assert figures.kills >= 1
    assert figures.nodes >= 30
