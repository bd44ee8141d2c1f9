"""What is said of a kernel here whose device is on another machine: really compiled for it, really run in the interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevolve import registry
from kevolve.evaluate.client import Workers
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.search.home_lab import HomeLab
from kevolve.spec.declaration import build_spec
from kevolve.spec.spec import Case
from tests.languages.test_cuda import SMALL

TARGET = "cuda"
GPU = registry.load("targets", TARGET)
pytestmark = pytest.mark.skipif(GPU.missing() is None, reason="there is a GPU here")

SPEC = """
import kevolve, torch
from kevolve import Tensor, sizes

def rms_norm(x, weight):
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.to(torch.float32)).to(x.dtype)

@kevolve.kernel(rms_norm, vary=dict(rows=sizes(0, 8), cols=sizes(1, 40)))
def test_rms_norm(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""
CASES = (Case(id="64-512", values={"rows": 64, "cols": 512}),)
TRITON = (Path(__file__).parents[1] / "languages" / "rms_norm_triton.py").read_text()
NATIVE = SMALL.replace("scale", "rms_norm")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HomeLab]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "home_lab_spec.py").write_text(SPEC)
    sys.path.insert(0, str(folder))
    try:
        import home_lab_spec  # type: ignore[import-not-found]

        yield HomeLab(
            spec=build_spec(home_lab_spec.test_rms_norm, nodeid="home_lab_spec.py::test_rms_norm", cases=CASES),
            cases=CASES,
            target=GPU,
            device="a device",
            arch="sm90",
            workers=Workers(sys_path=tuple(sys.path), scratch=folder, cache=folder / "cache"),
            kept=(),
            cache=folder / "cache",
            seed=1,
            jobs=1,
        )
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("home_lab_spec", None)


def test_a_kernel_is_compiled_for_the_device_there_and_the_compilers_figures_are_told(lab: HomeLab) -> None:
    built = lab.build("triton", TRITON)
    assert (built.status, built.stage) == (Status.PASSED, Stage.COMPILE), built.message
    assert built.message.startswith("compiled for sm90 (")
    assert built.detail["resources"]["registers"] > 0
    assert {"spill_bytes", "shared_bytes"} <= built.detail["resources"].keys()


def test_a_right_kernel_passes_the_development_plan_on_the_target_that_stands_in(lab: HomeLab) -> None:
    checked = lab.check("triton", TRITON)
    assert checked.passed, checked.message
    assert f"right on {checked.detail['draws']} draws on target cpu here, not on a device; compiled for sm90 (" in checked.message
    assert checked.detail["resources"]["registers"] > 0


def test_a_wrong_kernel_is_refused_here_with_its_counterexample(lab: HomeLab) -> None:
    wrong = lab.check("triton", TRITON.replace("mask=at < cols, other=0.0", "mask=at < cols, other=1.0", 1))
    assert wrong.status is Status.INCORRECT_NUMERICAL
    assert "draw" in wrong.detail
    assert wrong.message.endswith("(checked on target cpu here, not on a device)")


def test_timing_waits_for_the_other_machine_and_no_fitness_is_made_up(lab: HomeLab) -> None:
    evaluated = lab.evaluate("triton", TRITON)
    assert (evaluated.fitness, evaluated.outcome.status) == (0.0, Status.NOT_MEASURED)
    assert "timing waits for a device on the other machine: hand the kernel in" in evaluated.outcome.message
    assert evaluated.outcome.detail["resources"]["registers"] > 0


def test_what_only_the_device_refuses_is_told_by_its_compiler(lab: HomeLab) -> None:
    """Clusters of three blocks: the interpreter asks nobody, the compiler knows none."""
    refused = lab.check("triton", TRITON.replace("num_warps=4", "num_warps=4, num_ctas=3"))
    assert (refused.status, refused.stage) == (Status.COMPILE_ERROR, Stage.COMPILE)
    assert "does not compile for sm90: " in refused.message


@pytest.mark.parametrize(
    ("text", "stage"), [("def other(): pass\n", Stage.PARSE), (TRITON.replace("import torch\n", "import os, torch\n"), Stage.POLICY)]
)
def test_parse_and_policy_come_first(lab: HomeLab, text: str, stage: Stage) -> None:
    assert lab.build("triton", text).stage is stage
    assert lab.evaluate("triton", text).outcome.stage is stage


def test_a_language_that_nothing_here_runs_is_compiled_only_and_its_check_says_so(lab: HomeLab) -> None:
    missing = registry.load("languages", "cuda").missing()
    if missing is not None:
        pytest.skip(missing)
    assert lab.build("cuda", NATIVE).message == "compiled for sm90"
    checked = lab.check("cuda", NATIVE)
    assert (checked.status, checked.message) == (
        Status.NOT_MEASURED,
        "compiled for sm90; not run here: cuda kernels are checked where they are timed",
    )
    assert checked.detail["resources"]["registers"] > 0
    assert lab.check("cuda", NATIVE.replace("2 * x[at]", "twicee(x[at])")).status is Status.COMPILE_ERROR


def test_a_language_whose_compiler_is_missing_is_left_to_the_other_machine(lab: HomeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(registry.load("languages", "cuda")), "missing", lambda _: "no compiler: install one")
    built = lab.build("cuda", NATIVE.replace("2 * x[at]", "3 * x[at]"))
    assert (built.status, built.message) == (Status.NOT_MEASURED, "cuda kernels cannot be built here: no compiler: install one")


def test_answers_are_kept_by_what_a_source_says_and_not_how_it_is_laid_out(lab: HomeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab.check("triton", TRITON)

    def again(*_: object, **__: object) -> Outcome:
        raise AssertionError("asked for once more")

    monkeypatch.setattr("kevolve.search.home_lab.check", again)
    assert lab.check("triton", TRITON + "\n# a remark\n") is first


def test_a_check_that_ran_out_of_time_is_made_again_when_it_is_asked_for_again(lab: HomeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Outcome(status=Status.TIMEOUT, stage=Stage.PROPERTIES, message="no answer to 'run' within 60 s")
    outcomes = iter([late, Outcome(status=Status.PASSED, stage=Stage.PROPERTIES, detail={"draws": 7})])
    monkeypatch.setattr("kevolve.search.home_lab.check", lambda *_, **__: next(outcomes))
    text = TRITON + "\nLATE = 1\n"
    assert lab.check("triton", text).message.startswith("no answer to 'run' within 60 s")
    assert lab.check("triton", text).passed
