"""A repository with kernels, for the gate's tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

SPEC = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

EPS = 1e-6

def normalise(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight

@kevolve.kernel(normalise, min_speedup=0.001, baseline=("eager",), vary=dict(rows=sizes(0, 16), cols=sizes(1, 70)))
@pytest.mark.parametrize("rows, cols", [(64, 128)])
def test_normalise(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""
KERNEL = Path("kernels") / "normalise" / "cpu.cpp"
AGAIN = "  for (int again = 0; again < 3; ++again)\n  for (int64_t r = 0;"


def slowed(kernel: str) -> str:
    """The same kernel, doing its work three times."""
    made = kernel.replace("  for (int64_t r = 0;", AGAIN)
    assert made != kernel
    return made


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command that must succeed, under a name of the test's own."""
    named = ("-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *named, *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def commit(folder: Path, message: str) -> str:
    """Commit everything there is; the commit's name."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def write(folder: Path, path: Path | str, text: str) -> Path:
    """A file below ``folder``."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file
