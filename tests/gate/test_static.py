"""Both sources on every architecture and in the interpreter: the same figures every time, and what a broken source gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kevolve import registry
from kevolve.gate.counted import small
from kevolve.gate.static import compare, fails
from kevolve.spec.spec import Case
from tests.evaluate.example_specs import rms_norm_spec

KERNEL = (Path(__file__).parents[1] / "languages" / "rms_norm_triton.py").read_text()
CASE = Case(id="wide", values=dict(rows=8192, cols=2048, dtype="bfloat16"))
SPEC = replace(rms_norm_spec(), cases=(CASE,))
ALL = {"sm80", "sm90", "sm100", "gfx942", "gfx950", "interpreter"}


def by_name(figures: Any, where: str) -> dict[str, float]:
    return {figure.name: figure.new for figure in figures if figure.where.startswith(where)}


def test_every_declared_architecture_and_the_interpreter_say_the_same_twice(figures_of: Callable[..., Any], tmp_path: Path) -> None:
    first = figures_of(SPEC, KERNEL, KERNEL, arches=None, cache=tmp_path / "first")
    again = figures_of(SPEC, KERNEL, KERNEL, arches=None, cache=tmp_path / "again")
    assert first == again
    assert {figure.where.partition(" ")[0] for figure in first} == ALL
    assert fails(first) == ()
    for arch in ALL - {"interpreter"}:
        figures = by_name(first, f"{arch} normalise[wide]")
        assert figures["load_width"] == 16
        assert 0 < figures["occupancy"] <= 1
        assert figures["spills"] == 0 < figures["registers"] < figures["instructions"]


def test_the_interpreter_counts_exactly_what_moves(figures_of: Callable[..., Any]) -> None:
    found = by_name(figures_of(SPEC, KERNEL, KERNEL, arches=()), "interpreter rms_norm[rows=16, cols=2048, dtype=bfloat16]")
    rows, cols = 16, 2048
    squares, sums, scaling, a_row = rows * cols, rows * cols, 2 * rows * cols, 3  # a_row: division, addition, root
    assert found == {
        "bytes_loaded": 2 * 2 * rows * cols,
        "bytes_stored": 2 * rows * cols,
        "flops": squares + sums + scaling + a_row * rows,
        "float64_flops": 0,
        "atomics": 0,
        "launches": 1,
        "programs": rows,
        "issued": found["issued"],
    }


def test_masked_lanes_move_nothing(figures_of: Callable[..., Any]) -> None:
    found = by_name(figures_of(SPEC, KERNEL, KERNEL, arches=()), "interpreter rms_norm[rows=11, cols=1281, dtype=bfloat16]")
    assert found["bytes_loaded"] == 2 * 2 * 11 * 1281
    assert found["bytes_stored"] == 2 * 11 * 1281


def test_a_source_that_no_longer_compiles_is_a_figure_with_the_compiler_s_message(figures_of: Callable[..., Any]) -> None:
    broken = KERNEL.replace("tl.rsqrt(tl.sum", "tl.rsqrt(tl.sums")
    failed = fails(figures_of(SPEC, KERNEL, broken))
    assert [(figure.name, figure.where) for figure in failed] == [("compiles", "sm90"), ("runs", "interpreter")]
    assert "sums" in failed[0].extra["message"]


def test_a_source_that_reads_astray_in_the_interpreter_is_a_figure(figures_of: Callable[..., Any]) -> None:
    astray = KERNEL.replace("tl.load(weight + at, mask", "tl.load(weight + at + 2**44, mask")
    (figure,) = fails(figures_of(SPEC, KERNEL, astray, arches=()))
    assert (figure.name, figure.old, figure.new) == ("runs", 1, 0)


def test_a_kernel_that_never_compiled_flags_nothing(figures_of: Callable[..., Any]) -> None:
    broken = KERNEL.replace("tl.rsqrt(tl.sum", "tl.rsqrt(tl.sums")
    found = figures_of(SPEC, broken, KERNEL)
    assert [figure.name for figure in found] == ["compiles", "runs"]
    assert fails(found) == ()


def test_a_declared_allowance_lets_a_figure_grow(figures_of: Callable[..., Any]) -> None:
    narrow = KERNEL.replace("num_warps=4", "num_warps=1")
    names = {figure.name for figure in fails(figures_of(SPEC, KERNEL, narrow))}
    assert {"registers", "occupancy"} < names
    spec = replace(SPEC, allowance=dict.fromkeys(names, 100.0) | {"occupancy": 0.01})
    assert fails(figures_of(spec, KERNEL, narrow)) == ()


def test_what_was_found_is_kept_by_source_and_inputs(figures_of: Callable[..., Any], tmp_path: Path) -> None:
    figures_of(SPEC, KERNEL, KERNEL, arches=(), cache=tmp_path)
    (path,) = (tmp_path / "gate").iterdir()
    kept = json.loads(path.read_text())
    kept["launches"] = {"kept": [{"kernel": "it", "figures": {"flops": 7}}]}
    path.write_text(json.dumps(kept))
    (figure,) = figures_of(SPEC, KERNEL, KERNEL, arches=(), cache=tmp_path)
    assert (figure.where, figure.new) == ("interpreter it[kept]", 7)


def test_a_language_without_such_figures_has_none(gate_workers: Any, tmp_path: Path) -> None:
    target, language = registry.load("targets", "cuda"), registry.load("languages", "cuda")
    assert compare(SPEC, language, "", "", target=target, workers=gate_workers, cache=tmp_path, jobs=1) == ()


# --- the inputs to count on ---


def test_a_case_shrinks_by_its_first_axis_and_comes_again_with_odd_sizes() -> None:
    names = [item.name for item in small(SPEC, "cuda", 1 << 15)]
    assert names == ["rows=16, cols=2048, dtype=bfloat16", "rows=11, cols=1281, dtype=bfloat16"]


def test_later_axes_shrink_where_the_first_has_become_small() -> None:
    names = [item.name for item in small(SPEC, "cuda", 1 << 10)]
    assert names[0] == "rows=8, cols=128, dtype=bfloat16"


def test_cases_of_other_targets_are_not_counted() -> None:
    other = replace(CASE, targets=("cpu",), values=CASE.values | {"cols": 64})
    spec = replace(SPEC, cases=(CASE, other))
    assert all("cols=64," not in item.name for item in small(spec, "cuda", 1 << 15))


@pytest.mark.parametrize("cap", [1 << 12, 1 << 15])
def test_inputs_are_the_same_every_time(cap: int) -> None:
    once, again = small(SPEC, "cuda", cap), small(SPEC, "cuda", cap)
    assert [item.name for item in once] == [item.name for item in again]
    assert all(a.equal(b) for one, two in zip(once, again, strict=True) for a, b in zip(one.inputs, two.inputs, strict=True))
