"""Bugs planted at one size only, in every suite's kernel: found, with the size named and a line that replays it.

Each kernel is spoiled where one size of one input is ``size % 64 == 37``, or is 1000 (or the largest its domain has below that), by one
flipped bit of one element of its first output. The property plan of each of ``--seeds`` secret seeds must find it, name the
size, and its replay line must fail alone. Usage: ``python -m benchmarks.planted [--seeds 20] [--jobs 2] [--json PATH]``
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import secrets
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.evaluations import distinct
from benchmarks.specs import SUITES, collect
from kevolve import registry
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.plan import make_plan, of_draws
from kevolve.spec.domain import Sizes
from kevolve.spec.spec import Draw, Spec

SPOIL = """
static void spoil(const ffi::Tensor& out) {
  int64_t count = 1;
  for (int axis = 0; axis < out.ndim(); ++axis) count *= out.size(axis);
  const int64_t bytes = out.dtype().bits / 8;
  if (count > 0) static_cast<uint8_t*>(out.data_ptr())[bytes * (count - 1) + bytes - 1] ^= 0x40;
}
template <class... Rest>
static void spoil(const ffi::Tuple<ffi::Tensor, Rest...>& outs) { spoil(outs.template get<0>()); }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which size is looked at: the argument of the spec, and how the kernel sees it."""

    argument: str
    seen: str  # C++, of the kernel's own parameters
    largest: int  # for the second bug


PLACES = {
    "rms_norm": Place(argument="cols", seen="x.size(1)", largest=1000),
    "rms_norm_backward": Place(argument="cols", seen="x.size(1)", largest=1000),
    "layer_norm": Place(argument="cols", seen="x.size(1)", largest=1000),
    "softmax": Place(argument="cols", seen="x.size(1)", largest=1000),
    "cross_entropy": Place(argument="vocab", seen="logits.size(1)", largest=1000),
    "swiglu": Place(argument="cols", seen="gate.size(1)", largest=1000),
    "map_id": Place(argument="batch", seen="values.size(0)", largest=1000),
    "mbdt": Place(argument="batch", seen="x.size(1)", largest=1000),
    "batch_event_truncate": Place(argument="users", seen="outer_lengths.size(1)", largest=50),
    "embedding_bag": Place(argument="dim", seen="table.size(1)", largest=500),
    "wukong_fm": Place(argument="rank", seen="y.size(2)", largest=500),
    "conv1d": Place(argument="length", seen="x.size(2)", largest=500),
}


def planted(source: str, name: str, condition: str) -> str:
    """The kernel with its entry function spoiled under ``condition``."""
    pattern = rf"(\n[\w:<>, ]+ {name}\(([^)]*)\) \{{)\n  return (detail::compute\([^;]*\));\n\}}"
    changed, count = re.subn(pattern, rf"\n{SPOIL}\1\n  auto out = \3;\n  if ({condition}) spoil(out);\n  return out;\n}}", source)
    if count != 1:
        raise RuntimeError(f"{name}: expected one entry function that calls detail::compute, found {count}")
    return changed


def judge(spec: Spec, bug: str, candidate: Candidate, workers: Workers, seed: int) -> dict[str, Any]:
    """One seed: found, the size named, the replay failing alone."""
    target = registry.load("targets", "cpu")
    began = time.perf_counter()
    outcome = check(workers, spec, candidate, make_plan(spec, seed=seed), target=target, deadline_s=120)
    seconds = time.perf_counter() - began
    argument = PLACES[spec.name].argument
    found = {"found": not outcome.passed, "named": False, "replayed": False, "seconds": seconds, "size": None}
    if not outcome.passed and "draw" in outcome.detail:
        draw = Draw.from_json(outcome.detail["draw"])
        size = found["size"] = draw.values[argument]
        found["named"] = (size % 64 == 37) if bug == "% 64 == 37" else f"== {size}" == bug
        found["replayed"] = not check(workers, spec, candidate, of_draws(spec, [draw]), target=target, deadline_s=120).passed
    return found


def pin(turns: Any, share: int) -> None:
    """Give this process ``share`` cores of its own, so that jobs do not disturb each other."""
    cores = sorted(os.sched_getaffinity(0))
    with turns.get_lock():
        first = turns.value * share
        turns.value += 1
    os.sched_setaffinity(0, [cores[(first + place) % len(cores)] for place in range(share)])


def run_spec(name: str, seeds: int) -> list[dict[str, Any]]:
    """Both bugs of one kernel."""
    spec = collect()[name]
    place = PLACES[name]
    domain = spec.vary[place.argument]
    if not isinstance(domain, Sizes) or not domain.contains(place.largest):
        raise RuntimeError(f"{name}: {place.largest} is not among {domain}")
    file = SUITES / "kernels" / name / "cpu.cpp"
    source = file.read_text() if file.exists() else distinct(spec, 1)[0].source
    target = registry.load("targets", "cpu")
    rows = []
    with tempfile.TemporaryDirectory() as folder, Workers(sys_path=[path for path in sys.path if path], scratch=Path(folder)) as workers:
        for bug in ("% 64 == 37", f"== {place.largest}"):
            text = planted(source, name, f"{place.seen} {bug}")
            candidate = build(text, "cpp", spec=spec, target=target, cache=Path(folder) / "cache", timeout_s=120)
            if not isinstance(candidate, Candidate):
                raise RuntimeError(f"{name}: {candidate.message}")
            tries = [judge(spec, bug, candidate, workers, secrets.randbits(62)) for _ in range(seeds)]
            sizes = sorted({str(found["size"]) for found in tries})
            row: dict[str, Any] = {"kernel": name, "bug": f"{place.argument} {bug}", "runs": seeds, "shrunk to": ", ".join(sizes)}
            row |= {what: sum(found[what] for found in tries) for what in ("found", "named", "replayed")}
            rows.append(row | {"seconds a run": round(sum(found["seconds"] for found in tries) / seeds, 2)})
    return rows


def main() -> int:
    """Run all; exit 1 if any bug was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    parser.add_argument("--json", type=Path)
    parser.add_argument("names", nargs="*", default=sorted(PLACES))
    arguments = parser.parse_args()
    share = max(1, len(os.sched_getaffinity(0)) // arguments.jobs)
    turns = multiprocessing.Value("i", 0)
    with ProcessPoolExecutor(max_workers=arguments.jobs, initializer=pin, initargs=(turns, share)) as pool:
        futures = [pool.submit(run_spec, name, arguments.seeds) for name in arguments.names]
        rows = [row for future in futures for row in future.result()]
    print(tabulate(rows, headers="keys"))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(any(row[what] != row["runs"] for row in rows for what in ("found", "named", "replayed")))


if __name__ == "__main__":
    raise SystemExit(main())
