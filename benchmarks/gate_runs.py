"""Whole runs of ``pytest --kevolve-gate`` in a repository of kernels of about 5, 38 and 130 us on a GPU: exit codes and verdicts.

Each run is a session of its own on a branch whose kernels' texts differ from the main branch's and do the same (``--planted``: are slowed
by the extra work named, as ``gate_gpu.py`` calibrated it). ``--at-once``: sessions side by side, each in a repository of its own, as jobs
of a runner with one device are: they take turns with it. ``python benchmarks/gate_runs.py --runs 20 --at-once 4 --json runs.json``
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPEC = """
import kevolve, pytest
from kevolve import Tensor, sizes
from reference_ops.{module} import {operator}


@kevolve.kernel({operator}, min_speedup=0.001, baseline=("eager",), vary=dict(rows=sizes(0, 64), cols=sizes(1, 1024)))
@pytest.mark.parametrize("rows, cols", [{shape}])
def test_{operator}(rows, cols):
    return Tensor(rows, cols, dtype="{dtype}"), Tensor({other}, dtype="{dtype}")
"""


def main() -> None:
    """Run the sessions and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument(
        "--planted", nargs="*", default=[], metavar="NAME=EXTRA", help="5=118 38=402 …: extra work by kernel; others as they were"
    )
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no run after so long")
    parser.add_argument("--json", type=Path, help="write the results here, after every run")
    arguments = parser.parse_args()
    extra = {name: int(work) for name, _, work in (given.partition("=") for given in arguments.planted)}
    end, found, lock = time.monotonic() + arguments.seconds, list[dict[str, Any]](), threading.Lock()
    numbers = iter(range(1, arguments.runs + 1))  # of all threads: `next` of a range's iterator is one step

    def sessions(folder: Path, most: int = arguments.runs) -> None:
        _repository(folder, arguments.target)
        for number in itertools.islice(numbers, most):
            if time.monotonic() > end:
                return
            run = _run(folder, arguments.target, number, extra)
            with lock:
                found.append(run)
                print(json.dumps({name: run[name] for name in ("exit", "seconds", "verdicts")}), flush=True)
                if arguments.json is not None:
                    told = {"target": arguments.target, "extra": extra, "at_once": arguments.at_once, "runs": found}
                    arguments.json.write_text(json.dumps(told, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.at_once) as pool:
        sessions(Path(folder) / "first", 1)  # alone: what is measured once of a device is kept for all after it
        for done in [pool.submit(sessions, Path(folder) / str(place)) for place in range(arguments.at_once)]:
            done.result()
    print("exit codes", dict(Counter(run["exit"] for run in found)))
    print("verdicts", dict(Counter(f"{name} {verdict}" for run in found for name, verdict in run["verdicts"].items())))


def _repository(folder: Path, target: str) -> None:
    """The main branch, a folder a kernel, and the branch of the change."""
    from benchmarks.gate_gpu import CPU, GPU

    folder.mkdir()
    _git(folder, "init", "-q")
    (folder / ".gitignore").write_text(".kevolve/\n__pycache__/\n.hypothesis/\nrecord.json\n")
    for subject in CPU if target == "cpu" else GPU:
        module, other = ("activations", "rows, cols") if subject.operator == "swiglu" else ("norms", "cols")
        place = folder / f"us_{subject.name}"
        place.mkdir()
        fields = {"operator": subject.operator, "shape": subject.shape, "dtype": subject.dtype}
        (place / f"test_us_{subject.name}.py").write_text(SPEC.format(module=module, other=other, **fields))
    _write(folder, target, 0, {})
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "-m", "kernels")
    _git(folder, "checkout", "-q", "-b", "change")


def _write(folder: Path, target: str, variant: int, extra: Mapping[str, int]) -> None:
    from benchmarks.gate_gpu import CPU, GPU

    for subject in CPU if target == "cpu" else GPU:
        name = f"{target}.{'cpp' if target == 'cpu' else 'py'}"
        file = folder / f"us_{subject.name}" / "kernels" / subject.operator / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(subject.text.format(variant=variant, extra=extra.get(subject.name, 0)))


def _git(folder: Path, *arguments: str) -> None:
    named = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *named, *arguments], cwd=folder, check=True)


def _run(folder: Path, target: str, variant: int, extra: Mapping[str, int]) -> dict[str, Any]:
    """One session, its cases alone: the property items are checks, which no clock decides."""
    _write(folder, target, variant, extra)
    options = ("--kevolve-gate", "--kevolve-record=record.json", f"--kevolve-target={target}", "-p", "no:cacheprovider", "-q")
    command = [sys.executable, "-m", "pytest", *options, "-k", "not properties", "--import-mode=importlib"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    record, start = folder / "record.json", time.perf_counter()
    record.unlink(missing_ok=True)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    row: dict[str, Any] = {"exit": done.returncode, "seconds": round(time.perf_counter() - start, 1), "verdicts": {}}
    if not record.exists():
        return row | {"output": done.stdout[-3000:] + done.stderr[-1000:]}
    gate = json.loads(record.read_text()).get("gate", [])
    named = {f"{verdict['spec']}[{verdict['case']}]": verdict for verdict in gate}
    row |= {"verdicts": {name: verdict["verdict"] for name, verdict in named.items()}, "rows": gate}
    return row | ({"output": done.stdout[-3000:]} if done.returncode else {})


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
