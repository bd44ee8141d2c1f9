"""Kill -9 at a hundred random moments on a modelled accelerator: nothing hangs, nothing is lost, no figure changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks import faults
from kevolve.evaluate.client import Limits

ABACUS = Path(__file__).parents[1] / "abacus" / "abacus.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site folder with the accelerator's package, as pip leaves it."""
    made = tmp_path_factory.mktemp("site")
    info = made / "abacus-1.0.dist-info"
    info.mkdir()
    shutil.copy(ABACUS, made)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kevolve.targets]\nabacus = abacus:Abacus\n")
    return made


def test_children_and_servers_killed_in_the_middle_of_evaluations_change_nothing_after(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    from abacus import Abacus

    limits = Limits(memory_bytes=1 << 30)
    with faults.bench(Abacus(), tmp_path, sys_path=(str(site),), pairs=1, sizes=(37,), limits=limits) as made:
        found = faults.kill_at_random(made, {"child": 94, "server": 2}, seed=7)
    assert (found.blamed, found.failed_after) == ((), ())
    assert len(found.after_us) == 96
    assert set(found.after_us) == set(found.before_us), "a modelled time is exact"
    assert found.longest_s < 60
    assert found.statuses.get("PASSED", 0) < sum(found.statuses.values()), "no moment met an evaluation"


def test_whole_runs_killed_at_random_lose_nothing_and_leave_no_process(site: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}
    arguments = ["--kevolve-target", "abacus", "--kevolve-budget", "evaluations=4"]
    found = faults.kill_runs(tmp_path, arguments, kills=4, most_s=5.0, seed=5, environment=environment)
    assert (found.lost, found.left_behind, found.finished) == (0, 0, True), found.said
    assert found.nodes[-1] > 0, found.said
