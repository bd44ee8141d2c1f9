"""Where a device times, the next spec's search begins beside the acceptance of a kernel; and ends with the run that began it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import pytest

DESK = """
from abacus import Abacus

class Desk(Abacus):
    name = "desk"
    shares_cores = False
"""

SPECS = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def scaled(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

def gated(x, y):
    return torch.sigmoid(x) * y

@kevolve.kernel(scaled, min_speedup=0.01, baseline=("eager",), vary=dict(cols=sizes(1, 64)))
@pytest.mark.parametrize("rows, cols", [(8, 64), (16, 64)])
def test_scaled(rows, cols):
    return Tensor(rows, cols), Tensor(cols)

{between}

@kevolve.kernel(gated, min_speedup=0.01, baseline=("eager",), vary=dict(cols=sizes(1, 64)))
@pytest.mark.parametrize("rows, cols", [(8, 64)])
def test_gated(rows, cols):
    return Tensor(rows, cols), Tensor(rows, cols)
"""
ARGUMENTS = ("--kevolve-target", "desk", "-p", "no:cacheprovider", "--kevolve-optimize", "--kevolve-budget", "evaluations=1")


@pytest.fixture
def project(pytester: pytest.Pytester, abacus_as: Callable[..., None]) -> pytest.Pytester:
    """A project whose target leaves the cores free while it times."""
    abacus_as("desk", "desk:Desk", desk=DESK)
    return pytester


def _asked(project: pytest.Pytester, query: str) -> list[tuple]:
    with closing(sqlite3.connect(project.path / ".kevolve" / "kevolve.db")) as store:
        return store.execute(query).fetchall()


def test_the_next_search_begins_before_a_kernel_is_written_and_is_told_in_its_turn(project: pytest.Pytester) -> None:
    project.makepyfile(test_two=SPECS.format(between=""))
    result = project.runpytest_subprocess(*ARGUMENTS)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["kevolve: scaled wrote *", "kevolve: gated on desk in cpp", "    1 *", "kevolve: gated wrote *"])
    (began,) = _asked(project, "select started from runs where id = 2")[0]
    written = datetime.fromtimestamp((project.path / "kernels" / "scaled" / "desk.cpp").stat().st_mtime, tz=UTC)
    assert datetime.fromisoformat(began) < written


def test_a_search_whose_turn_never_comes_records_nothing_of_the_end_and_the_next_run_goes_on(project: pytest.Pytester) -> None:
    project.makepyfile(test_two=SPECS.format(between='def test_enough():\n    pytest.exit("enough")'))
    result = project.runpytest_subprocess(*ARGUMENTS)
    assert "enough" in result.stdout.str()
    assert (project.path / "kernels" / "scaled" / "desk.cpp").exists()
    assert not (project.path / "kernels" / "gated").exists()
    assert len(_asked(project, "select id from runs")) == 2, "the second was begun"
    project.makepyfile(test_two=SPECS.format(between=""))
    result = project.runpytest_subprocess(*ARGUMENTS)
    result.assert_outcomes(passed=5)
    assert {status for (status,) in _asked(project, "select status from nodes")} <= {"PASSED", "TOO_SLOW"}
