from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve.targets import cuda, cuda_peaks
from kevolve.targets.cuda import CUDA, explain

H200 = {
    "name": "NVIDIA H200",
    "capability": [9, 0],
    "memory_bytes": 143771 << 20,
    "multiprocessors": 132,
    "l2_bytes": 60 << 20,
    "uuid": "00ff" * 8,
}
PYTORCH = "https://pytorch.org/get-started/locally/"
FOUND = {"devices": [H200, {**H200, "uuid": "11ff" * 8}], "cuda": "13.0", "driver": "580.159.04"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine as the probe would describe it."""

    def made(found: Any = FOUND, *, torch_cuda: str | None = "13.0", **variables: str) -> None:
        monkeypatch.setattr(cuda, "_found", lambda: found)
        monkeypatch.setattr(cuda, "_torch_cuda", lambda: torch_cuda)
        for name in ("CUDA_VISIBLE_DEVICES", "KEVOLVE_DEVICE", *cuda.PASSED_ON):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return made


def test_a_device_is_described_for_the_record(machine: Callable[..., None]) -> None:
    machine()
    assert CUDA().missing() is None
    device = dict(CUDA().device())
    assert {name: device[name] for name in ("name", "arch", "memory", "multiprocessors", "driver", "driver_cuda", "torch_cuda")} == {
        "name": "NVIDIA H200",
        "arch": "sm90",
        "memory": "140 GiB",
        "multiprocessors": "132",
        "driver": "580.159.04",
        "driver_cuda": "13.0",
        "torch_cuda": "13.0",
    }


@pytest.mark.parametrize(
    "found, torch_cuda, variables, reason",
    [
        ({"problem": "no CUDA driver: libcuda.so.1: not found"}, "13.0", {}, "no CUDA driver: libcuda.so.1: not found"),
        (
            FOUND,
            None,
            {},
            f"torch {torch.__version__} is built without CUDA; install a CUDA build: {PYTORCH}",
        ),
        ({"devices": []}, "13.0", {"CUDA_VISIBLE_DEVICES": ""}, "the CUDA driver sees no device (CUDA_VISIBLE_DEVICES='')"),
        (FOUND, "13.0", {"KEVOLVE_DEVICE": "2"}, "KEVOLVE_DEVICE='2': expected a number from 0 to 1"),
        (FOUND, "13.0", {"KEVOLVE_DEVICE": "big"}, "KEVOLVE_DEVICE='big': expected a number from 0 to 1"),
        (
            {**FOUND, "devices": [{**H200, "name": "Tesla P100", "capability": [6, 0]}]},
            "13.0",
            {},
            "Tesla P100 has compute capability 6.0, at least 7.0 is needed",
        ),
    ],
)
def test_the_reason_why_kernels_cannot_run_is_precise(
    machine: Callable[..., None], found: Any, torch_cuda: str | None, variables: dict[str, str], reason: str
) -> None:
    machine(found, torch_cuda=torch_cuda, **variables)
    assert CUDA().missing() == reason
    assert "arch" not in CUDA().device()


def test_the_probe_answers_in_a_process_of_its_own_whatever_there_is() -> None:
    done = subprocess.run([sys.executable, "-I", str(cuda._PROBE)], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & {"devices", "problem"}


@pytest.mark.parametrize(
    "visible, chosen, seen",
    [(None, None, "0"), (None, "1", "1"), ("3,5", None, "3"), ("3,5", "1", "5"), ("GPU-a,GPU-b", "1", "GPU-b")],
)
def test_children_see_one_device(machine: Callable[..., None], visible: str | None, chosen: str | None, seen: str) -> None:
    variables = {"CUDA_VISIBLE_DEVICES": visible, "KEVOLVE_DEVICE": chosen}
    machine(**{name: value for name, value in variables.items() if value is not None})
    assert CUDA().environment("triton")["CUDA_VISIBLE_DEVICES"] == seen


def test_the_drivers_place_is_passed_on_and_secrets_are_not(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(LD_LIBRARY_PATH="/usr/local/nvidia/lib64")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    environment = CUDA().environment("triton")
    assert environment["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64"
    assert "SOME_TOKEN" not in environment
    assert "TRITON_INTERPRET" not in environment


def test_each_device_has_a_lock_of_its_own(machine: Callable[..., None]) -> None:
    machine()
    first = CUDA().lock_path()
    machine(KEVOLVE_DEVICE="1")
    second = CUDA().lock_path()
    assert first is not None
    assert second is not None
    assert first.name == f"kevolve-device-{'00ff' * 8}.lock"
    assert second.name == f"kevolve-device-{'11ff' * 8}.lock"


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected 'check', 'time' or 'judge', got 'nap'"):
        CUDA().enter("nap")


def test_a_devices_error_is_told_without_advice_on_debugging() -> None:
    raised = (
        "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in https://docs.nvidia.com\n"
        "CUDA kernel errors might be asynchronously reported at some other API call\nFor debugging consider passing\n"
    )
    assert explain(raised) == "CUDA error: an illegal memory access was encountered (the kernel read or wrote outside its tensors)"
    assert explain("CUDA error: an error of next year") == "CUDA error: an error of next year"
    assert explain("shapes differ") == "shapes differ"


class FakeProbe:
    """A device whose caches are twice as quick."""

    def read(self, size: int) -> float:
        return 8e12 if size <= 32 << 20 else 4e12

    def copy(self, size: int) -> float:
        return 3e12

    fill = copy

    def random(self, size: int) -> float:
        return 5e10

    def matrix(self, dtype: str) -> float | None:
        return None if dtype == "int8" else 1e14

    def empty_us(self) -> float:
        return 1.4


def test_peaks_are_the_best_of_reading_copying_and_filling_and_unknown_rates_are_left_out() -> None:
    found = cuda_peaks.measure(FakeProbe())
    assert dict(found.bandwidth)[32 << 20] == 8e12
    assert dict(found.bandwidth)[1 << 30] == 4e12
    assert set(found.operations) == {"float32", "float16", "bfloat16", "float64"}
    assert found.empty_call_us == 1.4
    assert found.margin == 1.1


def test_peaks_are_measured_once_a_device_and_kept(machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    looks = []

    def probed(target: Any) -> Any:
        looks.append(target)
        return cuda_peaks.measure(FakeProbe())

    monkeypatch.setattr(cuda_peaks, "_probed", probed)
    first, second = CUDA().peaks(tmp_path), CUDA().peaks(tmp_path)
    assert first == second
    assert len(looks) == 1
    machine({**FOUND, "devices": [{**H200, "name": "NVIDIA H100"}]})
    CUDA().peaks(tmp_path)
    assert len(looks) == 2


def test_a_probe_that_fails_leaves_the_speed_of_light_unknown_and_says_so(
    machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()

    def probed(target: Any) -> Any:
        raise ValueError("its probe failed (exit 1): no compiler")

    monkeypatch.setattr(cuda_peaks, "_probed", probed)
    with pytest.warns(UserWarning, match="the peaks of NVIDIA H200 could not be measured, so no speed of light: its probe failed"):
        assert CUDA().peaks(tmp_path).bandwidth == ()
    assert not list(tmp_path.rglob("*.json"))
