"""The set of references that lowering is tested on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from kevolve.operators.samples.library import SAMPLES

ROOT = Path(__file__).resolve().parent.parent.parent
LOWERING = "benchmarks/lowering"


def collected(*folders: str) -> Counter[tuple[str, str]]:
    """How many cases each spec has, by file and name; what pytest cannot collect, wrong declarations among it, fails."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--kevolve-target", "cpu", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "::" in line and not line.endswith("[properties]")]
    cases = [line.split("::") for line in lines]
    return Counter((file, test.partition("[")[0].removeprefix("test_")) for file, test in cases)


def test_the_folder_has_sixty_specs_of_two_or_three_cases_each_under_names_that_no_suite_and_no_sample_has() -> None:
    specs = collected(LOWERING, "suites")
    ours = {spec: cases for spec, cases in specs.items() if spec[0].startswith(LOWERING)}
    names = [name for _, name in ours]
    assert len(names) == len(set(names)) == 60
    assert set(ours.values()) <= {2, 3}
    suites = {name for file, name in specs if not file.startswith(LOWERING)}
    assert len(suites) >= 12
    assert not set(names) & (suites | {sample.name for sample in SAMPLES})
