"""The paper's workloads: every spec has a property item, and cases for a processor and for a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ATTENTION = {"test_attention", "test_attention_decode"}
TRANSFORMER = {"test_sdpa_mlp", "test_sdpa_mlp_decode"}


def collected(file: str, target: str) -> list[str]:
    """The items of a file of the suite for ``target``, less the path."""
    command = [sys.executable, "-m", "pytest", f"suites/paper/{file}", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "--kevolve-target", target], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.parametrize(
    "file, names", [("test_paper_attention.py", ATTENTION), ("test_paper_transformer.py", TRANSFORMER)], ids=["attention", "transformer"]
)
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_every_workload_has_cases_for_each_target(file: str, names: set[str], target: str) -> None:
    items = collected(file, target)
    assert {item.partition("[")[0] for item in items} == names
    for name in names:
        mine = [item for item in items if item.startswith(f"{name}[")]
        assert f"{name}[properties]" in mine
        assert len(mine) > 1
