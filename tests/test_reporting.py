"""Reports of a session, as a project of its own asks for them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from kevolve.report.record import read

SPEC = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def double(x):
    return x * 2

@kevolve.kernel(double, kernel="ops:double", min_speedup=0.01, baseline=("eager",), vary=dict(rows=sizes(0, 64)))
@pytest.mark.parametrize("rows", [4096])
@pytest.mark.parametrize("dtype", ["float32"])
def test_double(rows, dtype):
    return Tensor(rows, dtype=dtype),

@kevolve.kernel(double, kernel="ops:wrong", min_speedup=0.01, baseline=("eager",), vary=dict(rows=sizes(0, 64)))
@pytest.mark.parametrize("rows", [64])
def test_wrong(rows):
    return Tensor(rows),
"""
OPS = """
def double(x):
    return x + x

def wrong(x):
    raise RuntimeError("50%\\n::error::planted\\n##[error]planted")
"""
# In place of the page, which has tests of its own.
PAGE = """
import sys, types
page = types.ModuleType("kevolve.report.html")
page.render = lambda record: f"<!doctype html>{len(record.results)}"
sys.modules["kevolve.report.html"] = page
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_spec=SPEC, ops=OPS, page=PAGE)
    pytester.makeini("[pytest]\npythonpath = .\n")
    return pytester


def test_a_session_leaves_its_reports_a_summary_annotations_and_junit_properties(project: pytest.Pytester, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    reports = [f"--kevolve-report={name}" for name in ("out/r.html", "out/r.json", "out/r.md")]
    untimed = ("-k", "wrong or properties", "--kevolve-seed=1")
    result = project.runpytest_subprocess("-p", "page", "-p", "no:cacheprovider", "--junitxml=j.xml", *untimed, *reports)
    result.assert_outcomes(passed=1, failed=2, deselected=1)
    assert (project.path / "out/r.html").read_text() == "<!doctype html>1"
    (row,) = read(project.path / "out/r.json").results
    assert row.extra["values"] == {"rows": 64}
    assert row.extra["test"] == "test_spec.py::test_wrong"
    for path in ("out/r.md", "summary.md"):
        assert (project.path / path).read_text().startswith("# kevolve\n\n**Failed: 2 of 3 tests (2 runtime error)**")
    commands = [line for line in result.outlines if line.lstrip().startswith("::") or "##[" in line]
    assert [line.partition(",")[0] for line in commands] == [f"::error file={project.path.name}/test_spec.py"], "and none that was planted"
    cases = {case.get("name"): case for case in ET.parse(project.path / "j.xml").iter("testcase")}
    said = {item.get("name"): item.get("value") for item in cases["test_wrong[64]"].iter("property")}
    assert said == {
        "kevolve_status": "RUNTIME_ERROR",
        "kevolve_target": "cpu",
        "kevolve_language": "python",
        "kevolve_kernel": "ops:wrong",
        "kevolve_min_speedup": "0.01",
    }
    plan = {item.get("name"): item.get("value") for item in cases["test_double[properties]"].iter("property")}
    assert int(plan.pop("kevolve_draws")) > 60
    assert set(plan) == {"kevolve_status", "kevolve_target", "kevolve_language", "kevolve_kernel", "kevolve_excluded"}


def test_workers_of_xdist_hand_their_rows_to_one_report(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    result = project.runpytest_subprocess("-p", "page", "-p", "no:cacheprovider", "-n2", "--kevolve-record=r.json", "--kevolve-report=r.md")
    result.assert_outcomes(skipped=1, passed=1, failed=2)
    record = json.loads((project.path / "r.json").read_text())
    assert sorted((row["spec"], row["status"]) for row in record["results"]) == [("double", "NOT_MEASURED"), ("wrong", "RUNTIME_ERROR")]
    assert len(record["properties"]) == 2
    assert "environments" not in record, "one run on one machine"
    assert (project.path / "r.md").read_text().startswith("# kevolve\n\n**Failed: 2 of 4 tests (2 runtime error)**")
    result.stdout.fnmatch_lines(["*= kevolve =*", "*runtime error*"])


def test_an_unknown_suffix_is_a_usage_error_that_names_the_three(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--kevolve-report=report.pdf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--kevolve-report: expected a file ending in .html, .json or .md, got 'report.pdf'"])


# What a gate does with kernels that did not change.
IDLE = """
import pytest
from kevolve.plugin import _run

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    _run(pyfuncitem.session)
    pytest.skip("unchanged")
"""


def test_a_report_is_written_of_a_session_without_results_and_one_that_cannot_be_written_fails_it(project: pytest.Pytester) -> None:
    project.makeconftest(IDLE)
    (project.path / "file").write_text("")
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "--kevolve-report=r.md", "--kevolve-report=file/r.md")
    result.assert_outcomes(skipped=4)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["kevolve: cannot write *file/r.md: *"])
    assert (project.path / "r.md").read_text().startswith("# kevolve\n\n**Nothing failed: 0 cases**")
