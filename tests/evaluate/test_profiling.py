"""Profilers around a candidate in its confined process: perf where there is one, and kernels that do not let themselves be watched."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Workers
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.profiling import profile, profile_text
from kevolve.evaluate.timing import timed_pool
from kevolve.spec.spec import Spec
from kevolve.targets.cpu import CPU
from kevolve.targets.perf import Perf
from kevolve.targets.profile import Profile
from tests.plain_kernel import NORMALISE
from tests.spool.project import CASES, declared


class Silent:
    """Stands for the target's profiler in the judge: starts nothing, reads nothing."""

    name = Perf.name
    most_calls = 7

    def __init__(self, missing: str | None = None, *, needs_network: bool = False) -> None:
        self._missing, self.needs_network = missing, needs_network

    def missing(self) -> str | None:
        return self._missing

    def command(self, folder: Path) -> list[str]:
        return []

    def read(self, folder: Path, *, calls: int) -> Profile:
        raise AssertionError("nothing was left to read")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("profiled")
    with declared(folder) as spec, Workers(sys_path=sys.path, scratch=folder / "scratch") as workers:
        pool = timed_pool(spec, CASES[0], seed=1)
        yield SimpleNamespace(folder=folder, spec=spec, workers=workers, pool=pool, cache=folder / "cache")
        pool.close()


def candidate(project: SimpleNamespace, source: str = NORMALISE) -> Candidate:
    built = build(source, "cpp", spec=project.spec, target=CPU(), cache=project.cache, timeout_s=60)
    assert isinstance(built, Candidate)
    return built


def asked(project: SimpleNamespace, *profilers: object, source: str = NORMALISE, deadline_s: float = 60.0) -> tuple[Profile | None, str]:
    """``profilers`` in place of the target's; the confined process looks them up by name among the target's own."""
    target: Any = SimpleNamespace(name=CPU.name, environment=CPU().environment, profilers=profilers)
    spec: Spec = project.spec
    pool: Pool = project.pool
    found, reasons = profile(project.workers, spec, candidate(project, source), pool, target=target, deadline_s=deadline_s, seed=3)
    return found, profile_text(found, reasons, "64-512")


def test_perf_counts_the_calls_of_a_confined_kernel(project: SimpleNamespace) -> None:
    missing = Perf().missing()
    if missing is not None:
        pytest.skip(missing)
    found, text = asked(project, *CPU.profilers)
    assert found is not None, text
    assert 1 <= found.calls <= Perf.most_calls
    counted = {counter.name: counter.value for counter in found.counters}
    assert 0 < counted["processor time"] < 1e6
    assert text.startswith("On case `64-512`: perf stat, per call over ")
    assert len(text.splitlines()) <= 20
    assert list(project.folder.glob("**/perf.csv")) == []


def test_a_kernel_that_crashes_takes_nothing_with_it_and_the_reason_is_told(project: SimpleNamespace) -> None:
    found, text = asked(project, Silent(), source=NORMALISE.replace("double sum = 0;", "double sum = 0; __builtin_trap();"))
    assert found is None
    assert text.startswith("No figures from perf stat: the process ended early")


def test_a_kernel_that_never_ends_is_ended_with_all_its_processes_at_the_deadline(project: SimpleNamespace) -> None:
    endless = NORMALISE.replace("double sum = 0;", "double sum = 0; volatile int on = 1; while (on) {}")
    before = running(project.folder)
    _, text = asked(project, Silent(), source=endless, deadline_s=8.0)
    assert text == "No figures from perf stat: not done within 8 s."
    assert running(project.folder) == before


def running(folder: Path) -> set[str]:
    """Processes whose working directory lies below ``folder``."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "cwd").resolve().is_relative_to(folder):
                found.add(path.name)
    return found


def test_a_profiler_that_is_missing_is_passed_over_with_the_reason(project: SimpleNamespace) -> None:
    found, text = asked(project, Silent("no such program"))
    assert (found, text) == (None, "No figures from perf stat: no such program.")


def test_a_target_without_profilers_has_nothing_to_say(project: SimpleNamespace) -> None:
    assert asked(project) == (None, "")
