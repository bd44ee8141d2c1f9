"""Microseconds of lowered C++ beside eager, torch.compile and the kernel that is committed: quick to read, no verdict.

``python -m benchmarks.lowering.times [NAME…] [--folder suites] [--compile]`` calls all sides in turns in one process on each case of the
CPU and prints the least quartile of each. The verdicts with intervals are ``benchmarks.lowering.run``'s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SECONDS = 0.5  # a side and case
IN_A_ROW = 3


def main() -> None:
    """Print a line a case, and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="specs (default: all)")
    parser.add_argument("--folder", type=Path, default=HERE, help="of the tests (default: the sixty references)")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported: the sides' threads share the cores

    from benchmarks.specs import collect
    from kevolve.evaluate.statistics import geometric_mean

    specs = collect(folder=options.folder)
    ratios: dict[str, list[float]] = {}
    for name in options.names or specs:
        for case, times in measured(specs[name], options.folder / "kernels" / name / "cpu.cpp", compiled=options.compile):
            others = {side: us / times["lowered"] for side, us in times.items() if side != "lowered"}
            for side, ratio in others.items():
                ratios.setdefault(side, []).append(ratio)
            said = "  ".join(f"{side} {ratio:.2f}x" for side, ratio in others.items())
            print(f"{name:24s} {case:28s} {times['lowered']:10.1f} us  over {said}", flush=True)
    for side, found in ratios.items():
        print(f"over {side}: {geometric_mean(found):.2f}x ({len(found)} cases)")


def measured(spec: Any, committed: Path, *, compiled: bool) -> list[tuple[str, Mapping[str, float]]]:
    """By case the microseconds of each side; nothing where the reference is not covered, which is said."""
    import torch

    from kevolve.evaluate.materialise import materialise
    from kevolve.operators.lowering import drafted
    from kevolve.spec.reference import resolve
    from kevolve.spec.spec import Draw

    draft = drafted(spec, "cpp")
    if draft.problem:
        print(f"{spec.name:24s} {draft.problem}")
        return []
    found = []
    with tempfile.TemporaryDirectory() as folder:
        kernels = {"lowered": _loaded(draft.source, spec, Path(folder))}
        if committed.exists():
            kernels["committed"] = _loaded(committed.read_text(), spec, Path(folder))
        for case in spec.cases:
            inputs = materialise(spec, Draw(values=case.values, seed=1))
            reference = resolve(spec.reference, case.values)
            sides = {"eager": reference, **kernels}
            if compiled:
                torch._dynamo.reset()
                sides["compile"] = torch.compile(reference, dynamic=False)
            found.append((case.id, in_turns({side: partial(call, *inputs) for side, call in sides.items()})))
    return found


def _loaded(source: str, spec: Any, cache: Path) -> Callable[..., Any]:
    from kevolve import registry
    from kevolve.evaluate.build import build
    from kevolve.evaluate.outcome import Outcome

    target = registry.load("targets", "cpu")
    built = build(source, "cpp", spec=spec, target=target, cache=cache, timeout_s=120)
    if isinstance(built, Outcome) or built.artifact is None:
        raise SystemExit(f"{spec.name}: {built}")
    call: Callable[..., Any] = registry.load("languages", "cpp").load(built.artifact, entry=spec.name, target=target).call
    return call


def in_turns(sides: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The least quartile of each side's calls, microseconds."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    end = time.perf_counter() + SECONDS * len(sides)
    while time.perf_counter() < end or min(map(len, times.values())) < 2 * IN_A_ROW:
        for side, call in sides.items():
            call()
            for _ in range(IN_A_ROW):
                begin = time.perf_counter()
                call()
                times[side].append(time.perf_counter() - begin)
    return {side: sorted(found)[len(found) // 4] * 1e6 for side, found in times.items()}


if __name__ == "__main__":
    main()
