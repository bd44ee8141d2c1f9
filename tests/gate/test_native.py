"""C++ kernels compared by their machine code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kevolve.evaluate.client import Workers
from kevolve.gate.static import compare, fails
from kevolve.languages import listing
from kevolve.languages.cpp import Cpp
from kevolve.targets.cpu import CPU
from tests.gate.planted import KERNELS

pytestmark = pytest.mark.skipif(listing.missing() is not None or Cpp().missing() is not None, reason="no objdump or no compiler here")
SPEC = KERNELS["softmax"].spec
KERNEL = (SPEC.folder / "kernels" / "softmax" / "cpu.cpp").read_text()


def figures(new: str, workers: Workers, cache: Path) -> Any:
    return compare(SPEC, Cpp(), KERNEL, new, target=CPU(), workers=workers, cache=cache, jobs=2)


def test_loops_that_are_no_longer_vectorised_are_found(gate_workers: Workers, gate_cache: Path) -> None:
    lines = [line for line in KERNEL.splitlines() if "#pragma omp simd" not in line]
    assert len(lines) < len(KERNEL.splitlines())
    failed = fails(figures("\n".join(lines) + "\n", gate_workers, gate_cache))
    assert "packed" in {figure.name for figure in failed}
    assert failed[0].where == "cpu softmax[all]"


def test_a_comment_changes_no_instruction(gate_workers: Workers, gate_cache: Path) -> None:
    found = figures(f"// another comment\n{KERNEL}", gate_workers, gate_cache)
    assert [figure.name for figure in found] == ["code_instructions", "packed", "scalar", "calls"]
    assert all(figure.old == figure.new for figure in found)
    assert found[1].new > 0


def test_a_source_that_no_longer_compiles_is_a_figure(gate_workers: Workers, gate_cache: Path) -> None:
    (figure,) = fails(figures(KERNEL.replace("return", "returns", 1), gate_workers, gate_cache))
    assert (figure.name, figure.new) == ("compiles", 0)
