"""Replay measured landscapes: how many evaluations until a setting within 5% of the best is found.

``python -m benchmarks.search.replay`` for every policy there is, each with the operator ``tuning`` under it, and for random search, which
draws settings without repeating any. A policy's search begins where a real one does: with the setting that was the sample's default
before it was measured, or with ``--start random`` anywhere. A setting that fails counts as an evaluation. One candidate at a time.
Prints a table; ``--json`` keeps every seed's count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import quantiles
from types import SimpleNamespace
from typing import Any

from tabulate import tabulate

from benchmarks.search.landscape import FOLDER, Landscape, stored
from kevolve import registry
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.operators.tuning import Tuning
from kevolve.search.node import Graph, Node, Proposal

RANDOM, RANDOM_FROM_DEFAULT = "random", "random from the default"
STARTS = ("default", "random")
NEAR = 1.05  # of the best time
GOAL = 0.25  # of random search's evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A landscape as a family that can be tuned: the source of a setting is its values."""

    landscape: Landscape

    @property
    def name(self) -> str:
        """The landscape's."""
        return self.landscape.name

    @property
    def knobs(self) -> Mapping[str, tuple[Any, ...]]:
        """The landscape's."""
        return self.landscape.knobs

    def proposal(self, knobs: Mapping[str, Any], *, operator: str, parents: tuple[int, ...] = (), memory: str = "parent") -> Proposal:
        """A setting."""
        return Proposal(
            language="triton",
            source=json.dumps([knobs[name] for name in self.knobs]),
            operator=operator,
            idea="",
            parents=parents,
            family=self.name,
            knobs=dict(knobs),
            memory=memory,
        )

    def node(self, number: int, proposal: Proposal) -> Node:
        """What the device said of a setting. One that was not measured counts as one that fails."""
        time_us = self.landscape.times_us.get(tuple(proposal.knobs[name] for name in self.knobs))
        status, stage = (Status.PASSED, Stage.QUICK) if time_us else (Status.RUNTIME_ERROR, Stage.SMOKE)
        return Node(
            id=number,
            run=1,
            spec=self.name,
            spec_hash=self.name,
            target="",
            proposal=proposal,
            source_hash=proposal.source,
            normal_hash=proposal.source,
            outcome=Outcome(status=status, stage=stage),
            fitness=1e3 / time_us if time_us else 0.0,
            seconds=0.0,
            created="",
        )


def evaluations(landscape: Landscape, method: str, start: str, seed: int) -> int:
    """Evaluations until a setting within 5% of the best, by policy ``method`` or by random search. ``start``: of ``STARTS``."""
    good, settings = NEAR * landscape.best_us, order_of(landscape, start if method != RANDOM else "random", seed)
    random_search = (landscape.times_us[setting] for setting in settings)
    times = random_search if method in (RANDOM, RANDOM_FROM_DEFAULT) else policy_search(landscape, method, settings, seed)
    for count, time_us in enumerate(times, 1):
        if time_us is not None and time_us <= good:
            return count
    return len(landscape.times_us)  # it had nothing more to propose


def order_of(landscape: Landscape, start: str, seed: int) -> list[tuple[Any, ...]]:
    """All settings in random order, behind the default where that is the start."""
    settings = list(landscape.times_us)
    random.Random(seed).shuffle(settings)
    if start == "default":
        default = tuple(values[0] for values in landscape.knobs.values())
        settings.sort(key=lambda setting: setting != default)
    return settings


def policy_search(landscape: Landscape, method: str, drafts: Sequence[tuple[Any, ...]], seed: int) -> Iterator[float | None]:
    """The times of what ``tuning`` proposes under a policy. A draft is the next of ``drafts``, until one of them works."""
    family, policy = Recorded(landscape=landscape), registry.load("policies", method)
    tuning, left = Tuning(lambda _context: {family.name: family}), iter(drafts)
    nodes: list[Node] = []
    while (proposal := proposed(family, policy, tuning, left, nodes, seed)) is not None:
        nodes.append(family.node(len(nodes) + 1, proposal))
        yield 1e3 / nodes[-1].fitness if nodes[-1].works else None


def proposed(
    family: Recorded, policy: Any, tuning: Tuning, drafts: Iterator[tuple[Any, ...]], nodes: Sequence[Node], seed: int
) -> Proposal | None:
    """The next candidate: of the first step that the policy wants and somebody has a proposal for."""
    from kevolve.search.step import Around, Step, seed_of

    exhausted: list[Step] = []
    number = len(nodes) + 1
    while True:
        graph = Graph(tuple(nodes), Around(seed=seed, number=number, exhausted=tuple(exhausted)))
        steps = [replace(step, seed=seed_of(seed, number)) for step in policy.ask(graph, 1, ())]
        if not steps:
            return None
        if not steps[0].parents and not any(node.works for node in nodes):
            return family.proposal(dict(zip(family.knobs, next(drafts), strict=True)), operator="samples")
        context: Any = SimpleNamespace(graph=graph, language="triton")
        found = tuning.propose(context, steps[0], 1)
        if found:
            return found[0]
        exhausted.append(steps[0])


def compare(landscapes: Sequence[Landscape], methods: Sequence[str], start: str, seeds: int, jobs: int) -> list[dict[str, Any]]:
    """One result a landscape and method."""
    work = [(landscape, method) for landscape in landscapes for method in methods]
    results = []
    with ProcessPoolExecutor(jobs) as pool:
        for landscape, method in work:
            counts = list(pool.map(partial(evaluations, landscape, method, start), range(seeds), chunksize=4))
            low, middle, high = quantiles(counts, n=4, method="inclusive")
            results.append(
                dict(landscape=landscape.name, method=method, median=middle, quartiles=[low, high], most=max(counts), counts=counts)
            )
            print(f"{landscape.name}: {method}: {middle:g} [{low:g}, {high:g}]", flush=True)
    return results


def rows(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table: a line a landscape and method, with the share of random search's evaluations."""
    base = {result["landscape"]: result["median"] for result in results if result["method"] == RANDOM}
    return [
        {
            "landscape": result["landscape"],
            "method": result["method"],
            "median": result["median"],
            "quartiles": "{:g} to {:g}".format(*result["quartiles"]),
            "most": result["most"],
            "of random's": f"{result['median'] / base[result['landscape']]:.0%}" if result["landscape"] in base else "",
        }
        for result in results
    ]


def verdict(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By landscape, the best policy's median as a part of random search's."""
    found: dict[str, float] = {}
    for result in results:
        if result["method"] not in (RANDOM, RANDOM_FROM_DEFAULT):
            by_random = next(other["median"] for other in results if (other["landscape"], other["method"]) == (result["landscape"], RANDOM))
            found[result["landscape"]] = min(found.get(result["landscape"], float("inf")), result["median"] / by_random)
    return found


def about(landscapes: Sequence[Landscape]) -> list[dict[str, Any]]:
    """What the landscapes are like."""
    found = []
    for landscape in landscapes:
        times = [time for time in landscape.times_us.values() if time is not None]
        default = landscape.times_us.get(tuple(values[0] for values in landscape.knobs.values()))
        near = sum(1 for time in times if time <= NEAR * landscape.best_us)
        facts = dict(landscape=landscape.name, settings=len(landscape.times_us), work=len(times), within_5_percent=near)
        found.append(facts | dict(best_us=landscape.best_us, default_us=default, worst_us=max(times)))
    return found


def main(landscapes: Callable[[Path], list[Landscape]] = stored) -> None:
    """Replay, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of landscapes")
    parser.add_argument("--policies", nargs="+", default=list(registry.names("policies")))
    parser.add_argument("--start", choices=STARTS, default="default")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    found = landscapes(arguments.folder)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the matrices are small
    methods = [*arguments.policies, RANDOM, *([RANDOM_FROM_DEFAULT] if arguments.start == "default" else [])]
    results = compare(found, methods, arguments.start, arguments.seeds, arguments.jobs)
    print(tabulate(about(found), headers="keys"), "\n")
    print(tabulate(rows(results), headers="keys"))
    for name, part in verdict(results).items():
        print(f"{name}: the best policy needs {part:.0%} of random search's evaluations ({'at most' if part <= GOAL else 'more than'} 25%)")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"start": arguments.start, "landscapes": about(found), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
