"""Every fault a kernel can make on a GPU, and after each a correct kernel: its time against the time before.

``python benchmarks/faults_gpu.py --json reports/faults_h200.json``
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ("illegal_address", "misaligned_access", "device_assert", "out_of_resources", "out_of_memory", "endless")
SHAPE = (8192, 4096)
DEADLINE_S = 6.0


def main() -> None:
    """Run the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", nargs="+", default=list(FAULTS))
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    from benchmarks.aa_gpu import target
    from kevolve.evaluate.client import Workers

    with tempfile.TemporaryDirectory() as scratch, Workers(sys_path=[str(ROOT)], scratch=Path(scratch)) as workers:
        time_right(workers, 1)
        rows, before = [], time_right(workers, 2)
        for number, fault in enumerate(arguments.faults):
            rows.append(one(workers, fault, number, before))
            before = rows[-1]["after_us"]
            print(rows[-1], flush=True)
    print(tabulate([{**row, "message": row["message"][:90]} for row in rows], headers="keys", floatfmt=".3f"))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"environment": dict(target().device()), "results": rows}, indent=1) + "\n")


def one(workers: Any, fault: str, number: int, before: float) -> dict[str, Any]:
    """A fault, and a correct kernel's time after it beside the time before."""
    start = time.perf_counter()
    outcome = checked(workers, fault)
    seconds = time.perf_counter() - start
    after = time_right(workers, number + 10)
    row = {"fault": fault, "status": outcome.status.value, "seconds": seconds, "before_us": before, "after_us": after}
    return row | {"change_%": 100 * (after / before - 1), "message": outcome.message.replace("\n", " | ")}


def checked(workers: Any, kernel: str, rows: int = 64) -> Any:
    """A kernel on one small draw."""
    from benchmarks.aa_gpu import spec_of, target
    from kevolve.evaluate.candidate import Candidate
    from kevolve.evaluate.check import check
    from kevolve.evaluate.plan import of_draws
    from kevolve.spec.spec import Draw

    spec, _ = spec_of(SHAPE)
    candidate = Candidate(name=kernel, language="triton", entry=kernel, callable=f"benchmarks.fault_kernels:{kernel}")
    plan = of_draws(spec, [Draw(values={"rows": rows, "cols": 256}, seed=1)])
    return check(workers, spec, candidate, plan, target=target(), deadline_s=DEADLINE_S)


def time_right(workers: Any, seed: int) -> float:
    """The correct kernel's replayed time, microseconds: the median over three pairs."""
    from benchmarks.aa_gpu import spec_of, target
    from kevolve.evaluate.candidate import Candidate
    from kevolve.evaluate.timing import measure

    spec, case = spec_of(SHAPE)
    right = Candidate(name="right", language="triton", entry="right", callable="benchmarks.fault_kernels:right")
    found = measure(workers, spec, case, right, target=target(), baselines=("eager",), seed=seed, pairs=3)
    if not found.outcome.passed:
        raise SystemExit(f"the correct kernel: {found.outcome.status}: {found.outcome.message}")
    return float(found.time_us["replayed"] or found.time_us["launched"] or 0.0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
