"""The header of an accepted kernel: added once, replaced ever after, and never part of the kernel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevolve.search.header import Header, read, render, strip

HEADER = Header(
    spec="suites/test_norms.py::test_rms_norm",
    target="cpu",
    parent="node 3",
    measured=("float32-8192-4096: 2.31x [2.25, 2.37] over eager, 9 pairs", "bfloat16-8192-4096: 3.10x [3.01, 3.20] over eager, 9 pairs"),
    shapes=("float32-8192-4096", "bfloat16-8192-4096"),
    hardware="a laptop",
    toolchain="g++ 12.2",
)
SOURCE = "// rms_norm: x / rms(x)\n// idea: one pass\n// when: rows < 4\n\n#include <cmath>\n// measured: inside the code, not ours\n"
RENDERED = """\
// rms_norm: x / rms(x)
// idea: one pass
// spec: suites/test_norms.py::test_rms_norm
// target: cpu
// parent: node 3
// measured: float32-8192-4096: 2.31x [2.25, 2.37] over eager, 9 pairs
// measured: bfloat16-8192-4096: 3.10x [3.01, 3.20] over eager, 9 pairs
// shapes: float32-8192-4096, bfloat16-8192-4096
// hardware: a laptop
// toolchain: g++ 12.2
// when: rows < 4

#include <cmath>
// measured: inside the code, not ours
"""


def rendered(source: str, comment: str = "//") -> str:
    return render(source, HEADER, comment=comment, name="rms_norm", idea="the proposal's")


def test_a_header_follows_the_kernels_own_two_lines():
    assert rendered(SOURCE) == RENDERED
    assert read(RENDERED, "//")["measured"] == list(HEADER.measured)
    assert read(RENDERED, "//")["when"] == ["rows < 4"]


def test_rendering_again_changes_nothing_and_stripping_gives_the_source_back():
    assert rendered(RENDERED) == RENDERED
    assert strip(RENDERED, "//") == SOURCE


def test_a_kernel_without_opening_lines_is_given_them():
    assert rendered("import torch\n", "#").splitlines()[:3] == [
        "# rms_norm: computes what suites/test_norms.py::test_rms_norm describes",
        "# idea: the proposal's",
        "# spec: suites/test_norms.py::test_rms_norm",
    ]


@pytest.mark.parametrize("source", ["", "//", "// rms_norm: x", "int x;", "// a note\nint x;"])
def test_texts_without_a_last_newline_are_whole_too(source):
    once = rendered(source)
    assert rendered(once) == once
    assert once.endswith(source.splitlines()[-1] if "int" in source else "") or "// rms_norm: x\n" in once


@given(st.lists(st.sampled_from(["// rms_norm: a", "// idea: b", "// spec: c", "// note", "//", "", "int x;", "// measured: d", "# y"])))
def test_rendering_is_idempotent_and_keeps_the_code(lines):
    source = "".join(f"{line}\n" for line in lines)
    once = rendered(source)
    assert rendered(once) == once
    assert [line for line in once.splitlines() if line and not line.startswith("//")] == [
        line for line in lines if line and not line.startswith("//")
    ]


def test_an_idea_of_several_lines_stays_together():
    source = "// fm: a sum\n// idea: one block an entry, so that the idle\n// half takes over the other\n\nint x;\n"
    once = render(source, HEADER, comment="//", name="fm", idea="unused")
    assert once.startswith("// fm: a sum\n// idea: one block an entry, so that the idle\n// half takes over the other\n// spec: ")
    assert once.endswith("\n\nint x;\n")
    assert render(once, HEADER, comment="//", name="fm", idea="unused") == once
