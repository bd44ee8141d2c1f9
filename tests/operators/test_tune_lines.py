"""Lines that say what may be tuned: what is read, what is rewritten, and why a line is ignored."""

from __future__ import annotations

import pytest

from kevolve.languages.cpp import Cpp
from kevolve.languages.triton import Triton
from kevolve.operators.tune_lines import marked, problems

PYTHON = """import triton  # tune in
BLOCK = 1024  # tune: 512, 1024, 2048
EPS = 1e-3  # tune: 1e-3, 0.5
ORDER = "rows"  # tune: "rows", "cols"
EVEN: tl.constexpr = True  # tune: True, False


def f(x):
    kernel[grid](
        x,
        num_warps=4,  # tune: 2, 4, 8
        shift=-1,  # tune: -1, 0
    )
"""
CPP = """#define WIDE 4  // tune: 2, 4
constexpr int UNROLL = 4;  // tune: 2, 4, 8
  auto schedule = kStatic;  // tune: kStatic, kDynamic
"""


def test_values_of_every_kind_are_read_from_python():
    family = marked(PYTHON, Triton())
    assert family is not None
    assert family.knobs == {
        "BLOCK": (512, 1024, 2048),
        "EPS": (0.001, 0.5),
        "ORDER": ('"rows"', '"cols"'),
        "EVEN": ("True", "False"),
        "num_warps": (2, 4, 8),
        "shift": (-1, 0),
    }
    assert family.setting == {"BLOCK": 1024, "EPS": 0.001, "ORDER": '"rows"', "EVEN": "True", "num_warps": 4, "shift": -1}
    assert problems(PYTHON, Triton()) == []


def test_only_the_values_are_rewritten():
    family = marked(PYTHON, Triton())
    assert family is not None
    proposal = family.proposal({"BLOCK": 2048, "num_warps": 8, "ORDER": '"cols"'}, operator="tuning", parents=(3,))
    changed = PYTHON.replace("= 1024", "= 2048").replace("num_warps=4", "num_warps=8").replace('= "rows"', '= "cols"')
    assert proposal.source == changed
    assert (proposal.family, proposal.parents, proposal.operator, proposal.language) == (family.name, (3,), "tuning", "triton")
    assert proposal.idea == 'the same kernel with BLOCK 2048, num_warps 8, ORDER "cols"'
    with pytest.raises(KeyError):
        family.proposal({"BLOCK": 3}, operator="tuning")


def test_values_in_cpp_are_read_and_rewritten():
    family = marked(CPP, Cpp())
    assert family is not None
    assert family.knobs == {"WIDE": (2, 4), "UNROLL": (2, 4, 8), "schedule": ("kStatic", "kDynamic")}
    changed = family.proposal({"WIDE": 2, "UNROLL": 8, "schedule": "kDynamic"}, operator="t").source
    assert changed == CPP.replace("WIDE 4", "WIDE 2").replace("UNROLL = 4", "UNROLL = 8").replace("= kStatic;", "= kDynamic;")


def test_a_family_has_one_name_whatever_its_values_comments_and_layout():
    family = marked(CPP, Cpp())
    assert family is not None
    other = marked("// a header\n" + family.proposal({"UNROLL": 2}, operator="t").source + "\n\n", Cpp())
    assert other is not None
    assert other.name == family.name
    assert other.setting["UNROLL"] == 2
    fewer, different = marked(CPP.replace("2, 4, 8", "2, 4"), Cpp()), marked(CPP + "int x;\n", Cpp())
    assert fewer is not None
    assert different is not None
    assert len({family.name, fewer.name, different.name}) == 3
    assert family.name.startswith("tune:")


def test_a_kernel_without_such_lines_is_no_family():
    assert marked("BLOCK = 1024  # 512 is slower\n", Triton()) is None
    assert marked("BLOCK = 1024  # tune: 512\n", Triton()) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("X = f(3)  # tune: 1, 2", "line 1: expected NAME = VALUE before tune:, one number or word; got 'X = f(3)'"),
        ("# tune: 1, 2", "line 1: expected NAME = VALUE before tune:, one number or word; got 'nothing'"),
        ("X = 1 + 2  # tune: 1, 2", "line 1: expected NAME = VALUE before tune:, one number or word; got 'X = 1 + 2'"),
        ("X = 1  # tune: 1", "line 1: X: expected 2 to 64 different values, got 1"),
        ("X = 1  # tune: 1, 1", "line 1: X: expected 2 to 64 different values, got 1"),
        ("X = 3  # tune: 1, 2", "line 1: X: expected its value 3 among those listed (1, 2)"),
        ("X = 1  # tune: 1, 2 or 3", "line 1: X: expected numbers and words between commas, got '2 or 3'"),
        ("X = 1  # tune: 1, os.system('x')", "line 1: X: expected numbers and words between commas, got \"os.system('x')\""),
        ("X = 1  # tune: 1, 2,", "line 1: X: expected numbers and words between commas, got ''"),
    ],
)
def test_a_line_that_is_ignored_has_a_reason(line: str, reason: str):
    assert problems(line, Triton()) == [reason]
    assert marked(line, Triton()) is None


def test_the_second_line_of_a_name_is_ignored():
    source = "X = 1  # tune: 1, 2\nX = 4  # tune: 4, 8\n"
    family = marked(source, Triton())
    assert family is not None
    assert family.knobs == {"X": (1, 2)}
    assert problems(source, Triton()) == ["line 2: X has a line already; give each value a name of its own"]
