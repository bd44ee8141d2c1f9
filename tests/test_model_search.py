"""A search with a model behind a command, the whole way: asked, answered, evaluated, accepted, written back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.plain_kernel import NORMALISE
from tests.test_run import QUICK, SPEC

# The first answer holds no kernel, nor does the one that was to mend it.
MODEL = """
import os, pathlib, sys

prompt, here = sys.stdin.read(), pathlib.Path(__file__).parent
(here / "asked").mkdir(exist_ok=True)
for number in range(100):
    try:
        (here / "asked" / f"{number}.md").open("x").write(prompt)
        break
    except FileExistsError:
        pass
kernel = (here / "kernel.cpp").read_text() + f"\\nstatic const int number = {number};"
told = f"hypothesis: rows lie apart\\npredicted gain: 1.5\\nidea: kernel {number}\\n```cpp\\n{kernel}\\n```"
print("I would rather not." if number == 0 or "I would rather not." in prompt else told)
"""


def test_a_model_is_asked_its_kernels_are_evaluated_and_every_step_is_kept_with_what_it_cost(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC, model=MODEL)
    (pytester.path / "kernel.cpp").write_text(NORMALISE)
    command = f"command:{sys.executable} {pytester.path / 'model.py'}"
    result = pytester.runpytest_subprocess(
        *QUICK, "--kevolve-optimize", "--kevolve-budget=evaluations=8,stall=9", "--kevolve-model", command
    )
    result.assert_outcomes(passed=2)
    first = (pytester.path / "asked" / "0.md").read_text()
    assert "# Spec: normalise" in first
    assert "def normalise(x, weight):" in first
    exported = subprocess.run(
        [sys.executable, "-c", "import sys; from kevolve.cli import main; sys.exit(main(sys.argv[1:]))", "search", "export"],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=True,
    )
    nodes = [json.loads(line) for line in exported.stdout.splitlines()]
    asked = [node for node in nodes if node.get("model")]
    statuses = {node["status"] for node in asked}
    assert statuses & {"PASSED", "TOO_SLOW"}, [(node["status"], node["message"]) for node in asked]
    assert "NO_CANDIDATE" in statuses
    assert all(node["usage"]["output_tokens"] > 0 and node["transcript"] for node in asked)
    assert any(node["predicted_gain"] == 1.5 for node in asked)
    assert (pytester.path / ".kevolve" / "exchanges.jsonl").exists()


def test_a_model_that_cannot_be_asked_is_a_usage_error_before_the_first_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC)
    result = pytester.runpytest_subprocess(*QUICK, "--kevolve-optimize", "--kevolve-model=nobody:x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: kevolve: a model 'nobody:x': unknown model 'nobody'*"])
