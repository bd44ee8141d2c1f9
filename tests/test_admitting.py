"""A weak spec fails its own tests, in every mode, before any of its kernels is judged."""

from __future__ import annotations

import json

import pytest
import torch

from tests.gate.gitted import commit, git, write
from tests.plain_kernel import NORMALISE

assert torch  # imported before pytester takes its snapshot of modules: torch cannot be imported twice

QUICK = ("-p", "no:cacheprovider", "--kevolve-seed=1")
WEAK = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def relu(x):
    return torch.relu(x)

@kevolve.kernel(relu, baseline=("eager",), vary=dict(n=sizes(1, 3000)){more})
@pytest.mark.parametrize("n", [2000])
def test_relu(n):
    return Tensor(n, low=0.0, high=1.0)
"""
GOOD = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

EPS = 1e-6

def normalise(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight

@kevolve.kernel(normalise, min_speedup=0.01, baseline=("eager",), vary=dict(rows=sizes(0, 8), cols=sizes(1, 80)))
@pytest.mark.parametrize("rows, cols", [(8, 64)])
def test_normalise(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""


@pytest.mark.parametrize("mode", [(), ("--kevolve-optimize",)])
def test_a_weak_spec_fails_with_the_impostor_the_draw_the_tolerance_and_the_remedy(
    pytester: pytest.Pytester, mode: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_spec=WEAK.format(more=""))
    result = pytester.runpytest_subprocess(*QUICK, *mode)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "test_spec.py::test_relu: the spec is too weak to judge kernels: 1 of 10 impostors pass it",
            "  impostor 'input 0': the input 'x' passed through",
            '    passed all * draws that it could be made for, {"values":{"n":*},"seed":*} among them',
            "    tolerance there: * of the output's scale",
            "    to strengthen the spec: let the input 'x' have both signs: *",
            '    or, if a right kernel looks like that: admits={"input 0": "the reason"}',
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert not (pytester.path / "kernels").exists(), "no search is begun for a spec that cannot judge"


def test_the_gate_says_so_too(pytester: pytest.Pytester) -> None:
    write(pytester.path, "test_spec.py", WEAK.format(more=""))
    git(pytester.path, "init", "-q")
    commit(pytester.path, "a spec")
    write(pytester.path, "kernels/relu/cpu.cpp", NORMALISE)
    result = pytester.runpytest_subprocess(*QUICK, "--kevolve-gate=HEAD", "-k", "properties")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the spec is too weak to judge kernels: 1 of 10 impostors pass it"])


def test_collecting_looks_at_no_spec(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=WEAK.format(more=""))
    result = pytester.runpytest_subprocess(*QUICK, "--collect-only", "-q")
    assert result.ret == 0
    assert not (pytester.path / ".kevolve").exists()


def test_a_declared_way_out_lets_it_pass_and_stands_in_the_record(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=WEAK.format(more=', admits={"input 0": "pixels are never negative"}'))
    result = pytester.runpytest_subprocess(*QUICK, "--kevolve-record=r.json")
    result.stdout.fnmatch_lines(["no kernel of relu for target cpu*"])
    record = json.loads((pytester.path / "r.json").read_text())
    admission = record["properties"][0]["admission"]
    assert admission["admitted"] == {"input 0": "pixels are never negative"}
    assert (admission["tried"], len(admission["refused"])) == (10, 9)
    assert record["results"][0]["impostors"] == {"tried": 10, "refused": 9}


def test_a_wrong_way_out_is_an_error_at_collection(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=WEAK.format(more=', admits={"identity": "a copy"}'))
    result = pytester.runpytest_subprocess(*QUICK)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*admits: expected one of zeros, *got 'identity'*"])


def test_a_good_spec_is_looked_at_once_and_remembered_on_disk(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEVOLVE_CACHE", str(pytester.path / "cache"))  # its own: other workers' specs are remembered in the shared one
    pytester.makepyfile(test_spec=GOOD)
    kernel = pytester.path / "kernels" / "normalise" / "cpu.cpp"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(NORMALISE)
    first = pytester.runpytest_subprocess(*QUICK, "-k", "properties", "--kevolve-record=r.json")
    first.assert_outcomes(passed=1, deselected=1)
    (made,) = (pytester.path / "cache" / "admission").glob("*.json")
    stamp = made.stat().st_mtime_ns
    said = json.loads((pytester.path / "r.json").read_text())["properties"][0]["admission"]
    assert said["tried"] == len(said["refused"]) == 14
    again = pytester.runpytest_subprocess(*QUICK, "-k", "properties", "--kevolve-record=r.json")
    again.assert_outcomes(passed=1, deselected=1)
    assert made.stat().st_mtime_ns == stamp
    assert json.loads((pytester.path / "r.json").read_text())["properties"][0]["admission"] == said
