"""The gate without a device: what it finds of planted regressions, whether it flags harmless edits, and how long the suites take.

``python -m benchmarks.gate_static [planted] [harmless] [suites]``: all of them by default. Prints tables for people; no GPU is used.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kevolve import registry
from kevolve.evaluate.client import Limits, Workers
from kevolve.gate.static import compare, fails
from kevolve.report.values import Figure
from kevolve.spec.spec import Spec
from tests.gate.harmless import harmless
from tests.gate.planted import KERNELS, REGRESSIONS, rendered

JOBS = 2
_SAMPLES = {"wukong_fm": "factorisation_machine", "conv1d": "conv1d_padded"}  # of suites that are named otherwise
_LIMITS = Limits(memory_bytes=4 << 30, processes=24)


class Comparing:
    """Comparisons for the target whose kernels are written in Triton, in one folder."""

    def __init__(self, workers: Workers, folder: Path) -> None:
        self.target = registry.load("targets", "cuda")
        self.language = registry.load("languages", "triton")
        self._workers, self._folder = workers, folder

    def figures(self, spec: Spec, old: str, new: str) -> tuple[Figure, ...]:
        """Of both sources, on every architecture and in the interpreter."""
        cache = self._folder / "cache"
        return compare(spec, self.language, old, new, target=self.target, workers=self._workers, cache=cache, jobs=JOBS)


@contextmanager
def comparing() -> Iterator[Comparing]:
    """A fresh cache, so that everything is compiled and counted."""
    with tempfile.TemporaryDirectory() as folder, Workers(sys_path=sys.path, scratch=Path(folder) / "scratch", limits=_LIMITS) as workers:
        yield Comparing(workers, Path(folder))


def said(figure: Figure) -> str:
    """``occupancy 0.56 -> 0.12 (sm90 normalise[…])``."""
    return f"{figure.name} {figure.old:g} -> {figure.new:g}, allowed {figure.allowed:g} ({figure.where})"


def planted(work: Comparing) -> None:
    """One line a regression: whether a named figure is beyond its allowance, where, and all names that moved."""
    found = 0
    for regression in REGRESSIONS:
        kernel, start = KERNELS[regression.kernel], time.perf_counter()
        failed = fails(work.figures(kernel.spec, kernel.source, regression.source))
        named = [figure for figure in failed if figure.name in regression.figures]
        found += bool(named)
        print(f"{'found' if named else 'MISSED':7}{regression.kernel:18} {regression.kind} ({time.perf_counter() - start:.1f} s)")
        print(f"       {said(named[0]) if named else ''}")
        print(f"       all: {', '.join(dict.fromkeys(figure.name for figure in failed))}")
        wheres = dict.fromkeys(figure.where.partition(" ")[0] for figure in named)
        print(f"       where: {', '.join(wheres)}", flush=True)
    print(f"{found} of {len(REGRESSIONS)} regressions found, in {len({regression.kernel for regression in REGRESSIONS})} kernels")


def unflagged(work: Comparing) -> None:
    """One line an edit that is flagged, and how many there are."""
    edits, flagged = list(harmless()), 0
    for name, what, source in edits:
        failed = fails(work.figures(KERNELS[name].spec, KERNELS[name].source, source))
        flagged += bool(failed)
        if failed:
            print(f"FLAGGED {name}, {what}: {said(failed[0])}", flush=True)
    print(f"{flagged} of {len(edits)} harmless edits flagged")


def suites(work: Comparing) -> None:
    """Every suite's Triton kernel (its file, else the sample's default) against itself with a comment: seconds each, everything fresh."""
    from benchmarks.specs import collect

    specs, total = collect("cuda"), 0.0
    for name, spec in sorted(specs.items()):
        file = spec.folder / "kernels" / name / "cuda.py"
        source = file.read_text() if file.exists() else rendered(_SAMPLES.get(name, name), name, spec.reference.inputs)
        start = time.perf_counter()
        figures = work.figures(spec, source, f"{source}\n# the end\n")
        seconds = time.perf_counter() - start
        total += seconds
        problems = "; ".join(said(figure) for figure in fails(figures))
        print(f"{name:22} {seconds:6.1f} s  {len(figures):5} figures  {problems}", flush=True)
    print(f"{len(specs)} suites in {total:.1f} s with {JOBS} processes")


def main(wanted: list[str]) -> None:
    """Print what is asked for."""
    parts = {"planted": planted, "harmless": unflagged, "suites": suites}
    for name in wanted or list(parts):
        with comparing() as work:
            start = time.perf_counter()
            parts[name](work)
            print(f"{name}: {time.perf_counter() - start:.1f} s\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
