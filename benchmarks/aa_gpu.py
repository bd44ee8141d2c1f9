"""A/A on a GPU: equal kernels under two names at about 5, 38 and 130 us; how often the interval covers 1, and what a verdict costs.

Run it alone on the device: ``python benchmarks/aa_gpu.py --verdicts 100 --json reports/aa_h200.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
SHAPES = ((256, 1024), (8192, 4096), (131072, 1024))
TARGET = "cuda"


def reference(x: torch.Tensor) -> torch.Tensor:
    """The one name. Floating [rows, cols] to the same."""
    return torch.sigmoid(x)


def candidate(x: torch.Tensor) -> torch.Tensor:
    """The other. Floating [rows, cols] to the same."""
    return torch.sigmoid(x)


def main() -> None:
    """Run the verdicts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=100, help="verdicts a shape")
    parser.add_argument("--shapes", type=int, nargs="+", default=[0, 1, 2], help=f"which of {SHAPES}")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=1, help="verdicts under way, as the cases of an acceptance are (kevolve.optimise)")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop a shape after so long")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    from kevolve.evaluate.client import Workers
    from kevolve.evaluate.scatter import scatter

    with tempfile.TemporaryDirectory() as scratch, Workers(sys_path=[str(ROOT)], scratch=Path(scratch)) as workers:
        rows = []
        between = scatter(workers, target(), Path(scratch), clock=time.perf_counter)
        print(between, flush=True)
        for number in arguments.shapes:
            rows.append(run(workers, SHAPES[number], arguments, between))
            print(_line(rows[-1]), flush=True)
    print(tabulate([_line(row) for row in rows], headers="keys", floatfmt=".3f"))
    if arguments.json is not None:
        found = {"environment": dict(target().device()), "scatter": asdict(between), "results": rows}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def run(workers: Any, shape: tuple[int, int], arguments: argparse.Namespace, between: Any) -> dict[str, Any]:
    """Verdicts on kernels of one shape, each with contents, buffers and a candidate's process of its own."""
    end = time.monotonic() + arguments.seconds

    def one(number: int) -> dict[str, Any] | None:
        if time.monotonic() >= end:
            return None
        at = number % arguments.at_once  # those under way have baselines of their own, as different cases have
        return verdict(workers, shape, arguments.seed + 1000 * number, between, pairs=arguments.pairs, at=at)

    with ThreadPoolExecutor(max_workers=arguments.at_once) as threads:
        found = [one for one in threads.map(one, range(arguments.verdicts)) if one is not None]
    return {"shape": shape, "at_once": arguments.at_once, "verdicts": found}


def target() -> Any:
    """The GPU."""
    from kevolve import registry

    return registry.load("targets", TARGET)


def verdict(workers: Any, shape: tuple[int, int], seed: int, between: Any, *, pairs: int = 7, at: int = 0) -> dict[str, Any]:
    """One paired timing; seconds with and without making the contents. ``at``: whose baselines it takes."""
    from kevolve.evaluate.candidate import Candidate
    from kevolve.evaluate.timing import measure, timed_pool

    spec, case = spec_of(shape, at)
    one = Candidate(name="candidate", language="triton", entry="candidate", callable="benchmarks.aa_gpu:candidate")
    began = time.perf_counter()
    with timed_pool(spec, case, seed=seed) as pool:
        start = time.perf_counter()
        found = measure(workers, spec, case, one, target=target(), baselines=("eager",), seed=seed, pool=pool, pairs=pairs, scatter=between)
        seconds = time.perf_counter() - start
    ratio = found.speedup.get("eager")
    row = {"status": found.outcome.status.value, "message": found.outcome.message, "seconds": seconds, "pool_s": start - began}
    if ratio is None:
        return row
    return row | {
        "launched_us": found.time_us["launched"],
        "replayed_us": found.time_us["replayed"],
        "eager_us": dict(found.baseline_us["eager"]),
        "estimate": ratio.estimate,
        "low": ratio.low,
        "high": ratio.high,
        "covers": ratio.covers(1.0),
        "pairs": found.pairs,
        "log_ratios": [round(ratio, 5) for ratio in found.log_ratios["eager"]],
        "verified": found.verified,
        "method": found.method,
    }


def spec_of(shape: tuple[int, int], at: int = 0) -> tuple[Any, Any]:
    """A sigmoid of bfloat16, and its case. ``at``: specs of different numbers share no processes."""
    from kevolve.spec.inputs import Tensor
    from kevolve.spec.reference import Reference
    from kevolve.spec.spec import Case, Spec

    spec = Spec(
        name="reference",
        nodeid="benchmarks/aa_gpu.py::test_reference",
        folder=ROOT / "benchmarks",
        describe=lambda rows, cols: (Tensor(rows, cols, dtype="bfloat16"),),
        reference=Reference(module="benchmarks.aa_gpu", qualname="reference", file=Path(__file__).resolve(), inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash=f"aa{at}",
        min_speedup=0.5,  # far from 1, so that no verdict asks for a second look
    )
    return spec, Case(id=f"{shape[0]}-{shape[1]}", values=dict(zip(("rows", "cols"), shape, strict=True)))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    found = [one for one in row["verdicts"] if "estimate" in one]
    failed = [one for one in row["verdicts"] if "estimate" not in one]
    line: dict[str, Any] = {
        "shape": "x".join(map(str, row["shape"])),
        "at once": row["at_once"],
        "verdicts": len(found),
        "failed": len(failed),
    }
    if not found:
        return line | {"why": failed[0]["message"][:300] if failed else ""}
    return line | {
        "launched us": median(one["launched_us"] for one in found),
        "replayed us": median(one["replayed_us"] or 0.0 for one in found),
        "cover 1": sum(one["covers"] for one in found),
        "half width %": 100 * median((one["high"] - one["low"]) / 2 for one in found),
        "max |ratio-1| %": 100 * max(abs(one["estimate"] - 1) for one in found),
        "s a verdict": median(one["seconds"] for one in found),
        "s contents": median(one["pool_s"] for one in found),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
