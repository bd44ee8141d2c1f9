"""The target on a real device: everything that the fakes of the other tests stand for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevolve.evaluate import timing
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.outcome import Outcome, Status
from kevolve.evaluate.plan import of_draws
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets.cuda import CUDA

KERNELS = """
import torch

def reference(x):
    return torch.sigmoid(x)

def equal(x):
    return torch.sigmoid(x)

def rounds(x):
    return torch.sigmoid(x).to(torch.float16).to(x.dtype)

def asserts(x):
    return x.index_select(0, torch.full((4,), 1 << 30, device=x.device))

def takes_everything(x):
    return torch.empty(1 << 42, device=x.device)

def elsewhere(x):
    return torch.sigmoid(x).cpu()

def unwritten(x):
    return torch.empty_like(x)

def overwrites(x):
    made = torch.sigmoid(x)
    x.view(-1)[0] = 3.0
    return made
"""
CASE = Case(id="4096", values={"rows": 4096})

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def device() -> CUDA:
    target = CUDA()
    reason = target.missing()
    if reason is not None:
        pytest.skip(reason)
    return target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cuda")
    (made / "cuda_device_kernels.py").write_text(KERNELS)
    return made


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[Workers]:
    with Workers(sys_path=[str(folder)], scratch=folder / "scratch") as made:
        yield made


def _spec(folder: Path) -> Spec:
    return Spec(
        name="sigmoid",
        nodeid="t.py::test_sigmoid",
        folder=folder,
        describe=lambda rows: (Tensor(rows, 1024),),
        reference=Reference(module="cuda_device_kernels", qualname="reference", file=folder / "cuda_device_kernels.py", inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash="sigmoid",
        min_speedup=0.01,
    )


def _candidate(kernel: str) -> Candidate:
    return Candidate(name=kernel, language="triton", entry=kernel, callable=f"cuda_device_kernels:{kernel}")


def _check(workers: Workers, folder: Path, kernel: str, rows: int = 8) -> Outcome:
    plan = of_draws(_spec(folder), [Draw(values={"rows": rows}, seed=3)])
    return check(workers, _spec(folder), _candidate(kernel), plan, target=CUDA(), deadline_s=30)


def test_the_judge_learns_of_the_device_without_starting_it(device: CUDA) -> None:
    code = "import torch; from kevolve.targets.cuda import CUDA; CUDA().device(); print(torch.cuda.is_initialized())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
    assert device.device()["arch"].startswith("sm")


def test_equal_kernels_are_timed_in_both_forms_and_verified(workers: Workers, folder: Path) -> None:
    found = timing.measure(workers, _spec(folder), CASE, _candidate("equal"), target=CUDA(), baselines=("eager",), seed=5)
    assert found.outcome.status is Status.PASSED, found.outcome.message
    assert found.verified >= 1
    assert found.time_us["replayed"] is not None
    assert 0.5 < found.speedup["eager"].estimate < 2.0


@pytest.mark.parametrize("rows", [8, 4096])
def test_draws_are_judged_on_the_host_or_on_the_device_alike(workers: Workers, folder: Path, rows: int) -> None:
    assert _check(workers, folder, "equal", rows).passed
    assert _check(workers, folder, "rounds", rows).status is Status.INCORRECT_NUMERICAL


@pytest.mark.parametrize(
    "kernel, words",
    [
        ("asserts", "an assertion in device code failed"),
        ("takes_everything", "out of memory: OutOfMemoryError"),
        ("elsewhere", "expected a tensor on cuda:0, got one on cpu"),
        ("overwrites", "wrote to input 0"),
    ],
)
def test_faults_are_named_and_the_next_kernel_runs(workers: Workers, folder: Path, kernel: str, words: str) -> None:
    found = _check(workers, folder, kernel)
    assert found.status is Status.RUNTIME_ERROR
    assert words in found.message
    assert _check(workers, folder, "equal").passed


def test_memory_that_was_not_written_is_no_answer(workers: Workers, folder: Path) -> None:
    assert _check(workers, folder, "unwritten").status is Status.INCORRECT_NUMERICAL
