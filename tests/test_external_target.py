"""A target that a package outside the tree registers is used like a built-in one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

SPEC = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def scaled(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

@kevolve.kernel(scaled, min_speedup=2.0, baseline=("eager",), vary=dict(cols=sizes(1, 64)))
@pytest.mark.parametrize("rows, cols", [(8, 64)])
def test_scaled(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""


@pytest.fixture
def installed(pytester: pytest.Pytester, abacus_as: Callable[..., None]) -> pytest.Pytester:
    """A project beside the package."""
    abacus_as("abacus")
    pytester.makepyfile(test_scaled=SPEC)
    return pytester


def test_a_modelled_target_from_another_package_is_optimised_for_with_exact_figures(installed: pytest.Pytester) -> None:
    arguments = ("--kevolve-target", "abacus", "-p", "no:cacheprovider", "--kevolve-record", "record.json")
    result = installed.runpytest_subprocess("--kevolve-optimize", "--kevolve-budget", "evaluations=2", *arguments)
    result.assert_outcomes(passed=2)
    assert (installed.path / "kernels" / "scaled" / "abacus.cpp").exists()
    first = json.loads((installed.path / "record.json").read_text())["results"]
    result = installed.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=2)
    second = json.loads((installed.path / "record.json").read_text())["results"]
    assert first[0]["time_us"] == second[0]["time_us"]
    assert first[0]["speedup"]["eager"] == second[0]["speedup"]["eager"]
    assert first[0]["status"] == "PASSED"


def test_a_run_that_is_killed_leaves_the_record_of_what_it_found(installed: pytest.Pytester) -> None:
    killed = SPEC + "\n\ndef test_the_machine_goes_down():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    installed.makepyfile(test_scaled=killed)
    arguments = ("--kevolve-target", "abacus", "-p", "no:cacheprovider", "--kevolve-record", "record.json")
    result = installed.runpytest_subprocess("--kevolve-optimize", "--kevolve-budget", "evaluations=2", *arguments)
    assert result.ret == -9
    record = json.loads((installed.path / "record.json").read_text())
    assert [row["status"] for row in record["results"]] == ["PASSED"]
    assert [row["status"] for row in record["properties"]] == ["PASSED"]
