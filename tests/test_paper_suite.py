"""The paper's workloads: every spec has a property item, and cases for a processor and for a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKLOADS = {
    "attention": {"attention", "attention_decode"},
    "transformer": {"sdpa_mlp", "sdpa_mlp_decode"},
    "interformer": {"pffn"},
    "convolutions": {"conv1d", "conv2d"},
    "retrieval": {"inverted_index"},
    "recommendation": {"map_id", "mbdt", "batch_event_truncate", "wukong_fm", "wukong_fm_training"},
    "norms": {"rms_norm_2d_backward"},
}


def collected(target: str) -> dict[str, dict[str, list[str]]]:
    """The items of the suite for ``target``: of each file by spec."""
    command = [sys.executable, "-m", "pytest", "suites/paper", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "--kevolve-target", target], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, list[str]]] = {}
    for line in done.stdout.splitlines():
        file, _, item = line.partition("::")
        if item:
            name, _, case = item.removeprefix("test_").removesuffix("]").partition("[")
            found.setdefault(Path(file).stem.removeprefix("test_paper_"), {}).setdefault(name, []).append(case)
    return found


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_every_workload_has_cases_for_each_target(target: str) -> None:
    found = collected(target)
    assert {file: set(specs) for file, specs in found.items()} == WORKLOADS
    for specs in found.values():
        for cases in specs.values():
            assert "properties" in cases
            assert len(cases) > 1


def test_the_ordinary_suites_do_not_take_the_paper_s_in() -> None:
    command = [sys.executable, "-m", "pytest", "suites", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "suites/test_norms.py::" in done.stdout
    assert "paper" not in done.stdout
