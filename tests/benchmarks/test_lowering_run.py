"""The measurement of lowering: its project, its figures, its page."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.lowering import ahead, document, measure
from benchmarks.lowering.project import FOLDER, command, make_project

NUMBERS = {"eager": {"estimate": 4.0}, "compile": {"estimate": 1.0}}
PASSED = {
    "status": "PASSED",
    "message": "",
    "kernel": "text",
    "draft": {"seconds": 0.5, "before_s": 1.0},
    "cases": {"a": {"speedup": NUMBERS}, "b": {"speedup": {"eager": {"estimate": 1.0}}}},
    "ahead": {arch: {"kernels": 2} for arch in measure.ARCHES} | {"gfx950": {"problem": "no such instruction"}},
}
MISSING = {
    "status": "NO KERNEL",
    "message": "no kernel of it",
    "kernel": "",
    "draft": {"seconds": 0.25, "before_s": 1.0, "problem": "lowering: aten::sort is not covered"},
    "cases": {},
}
CPP = """// sum_of: the sum of rows
// idea: rows in parallel
// measured: 2.00x
#include <cmath>
constexpr int kLanes = 4;  // tune: 4, 8

inline float widen(float x) { return x; }

// for Llama
// return x.sum(-1)
void compute() {}
"""
TRITON = """# sum_of: the sum of rows
# idea: tiles
import triton

TILE = 64  # tune: 32, 64


@triton.jit
def helper(x):
    return x


@triton.jit
def sum_kernel(x_ptr):
    # return x.sum(-1)
    pass
"""


def sum_of(x):
    return x.sum(-1)


def test_the_project_holds_the_references_and_no_kernel_of_an_earlier_call(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    stale = project / FOLDER / "kernels" / "sobel" / "cpu.cpp"
    stale.parent.mkdir(parents=True)
    stale.touch()
    (project / "cache").mkdir()
    make_project(tmp_path)
    assert not stale.exists()
    assert (project / "cache").exists()
    assert (project / "benchmarks" / "__init__.py").read_text() == ""
    assert len([*(project / FOLDER).glob("test_*.py")]) == len([*(project / FOLDER / "operators").glob("*.py")]) - 1 == 14


def test_the_command_is_the_users_own_with_lowering_alone(tmp_path: Path) -> None:
    spec = SimpleNamespace(nodeid="benchmarks/lowering/test_vision.py::test_sobel")
    given = command(spec, "triton", tmp_path / "r.json")
    assert "benchmarks/lowering/test_vision.py::test_sobel" in given
    assert {"--kevolve-optimize=all", "--kevolve-operators=lowering", "--kevolve-language=triton", "--kevolve-target=cpu"} <= set(given)


def test_the_figures_are_of_all_cases_and_architectures() -> None:
    assert measure.summary({"language": "triton", "specs": {"one": PASSED, "two": MISSING}}) == [
        "triton: 1 of 2 references have a correct kernel; 1 are drafted.",
        "First draft: 0.50 s in the median, 0.50 s at the most.",
        "Geometric mean over eager: 2.00x (2 cases).",
        "Geometric mean over compile: 1.00x (1 cases).",
        *(f"{arch}: 1 of 1 drafts compile ahead of time (2 kernels)." for arch in measure.ARCHES[:-1]),
        "gfx950: 0 of 1 drafts compile ahead of time (0 kernels).",
    ]
    assert measure.line("two", MISSING).endswith("\n    lowering: aten::sort is not covered")


def test_a_result_of_the_same_draft_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests, judged = iter("aab"), []
    monkeypatch.setattr(measure, "results_file", lambda language: tmp_path / f"{language}.json")
    monkeypatch.setattr(measure, "drafts", lambda spec, language: {"seconds": 0.1, "before_s": 0.0, "sha256": next(digests)})
    monkeypatch.setattr(measure, "judged", lambda project, spec, language: judged.append(spec) or {"status": "PASSED", "message": ""})
    for _ in range(3):
        measure.measure({"one": "spec"}, "cpp", tmp_path / "project", say=lambda line: None)
    assert judged == ["spec", "spec"]
    assert json.loads((tmp_path / "cpp.json").read_text())["specs"]["one"]["draft"]["sha256"] == "b"


@pytest.mark.parametrize(
    "text, language, shown",
    [
        (CPP, "cpp", ["constexpr int kLanes = 4;  // tune: 4, 8", "", document._ELIDED["cpp"], "", "// for Llama", "// return x.sum(-1)"]),
        (TRITON, "triton", ["TILE = 64  # tune: 32, 64", "", document._ELIDED["triton"], "", "@triton.jit", "def sum_kernel(x_ptr):"]),
    ],
)
def test_a_shown_kernel_keeps_its_head_its_knobs_and_what_computes(
    text: str, language: str, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_function", lambda spec: sum_of)
    lines = document.shortened(text, SimpleNamespace(name="sum_of"), language).splitlines()
    assert lines[:9] == [*text.splitlines()[:2], "", *shown]


def test_the_page_shows_every_status(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"cpp": {"specs": {"sobel": PASSED}}, "triton": {"specs": {"sobel": {**MISSING, "draft": PASSED["draft"]}, "snake": MISSING}}}
    specs = dict.fromkeys(("sobel", "snake"))
    rows = "\n".join(document._table(specs, kept)).splitlines()
    assert rows[2:4] == [
        "| sobel | passed | 0.50 s | 4.00 1.00 | 1.00 | no kernel | 0.50 s |  |",
        "| snake |  |  |  |  | not covered | 0.25 s |  |",
    ]
    missing = "\n".join(document._uncovered(specs, kept))
    assert "- `snake`: lowering: aten::sort is not covered (Triton)" in missing
    assert "- `sobel`: no kernel of it (Triton)" in missing


def test_the_kernels_that_a_file_launches_are_told_from_its_helpers() -> None:
    assert ahead.launched(TRITON + "\n\ndef sum_of(x):\n    sum_kernel[(1,)](x)\n") == {"sum_kernel"}
