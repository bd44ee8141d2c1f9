"""Specs are collected as pytest users expect."""

from __future__ import annotations

import pytest
import torch

import kevolve
from kevolve.spec.spec import Case, Spec

assert torch  # imported before pytester takes its snapshot of modules: torch cannot be imported twice

SPEC = """
import kevolve
import pytest
import torch
from kevolve import Tensor, sizes


def double(x):
    return x * 2


@kevolve.kernel(double, min_speedup=0.5, vary=dict(n=sizes(0, 64)))
@pytest.mark.parametrize("n", [64, pytest.param(128, marks=kevolve.on("cpu")), pytest.param(1 << 30, marks=kevolve.on("elsewhere"))])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_double(n, dtype):
    return Tensor(n, dtype=dtype)


def test_ordinary():
    assert True
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_spec=SPEC)
    return pytester


def collected(project: pytest.Pytester, *arguments: str) -> list[str]:
    result = project.runpytest_inprocess("--collect-only", "-q", "-p", "no:cacheprovider", *arguments)
    return [line for line in result.outlines if "::" in line]


def test_a_spec_is_one_item_a_case_of_this_target_and_one_property_item(project: pytest.Pytester) -> None:
    assert collected(project) == [
        "test_spec.py::test_double[float32-64]",
        "test_spec.py::test_double[float32-128]",
        "test_spec.py::test_double[float16-64]",
        "test_spec.py::test_double[float16-128]",
        "test_spec.py::test_double[properties]",
        "test_spec.py::test_ordinary",
    ]


def test_a_case_may_have_a_threshold_of_its_own() -> None:
    marked = kevolve.on("cpu", min_speedup=0.95).kwargs
    assert marked == {"targets": ("cpu",), "min_speedup": 0.95}
    spec = Spec(**dict.fromkeys(("name", "nodeid", "folder", "describe", "reference", "cases", "vary", "choices", "hash")), min_speedup=1.2)
    assert spec.least_speedup(Case(id="a", values={})) == 1.2
    assert spec.least_speedup(Case(id="b", values={}, min_speedup=0.95)) == 0.95


def test_a_threshold_of_a_case_that_is_none_is_reported_at_collection(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC.replace('kevolve.on("cpu")', 'kevolve.on("cpu", min_speedup=-1)'))
    result = pytester.runpytest_inprocess("--collect-only", "-q", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*min_speedup of case float32-128: expected a positive number, got -1"])


def test_k_and_node_ids_select_items(project: pytest.Pytester) -> None:
    assert collected(project, "-k", "properties") == ["test_spec.py::test_double[properties]"]
    assert collected(project, "test_spec.py::test_double[float16-64]") == ["test_spec.py::test_double[float16-64]"]


def test_a_marker_on_the_function_selects_the_property_item_too(project: pytest.Pytester) -> None:
    source = SPEC.replace("@kevolve.kernel", "@pytest.mark.slow\n@kevolve.kernel")
    project.makepyfile(test_spec=source)
    project.makeini("[pytest]\nmarkers = slow")
    assert len(collected(project, "-m", "slow")) == 5


def test_a_wrong_declaration_is_a_collection_error_that_lists_every_problem(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC.replace("min_speedup=0.5, vary=dict(n=", "min_speedup=0, baseline=('lazy',), vary=dict(m="))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "kernel spec test_spec.py::test_double: 3 problems",
            "  - vary: expected arguments of the test function (n, dtype), got 'm'",
            "  - min_speedup: expected a positive number, got 0",
            "  - unknown baseline: expected one of eager, compile, got 'lazy'",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_two_specs_of_one_name_in_a_folder_are_an_error_that_names_both(project: pytest.Pytester) -> None:
    project.makepyfile(test_other=SPEC)
    folder = project.mkpydir("elsewhere")
    (folder / "test_third.py").write_text(SPEC)
    result = project.runpytest_inprocess("--collect-only", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    problem = (
        "kernel spec test_spec.py::test_double: expected a name of its own, got that of test_other.py::test_double: "
        "the kernels of both would stand in kernels/double; rename one of the two tests"
    )
    assert problem in result.outlines
    assert len(collected(project, "test_spec.py", "elsewhere")) == 12


@pytest.mark.parametrize(
    "option, message",
    [
        ("--kevolve-target=abacus", "unknown name among targets: expected one of cpu*, got 'abacus'"),
        ("--kevolve-language=cobol", "unknown name among languages: expected one of cpp, cuda, triton*, got 'cobol'"),
        ("--kevolve-policy=luck", "unknown name among policies: expected one of best-first*, got 'luck'"),
        ("--kevolve-budget=evaluations=soon", "*evaluations: expected a whole number, got 'soon'"),
    ],
)
def test_an_option_that_cannot_be_used_is_a_usage_error(project: pytest.Pytester, option: str, message: str) -> None:
    result = project.runpytest_inprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


def test_optimising_under_xdist_is_a_usage_error_and_n0_is_not(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--kevolve-optimize", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--kevolve-optimize: expected one process*, got xdist workers; drop -n or give -n0"])
    assert project.runpytest_inprocess("--kevolve-optimize", "-n0", "--collect-only").ret == pytest.ExitCode.OK
