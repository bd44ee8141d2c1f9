"""The gate in a repository of its own: two commits, a workflow's script, and what becomes of a pull request."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from kevolve.report.record import Environment, Record, Result, Times, dumped
from tests.gate.gitted import KERNEL, SPEC, commit, git, slowed, write
from tests.plain_kernel import NORMALISE

# What a job of a workflow runs after its checkout; --junitxml and --kevolve-record are what it uploads.
WORKFLOW = """
set -euo pipefail
python -m pytest -p no:cacheprovider --kevolve-gate --junitxml=junit.xml --kevolve-record=record.json
"""


ELSEWHERE = Environment(device="Another CPU", arch="x86-64-v3", date="2026-01-02T03:04:05+00:00", commit="0a1b2c3d4e5f")
STORED = Result(spec="normalise", case="64-128", target="cpu", language="cpp", status="PASSED", time_us=Times(launched=1500.0))


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Path:
    """A main branch with a spec and its kernel, and a branch for a pull request."""
    folder = pytester.path
    git(folder, "init", "-q")
    write(folder, "test_spec.py", SPEC)
    write(folder, KERNEL, NORMALISE)
    write(folder, ".gitignore", ".kevolve/\n.hypothesis/\n__pycache__/\njunit.xml\nrecord.json\n")
    commit(folder, "A kernel")
    git(folder, "checkout", "-q", "-b", "change")
    return folder


def workflow(folder: Path) -> tuple[int, str]:
    """Exit code and output of the job."""
    script = write(folder.parent, "workflow.sh", WORKFLOW.replace("python", sys.executable))
    for _ in range(3):
        done = subprocess.run(["bash", str(script)], cwd=folder, capture_output=True, text=True, timeout=240)
        if "by the judge's clock" not in done.stdout:  # on a machine with too much other work the reference cannot be timed
            break
    return done.returncode, done.stdout + done.stderr


def test_a_slowed_kernel_fails_and_the_message_names_kernel_case_times_interval_and_cause(repository: Path) -> None:
    write(repository, KERNEL, slowed(NORMALISE))
    write(repository, "reports/elsewhere.json", dumped(Record(environment=ELSEWHERE, results=(STORED,))))
    write(repository, "reports/notes.json", "[]")
    commit(repository, "Does its work three times")
    code, said = workflow(repository)
    assert code == 1, said
    assert "Traceback" not in said
    base = git(repository, "rev-parse", "--short=9", "main")
    expected = rf"""normalise\[64-128\] is slower than at {base}: old [\d.]+ [um]s, new [\d.]+ [um]s \(launched\)
  kernel   kernels/normalise/cpu.cpp
  speedup  0\.\d+x \[0\.\d+, 0\.\d+\], 99% interval over \d+ pairs; at least 0\.980 passes
  twice    0\.\d+x \[0\.\d+, 0\.\d+\] in the processes before
  cause    .+
  stored   1\.50 ms on 2026-01-02 \(0a1b2c3d4\); advisory only: device Another CPU there, .+ here; .+
  again    pytest 'test_spec.py::test_normalise\[64-128\]' --kevolve-gate={base} --kevolve-target cpu"""
    assert re.search(expected, said), said
    assert "notes.json: record: expected an object" in said
    (row,) = json.loads((repository / "record.json").read_text())["gate"]
    assert row["history"]["us"] == 1500
    assert (row["case"], row["verdict"], row["old"]["revision"]) == ("64-128", "slower", git(repository, "rev-parse", "main"))
    assert row["ratio"]["high"] < 0.9
    assert row["old"]["time_us"] < row["new"]["time_us"]
    properties = {each.get("name"): each.get("value") or "" for each in ElementTree.parse(repository / "junit.xml").iter("property")}
    assert properties["kevolve_verdict"] == "slower"
    assert float(properties["kevolve_high"]) < 0.9
    assert float(properties["kevolve_old_us"]) < float(properties["kevolve_new_us"])


def test_an_unchanged_kernel_is_skipped_and_a_changed_header_is_the_same_without_timing(
    pytester: pytest.Pytester, repository: Path
) -> None:
    write(repository, "README.md", "other work")
    commit(repository, "Something else")
    options = ("-p", "no:cacheprovider", "--kevolve-gate", "-rs")
    unchanged = pytester.runpytest_subprocess(*options)
    unchanged.assert_outcomes(skipped=2)
    assert unchanged.ret == 0
    unchanged.stdout.fnmatch_lines(["*; 2 tests of unchanged*", "SKIPPED*unchanged since * (the merge base with main)"])
    write(repository, KERNEL, NORMALISE.replace("// idea: plain loops", "// idea: loops, plain ones\n// measured: 9x"))
    same = pytester.runpytest_subprocess(*options)  # an edit that is not committed counts too
    same.assert_outcomes(skipped=2)
    assert same.ret == 0
    same.stdout.fnmatch_lines(["*; 1 same, 2 tests of", "SKIPPED*same: only comments and layout changed since *"])


def test_workers_of_xdist_check_a_changed_kernel_and_say_why_it_is_not_timed(pytester: pytest.Pytester, repository: Path) -> None:
    write(repository, KERNEL, slowed(NORMALISE))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kevolve-gate", "-n1", "-rs", "-k", "64-128")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "kernels against * (the merge base with main); 1 unmeasurable",
            "normalise*unmeasurable*",
            "SKIPPED*not measured: xdist workers share the cores; *",
        ]
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--kevolve-gate=nowhere"], "unknown revision 'nowhere'"),
        (["--kevolve-gate", "test_spec.py"], "write the paths first: pytest test_spec.py --kevolve-gate"),
        (["--kevolve-gate", "--kevolve-optimize"], "expected an ordinary run, got --kevolve-optimize"),
        (["--kevolve-gate", "-o", "kevolve_gate_allowance=much"], "expected percent"),
    ],
)
def test_what_cannot_be_gated_is_a_usage_error(pytester: pytest.Pytester, repository: Path, options: list[str], expected: str) -> None:
    result = pytester.runpytest_inprocess(*options)
    assert result.ret == 4
    assert expected in result.stderr.str()
