"""A/A on the CPU: equal kernels under two names, how often the interval of their ratio covers 1, and what a verdict costs.

Run it alone on the machine: ``python benchmarks/aa_cpu.py --verdicts 100 --json reports/aa_cpu.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
COLS = 1024
SIZES_US = (20.0, 200.0, 5_000.0)


def reference(x: torch.Tensor) -> torch.Tensor:
    """The one name. Floating [rows, cols] to the same."""
    return torch.softmax(x, -1)


def candidate(x: torch.Tensor) -> torch.Tensor:
    """The other. Floating [rows, cols] to the same."""
    return torch.softmax(x, -1)


def main() -> None:
    """Run the verdicts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=100, help="verdicts a size")
    parser.add_argument("--sizes-us", type=float, nargs="+", default=list(SIZES_US), help="kernel times to aim at, microseconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    rows = [run(size_us, arguments.verdicts, arguments.seed) for size_us in arguments.sizes_us]
    print(tabulate([_line(row) for row in rows], headers="keys", floatfmt=".3f"))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"environment": dict(_cpu().device()), "results": rows}, indent=2) + "\n")


def run(size_us: float, verdicts: int, seed: int) -> dict[str, Any]:
    """``verdicts`` verdicts on kernels of about ``size_us`` microseconds."""
    from kevolve.evaluate.client import Workers

    with tempfile.TemporaryDirectory() as scratch, Workers(sys_path=[str(ROOT)], scratch=Path(scratch)) as workers:
        rows = _rows(workers, size_us)
        found = [_verdict(workers, rows, seed + 1000 * number) for number in range(verdicts)]
    return {"aimed_us": size_us, "rows": rows, "verdicts": found}


def _cpu() -> Any:
    from kevolve import registry

    return registry.load("targets", "cpu")


def _verdict(workers: Any, rows: int, seed: int) -> dict[str, Any]:
    from kevolve.evaluate.candidate import Candidate
    from kevolve.evaluate.timing import measure

    spec, case = _spec(rows)
    one = Candidate(name="candidate", language="cpp", entry="candidate", callable="benchmarks.aa_cpu:candidate")
    start = time.perf_counter()
    found = measure(workers, spec, case, one, target=_cpu(), baselines=("eager",), seed=seed)
    seconds = time.perf_counter() - start
    ratio = found.speedup["eager"]
    return {
        "status": str(found.outcome.status),
        "us": found.time_us["launched"],
        "estimate": ratio.estimate,
        "low": ratio.low,
        "high": ratio.high,
        "covers": ratio.covers(1.0),
        "pairs": found.pairs,
        "seconds": seconds,
    }


def _spec(rows: int) -> tuple[Any, Any]:
    from kevolve.spec.inputs import Tensor
    from kevolve.spec.reference import Reference
    from kevolve.spec.spec import Case, Spec

    spec = Spec(
        name="reference",
        nodeid="benchmarks/aa_cpu.py::test_reference",
        folder=ROOT / "benchmarks",
        describe=lambda rows: (Tensor(rows, COLS),),
        reference=Reference(module="benchmarks.aa_cpu", qualname="reference", file=Path(__file__).resolve(), inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash="aa",
    )
    return spec, Case(id=str(rows), values={"rows": rows})


def _rows(workers: Any, size_us: float) -> int:
    """Rows that take about ``size_us``, from two quick timings."""
    rows = 32
    for _ in range(3):
        rows = max(1, round(rows * size_us / _quick_us(workers, rows)))
    return rows


def _quick_us(workers: Any, rows: int) -> float:
    from kevolve.evaluate.candidate import Candidate
    from kevolve.evaluate.timing import quick

    spec, case = _spec(rows)
    one = Candidate(name="candidate", language="cpp", entry="candidate", callable="benchmarks.aa_cpu:candidate")
    found = quick(workers, spec, case, one, target=_cpu(), seed=1)
    return found.time_us or math.nan


def _line(row: dict[str, Any]) -> dict[str, Any]:
    found = row["verdicts"]
    return {
        "aimed us": row["aimed_us"],
        "median us": median(one["us"] for one in found),
        "verdicts": len(found),
        "cover 1": sum(one["covers"] for one in found),
        "median half width %": 100 * median((one["high"] - one["low"]) / 2 for one in found),
        "largest |ratio-1| %": 100 * max(abs(one["estimate"] - 1) for one in found),
        "seconds a verdict": median(one["seconds"] for one in found),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
