"""A target without its device: items are skipped with the reason, yet a wrong kernel, or one that does not compile, fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevolve import registry
from kevolve.elsewhere import architectures, planned
from kevolve.targets.cpu import CPU
from tests.languages.test_cuda import SMALL

TARGET = "cuda"
GPU = registry.load("targets", TARGET)
pytestmark = pytest.mark.skipif(GPU.missing() is None, reason="there is a GPU here")

SPEC = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def rms_norm(x, weight):
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.to(torch.float32)).to(x.dtype)

@kevolve.kernel(rms_norm, min_speedup=1.01, baseline=("eager",), vary=dict(rows=sizes(0, 16), cols=sizes(1, 64)))
@pytest.mark.parametrize("rows, cols", [(4096, 512)])
def test_rms_norm(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""
FOLDER = Path(__file__).parent / "languages"
NATIVE = SMALL.replace("scale", "rms_norm")
TRITON = (FOLDER / "rms_norm_triton.py").read_text()
OPTIONS = ("-p", "no:cacheprovider", "-rs", "--kevolve-target", TARGET)


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_spec=SPEC)
    (pytester.path / "kernels" / "rms_norm").mkdir(parents=True)
    return pytester


def write(project: pytest.Pytester, name: str, text: str) -> None:
    (project.path / "kernels" / "rms_norm" / name).write_text(text)


def test_a_right_kernel_is_skipped_and_the_reason_says_what_was_checked_instead(project: pytest.Pytester) -> None:
    write(project, f"{TARGET}.py", TRITON)
    result = project.runpytest_subprocess(*OPTIONS, "--kevolve-record=r.json")
    result.assert_outcomes(skipped=2)
    reason = GPU.missing()
    shown = " ".join(result.stdout.str().split())
    assert (
        f"not measured: target {TARGET}: {reason}; the property item checks it on target cpu and compiles it for sm80, sm90, sm100" in shown
    )
    assert f"target {TARGET}: {reason}; checked instead: right on " in shown
    assert " draws on target cpu, compiled for sm80 (" in shown
    assert "compiled for sm100 (" in shown
    assert "correct; not measured" not in shown


def test_a_wrong_kernel_fails_in_the_interpreter(project: pytest.Pytester) -> None:
    write(project, f"{TARGET}.py", TRITON.replace("mask=at < cols, other=0.0", "mask=at < cols, other=1.0", 1))
    result = project.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*output 0 (float32 *differ*"])


def test_a_kernel_that_only_an_interpreter_takes_fails(project: pytest.Pytester) -> None:
    """Clusters of three blocks: the interpreter asks nobody, the compiler knows none."""
    write(project, f"{TARGET}.py", TRITON.replace("num_warps=4", "num_warps=4, num_ctas=3"))
    result = project.runpytest_subprocess(*OPTIONS, "-k", "properties")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["does not compile for sm90: *"])


def test_no_kernel_is_skipped_with_the_reason(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(skipped=2)


def test_a_native_kernel_is_compiled_only(project: pytest.Pytester) -> None:
    missing = registry.load("languages", "cuda").missing()
    if missing is not None:
        pytest.skip(missing)
    write(project, f"{TARGET}.cu", NATIVE)
    result = project.runpytest_subprocess(*OPTIONS, "-k", "properties")
    result.assert_outcomes(skipped=1)
    assert "checked instead: compiled for sm80, compiled for sm90, compiled for sm100" in " ".join(result.stdout.str().split())
    write(project, f"{TARGET}.cu", NATIVE.replace("2 * x[at]", "twicee(x[at])"))
    failed = project.runpytest_subprocess(*OPTIONS, "-k", "properties")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(['does not compile for sm80: kernel.cu(*): error: identifier "twicee" is undefined'])


def test_a_file_for_one_architecture_is_compiled_for_that_one(project: pytest.Pytester) -> None:
    write(project, f"{TARGET}-sm90.py", TRITON)
    result = project.runpytest_subprocess(*OPTIONS, "-k", "properties")
    result.assert_outcomes(skipped=1)
    shown = result.stdout.str()
    assert "compiled for sm90" in shown
    assert "compiled for sm80" not in shown


def test_requiring_measurements_fails_the_skipped(project: pytest.Pytester) -> None:
    write(project, f"{TARGET}.py", TRITON)
    result = project.runpytest_subprocess(*OPTIONS, "--kevolve-require-measured", "-k", "4096")
    result.assert_outcomes(failed=1)


def test_a_target_with_its_device_has_one_architecture() -> None:
    assert architectures(CPU()) == (CPU().device()["arch"],)
    assert architectures(GPU) == (None, "sm80", "sm90", "sm100")


def test_a_target_that_names_no_other_checks_nothing_elsewhere() -> None:
    assert planned(CPU(), registry.load("languages", "triton")) == ""
