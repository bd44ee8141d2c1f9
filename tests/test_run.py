"""The whole way, in a project of its own: a missing, a written, a wrong, a slow and an existing kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.plain_kernel import NORMALISE

SPEC = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

EPS = 1e-6

def normalise(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight

@kevolve.kernel(normalise, min_speedup=0.01, baseline=("eager",), vary=dict(rows=sizes(0, 64), cols=sizes(1, 1100)))
@pytest.mark.parametrize("rows, cols", [(64, 512)])
def test_normalise(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""

KERNEL = Path("kernels") / "normalise" / "cpu.cpp"
BUG = "    if (cols % 64 == 37) to[r * cols + cols - 1] *= 1.5f;\n"
QUICK = ("-p", "no:cacheprovider")


def files(folder: Path) -> dict[str, bytes]:
    """What the run could have written, caches and logs of its own and of hypothesis aside."""
    aside = {".kevolve", ".hypothesis", "__pycache__", "stdout", "stderr"}
    kept = (path for path in folder.rglob("*") if path.is_file() and not aside & set(path.parts))
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def test_without_a_kernel_the_tests_fail_and_name_the_command_that_makes_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC)
    before = files(pytester.path)
    result = pytester.runpytest_subprocess(*QUICK)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "no kernel of normalise for target cpu: expected kernels/normalise/cpu.cpp or cpu.py",
            "make one: pytest 'test_spec.py::test_normalise' --kevolve-optimize --kevolve-target cpu",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert files(pytester.path) == before


def test_a_search_that_finds_nothing_is_told_in_place_of_the_command_that_was_just_run(pytester: pytest.Pytester) -> None:
    odd = SPEC.replace("x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight", "torch.sin(x).sort(0).values * weight")
    pytester.makepyfile(test_spec=odd)
    result = pytester.runpytest_subprocess(*QUICK, "--kevolve-optimize")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "the search found none that may be written: 0 evaluations (nothing left to propose)",
            'lowering: aten::sort is not covered (in "return torch.sin(x).sort(0).values [*] weight")',
        ]
    )
    assert "make one" not in result.stdout.str()


def test_optimising_writes_a_kernel_that_ordinary_runs_pass_and_leave_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC)
    result = pytester.runpytest_subprocess(*QUICK, "--kevolve-optimize", "--kevolve-budget=evaluations=2", "--kevolve-record=r.json")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["kevolve: normalise on cpu in cpp", "*kevolve: normalise wrote kernels/normalise/cpu.cpp: *x [[]*] over eager"]
    )
    source = (pytester.path / KERNEL).read_text()
    assert re.search(r"^// measured: 64-512: \d+\.\d+x \[\d+\.\d+, \d+\.\d+\] over eager, \d+ pairs$", source, re.M)
    record = json.loads((pytester.path / "r.json").read_text())
    (row,), (search,) = record["results"], record["searches"]
    assert (row["spec"], row["case"], row["target"], row["language"], row["status"]) == ("normalise", "64-512", "cpu", "cpp", "PASSED")
    assert 0.01 <= row["speedup"]["eager"]["low"] <= row["speedup"]["eager"]["estimate"]
    assert record["sources"][row["kernel"]["hash"]] == source, "the judged text is in the record"
    assert row["values"] == {"rows": 64, "cols": 512}
    best = next(node for node in search["nodes"] if node["id"] == search["best"])
    assert (search["spec"], search["target"], best["status"]) == ("normalise", "cpu", "PASSED")
    assert best["fitness"] > 0
    assert record["sources"][best["source"]][-2000:] == source[-2000:], "what the search wrote stands below the header"
    assert json.loads((pytester.path / "reports" / "latest.json").read_text()) == record
    assert (pytester.path / "reports" / "latest.html").read_text().startswith("<!doctype html>")
    before = files(pytester.path)
    again = pytester.runpytest_subprocess(*QUICK, "-rA", "--benchmark-json=b.json", "--junitxml=j.xml")
    again.assert_outcomes(passed=2)
    after = files(pytester.path)
    assert {name for name in after if name not in before} == {"b.json", "j.xml"}
    assert {name: after[name] for name in before} == before
    (bench,) = json.loads((pytester.path / "b.json").read_text())["benchmarks"]
    assert bench["extra_info"]["status"] == "PASSED"
    assert bench["options"]["timer"] == "kevolve device clock (cpu)"
    assert 'name="kevolve_speedup_over_eager"' in (pytester.path / "j.xml").read_text()


@pytest.fixture
def wrong(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose kernel is wrong at one size of its last axis only."""
    pytester.makepyfile(test_spec=SPEC)
    kernel = pytester.path / KERNEL
    kernel.parent.mkdir(parents=True)
    kernel.write_text(NORMALISE.replace("  }\n  return out;", BUG + "  }\n  return out;"))
    return pytester


def test_a_wrong_kernel_fails_with_a_shrunk_size_worst_places_and_a_line_that_replays_it(wrong: pytest.Pytester) -> None:
    result = wrong.runpytest_subprocess(*QUICK, "-k", "properties")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "Traceback" not in text
    assert "cols=37" in text
    assert "1 of 37 differ" in text
    replay = re.search(r"--kevolve-replay '(\{.*?\})'$", text, re.M)
    assert replay is not None
    again = wrong.runpytest_subprocess(*QUICK, "test_spec.py::test_normalise[properties]", "--kevolve-replay", replay[1])
    again.assert_outcomes(failed=1)
    assert "cols=37" in again.stdout.str()


def test_a_correct_kernel_that_is_too_slow_fails_with_its_interval(wrong: pytest.Pytester) -> None:
    kernel = wrong.path / KERNEL
    kernel.write_text(NORMALISE)
    wrong.makepyfile(test_spec=SPEC.replace("min_speedup=0.01", "min_speedup=500"))
    result = wrong.runpytest_subprocess(*QUICK)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines([r"\d+\.\d+x over eager \[\d+\.\d+, \d+\.\d+\], expected at least 500x"])


def test_an_optimised_project_keeps_the_counterexample_of_the_kernel_it_replaced(wrong: pytest.Pytester) -> None:
    result = wrong.runpytest_subprocess(*QUICK, "--kevolve-optimize", "--kevolve-budget=evaluations=3")
    result.assert_outcomes(passed=2)
    kept = json.loads((wrong.path / "kernels" / "normalise" / "counterexamples.json").read_text())
    assert kept["draws"][0]["values"]["cols"] == 37
    assert "cols % 64 == 37" not in (wrong.path / KERNEL).read_text()


def test_review_leaves_the_old_kernel_and_prints_the_difference(wrong: pytest.Pytester) -> None:
    before = (wrong.path / KERNEL).read_text()
    result = wrong.runpytest_subprocess(*QUICK, "--kevolve-optimize", "--kevolve-review", "--kevolve-budget=evaluations=3")
    assert (wrong.path / KERNEL).read_text() == before
    assert (wrong.path / KERNEL).with_name("cpu.new.cpp").exists()
    result.stdout.fnmatch_lines(["--- *cpu.cpp", "+++ *cpu.new.cpp"])


def test_an_existing_callable_is_checked_and_timed_without_a_kernel_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        mykernels="import torch\ndef fused(x, weight):\n    return torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, 1e-6)\n",
        test_spec=SPEC.replace("min_speedup=0.01", "min_speedup=0.01, kernel='mykernels:fused'"),
    )
    result = pytester.runpytest_subprocess(*QUICK, "-p", "no:randomly")
    result.assert_outcomes(passed=2)


def test_under_xdist_cases_are_checked_and_skipped_with_the_reason_and_properties_decide(wrong: pytest.Pytester) -> None:
    result = wrong.runpytest_subprocess(*QUICK, "-n2", "-rs")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*correct; not measured: xdist workers share the cores; run without -n to time kernels"])
    result = wrong.runpytest_subprocess(*QUICK, "-n2", "--kevolve-require-measured")
    result.assert_outcomes(failed=2)


def test_a_reference_that_refuses_its_inputs_is_told_at_the_first_item(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC.replace("return Tensor(rows, cols), Tensor(cols)", "return Tensor(rows, cols), Tensor(cols + 1)"))
    result = pytester.runpytest_subprocess(*QUICK)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["the reference test_spec:normalise refuses the inputs of its spec: *"])


def test_triton_kernels_are_checked_in_the_interpreter_and_not_timed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC.replace("sizes(1, 1100)", "sizes(1, 40)"))
    result = pytester.runpytest_subprocess(
        *QUICK, "--kevolve-optimize", "--kevolve-language=triton", "--kevolve-budget=evaluations=1", "-rs"
    )
    result.assert_outcomes(passed=1, skipped=1)
    assert (pytester.path / KERNEL).with_suffix(".py").exists()
    result.stdout.fnmatch_lines(["*not measured: Triton kernels run interpreted on a cpu: checked, not timed*"])
