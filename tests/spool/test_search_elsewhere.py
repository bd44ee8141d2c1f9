"""`pytest --kevolve-optimize --kevolve-evaluator spool:DIR` beside `kevolve evaluate DIR`: measured there, written here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from kevolve.spool.shelf import Shelf
from tests.plain_kernel import NORMALISE
from tests.spool.project import answer

ROOT = Path(__file__).parents[2]
SPEC = """
import kevolve, pytest, torch
from kevolve import Tensor, sizes

def normalise(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

@kevolve.kernel(normalise, min_speedup=0.0001, baseline=("eager",), vary=dict(rows=sizes(0, 8), cols=sizes(1, 40)))
@pytest.mark.parametrize("rows, cols", [(64, 512)])
def test_normalise(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""


def measure_whatever_comes(folder: Path, stop: threading.Event) -> None:
    """The other machine, and whoever carries files between the two."""
    script = "import sys; from kevolve.cli import main; sys.exit(main(['evaluate', sys.argv[1]]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    while not stop.wait(0.1):
        for sent in Shelf(folder).rounds(done=False):
            if not sent.results.exists():
                done = subprocess.run([sys.executable, "-c", script, sent.path], env=environment, capture_output=True, timeout=120)
                assert done.returncode == 0 or not sent.path.exists(), done.stderr  # a round that was taken meanwhile is nobody's fault


@pytest.mark.filterwarnings("error")
def test_a_kernel_is_found_checked_and_timed_elsewhere_and_written_here(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC)
    rounds, stop = pytester.path / "rounds", threading.Event()
    measuring = threading.Thread(target=measure_whatever_comes, args=(rounds, stop))
    measuring.start()
    options = ("-p", "no:cacheprovider", "-k", "properties", "--kevolve-optimize", "--kevolve-budget=evaluations=1")
    try:
        result = pytester.runpytest_subprocess(*options, "--kevolve-evaluator=spool:rounds", timeout=200)
    finally:
        stop.set()
        measuring.join()
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "kevolve: normalise: a question about the device in *0001-normalise.round.zip; *",
            "kevolve: normalise: 1 candidate in *0002-normalise.round.zip; *",
            "kevolve: normalise: 1 kernel to accept in *0003-normalise.round.zip; *",
            "kevolve: normalise wrote kernels/normalise/cpu.cpp: *x [[]*] over eager",
        ]
    )
    header = (pytester.path / "kernels" / "normalise" / "cpu.cpp").read_text()
    assert "// measured: 64-512: " in header
    assert "// toolchain: compiler g++" in header
    assert sorted(path.name for path in rounds.iterdir()) == ["device.json", "done"]


MODEL = """
import pathlib, sys

prompt, here = sys.stdin.read(), pathlib.Path(__file__).parent
mended = "(checked on target cpu here" in prompt
(here / ("told.md" if mended else "asked.md")).write_text(prompt)
kernel = (here / "kernel.cpp").read_text()
print("```cpp", kernel if mended else kernel.replace("1e-6", "0.5"), "```", sep="\\n")
"""


def answer_whatever_comes(folder: Path, stop: threading.Event) -> None:
    """Another machine that measures nothing and says so of everything that it is right."""
    while not stop.wait(0.05):
        for sent in Shelf(folder).rounds(done=False):
            with suppress(FileNotFoundError):  # taken meanwhile: its results are moved away before it is
                if sent.results.exists():
                    continue
                answer(sent)


def test_a_models_kernel_that_is_wrong_is_found_out_here_and_mended_before_it_travels(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC, model=MODEL)
    (pytester.path / "kernel.cpp").write_text(NORMALISE)
    rounds, stop = pytester.path / "rounds", threading.Event()
    answering = threading.Thread(target=answer_whatever_comes, args=(rounds, stop))
    answering.start()
    options = ("-p", "no:cacheprovider", "-k", "properties", "--kevolve-optimize", "--kevolve-budget=evaluations=5")
    model = f"--kevolve-model=command:{sys.executable} {pytester.path / 'model.py'}"
    try:
        pytester.runpytest_subprocess(*options, model, "--kevolve-evaluator=spool:rounds", timeout=200)
    finally:
        stop.set()
        answering.join()
    assert "# Hardware\n\n- name: a device\n- arch: a1\n" in (pytester.path / "asked.md").read_text()
    assert "(checked on target cpu here, not on a device)" in (pytester.path / "told.md").read_text()
    sent = [job.source.strip() for each in Shelf(rounds).rounds(done=True) for job in each.asked.round.jobs]
    assert NORMALISE.strip() in sent
    assert NORMALISE.replace("1e-6", "0.5").strip() not in sent


def test_an_evaluator_that_nobody_knows_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_spec=SPEC)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kevolve-evaluator=ssh:there")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --kevolve-evaluator: expected spool:DIR, got 'ssh:there'"])
