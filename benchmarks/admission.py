"""Admission on specs made from KernelBench's problems, and its cost on the suites.

``--theirs``: which outputs of nothing KernelBench accepts under its own inputs and tolerances (1e-4 and 1e-2), at growing numbers of rows
until the time is over. ``--ours``: what remains of that under kevolve's distributions and derived tolerance. ``--suites``: seconds a spec.
Results go to ``benchmarks/admission.json``, a problem at a time: a run goes on where the last one ended. ``--document`` writes the page.

    python -m benchmarks.admission --theirs --ours --checkout KERNELBENCH
    python -m benchmarks.admission --suites --document docs/admission.md
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.admitting import ours, theirs
from benchmarks.admitting.apart import apart
from benchmarks.admitting.document import document
from benchmarks.admitting.problems import Problem, problems
from kevolve.files import write_atomically

RESULTS = Path(__file__).with_name("admission.json")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="KernelBench, fetched")
    parser.add_argument("--levels", default="1,2,3")
    parser.add_argument("--only", default="", help="problems such as L1/19,L2/3, looked at again")
    parser.add_argument("--seconds", type=float, default=60.0, help="the most that one attempt at a problem may take")
    parser.add_argument("--grow", type=float, default=2.0, help="more rows are tried while an attempt took less, seconds")
    parser.add_argument("--rows", type=int, help="the most rows")
    parser.add_argument("--at", type=int, help="so many rows at once")
    parser.add_argument("--impostors", default="", help="only these, of --theirs")
    parser.add_argument("--seeds", type=int, default=0, help="which three seeds, by number")
    parser.add_argument("--results", type=Path, default=RESULTS)
    for way in ("theirs", "ours", "suites"):
        parser.add_argument(f"--{way}", action="store_true")
    parser.add_argument("--document", type=Path, metavar="PAGE", help="write the page from the results")
    chosen = parser.parse_args()
    if chosen.theirs:
        _each(chosen, "theirs", lambda problem: _grown(problem, chosen))
    if chosen.ours:
        _each(chosen, "ours", lambda problem: apart(ours.admitted, problem, seconds=chosen.seconds))
    if chosen.suites:
        _keep(chosen.results, "suites", ours.suites())
    if chosen.document is not None:
        chosen.document.write_text(document(json.loads(chosen.results.read_text())), encoding="utf-8")


def _each(chosen: argparse.Namespace, way: str, look: Callable[[Problem], dict[str, Any]]) -> None:
    wanted = set(filter(None, chosen.only.split(",")))
    for problem in problems(chosen.checkout, tuple(int(level) for level in chosen.levels.split(","))):
        known = _results(chosen.results).get(way, {})
        if (problem.key in known and not wanted) or (wanted and problem.key not in wanted):
            continue
        start = time.monotonic()
        found = {"name": problem.name, **look(problem)}
        _keep(chosen.results, way, {**_results(chosen.results).get(way, {}), problem.key: found})
        print(way, problem.key, f"{time.monotonic() - start:.1f} s", json.dumps(found)[:300], flush=True)


def _grown(problem: Problem, chosen: argparse.Namespace) -> dict[str, Any]:
    """The result at the most rows that the time allows; what stopped it from having more."""
    found: dict[str, Any] = {}
    only = tuple(filter(None, chosen.impostors.split(",")))
    for rows in theirs.sizes(problem, chosen.rows) if chosen.at is None else (chosen.at,):
        tried = apart(theirs.accepted, problem, rows, chosen.seeds, only, seconds=chosen.seconds)
        if "error" in tried:
            return {**found, "stopped": f"{rows or 'all'} rows: {tried['error']}"}
        found = tried
        if tried["seconds"] > chosen.grow:
            break
    return found


def _results(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}


def _keep(file: Path, part: str, found: Any) -> None:
    made = {"versions": f"torch {torch.__version__}, Python {platform.python_version()}, CPU"}
    everything = {**_results(file), **made, part: found}
    lines = (f" {json.dumps(name)}: {_lines(value)}" for name, value in everything.items())
    write_atomically(file, "{\n" + ",\n".join(lines) + "\n}\n")


def _lines(value: Any) -> str:
    """A problem a line."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{\n" + ",\n".join(_line(name, value[name]) for name in sorted(value, key=_order)) + "\n }"


def _line(name: str, value: Any) -> str:
    return f"  {json.dumps(name)}: {json.dumps(value)}"


def _order(key: str) -> Iterator[Any] | tuple[Any, ...]:
    level, _, number = key.partition("/")
    return (level, int(number)) if number.isdigit() else (level, 0)


if __name__ == "__main__":
    main()
