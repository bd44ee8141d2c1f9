from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kevolve.targets import cpu, peaks
from kevolve.targets.cpu import CPU


def _in_a_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_fresh_memory_is_poisoned_while_checking() -> None:
    code = (
        "import torch; from kevolve.targets.cpu import CPU; CPU().enter('check'); "
        "print(all(bool((torch.empty(n, dtype=torch.uint8) == 0x7F).all()) for n in (2000, 4096, 100_000, 1 << 22)))"
    )
    assert _in_a_process(code) == "True"


def test_memory_once_touched_stays_with_a_timed_process() -> None:
    code = (
        "import ctypes, resource, torch; from kevolve.targets.cpu import CPU; CPU().enter('time')\n"
        "ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n"  # PR_SET_THP_DISABLE: a huge page is one fault
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.empty(8 << 20, dtype=torch.uint8).fill_(1)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "seen = [faults() for _ in range(20)]\n"
        "print(seen[0] > 1000 and max(seen[12:]) < 100)"
    )
    assert _in_a_process(code) == "True"


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected 'check' or 'time', got 'nap'"):
        CPU().enter("nap")


def test_elsewhere_than_on_linux_the_reason_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CPU().missing() is None
    monkeypatch.setattr(cpu.sys, "platform", "darwin")
    assert CPU().missing() == "the cpu target needs Linux, this is darwin; use a Linux machine, container or WSL"


def test_interpreted_kernels_are_checked_but_not_timed() -> None:
    assert CPU().unmeasured("cpp") is None
    assert CPU().unmeasured("triton") == "Triton kernels run interpreted on a cpu: checked, not timed"
    assert CPU().largest("cpp") is None
    assert CPU().largest("triton") == 1 << 15
    assert CPU().environment("triton")["TRITON_INTERPRET"] == "1"
    assert "TRITON_INTERPRET" not in CPU().environment("cpp")


def test_torch_compile_is_told_of_clang_only_where_there_is_no_gcc(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"g++", "clang++"}
    monkeypatch.setattr(cpu.shutil, "which", lambda name, path: f"/usr/bin/{name}" if name in installed else None)
    assert "CXX" not in CPU().environment("cpp")
    installed.remove("g++")
    assert CPU().environment("cpp")["CXX"] == "clang++"
    installed.remove("clang++")
    assert "CXX" not in CPU().environment("cpp")


def test_idle_threads_sleep_soon_and_there_are_as_many_as_usable_cores() -> None:
    environment = CPU().environment("cpp")
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert 0 < int(environment["GOMP_SPINCOUNT"]) < 300_000  # libgomp's own, which lasts for milliseconds
    assert environment["OMP_NUM_THREADS"] == CPU().device()["cores"]


@pytest.mark.parametrize("text, cores", [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None)])
def test_a_containers_quota_counts_as_cores(tmp_path: Path, text: str, cores: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cpu._quota(tmp_path / "cpu.max") == cores


def test_a_block_times_every_call_and_nothing_else() -> None:
    ticks = iter(range(0, 10_000, 1_000))
    times, outputs = CPU().time_block(lambda x: x + 1, [(1,), (2,), (3,)], clock=lambda: next(ticks))
    assert times.launched_us == (1.0, 1.0, 1.0)
    assert times.replayed_us is None
    assert outputs == [2, 3, 4]


def test_small_outputs_of_the_last_eight_calls_are_kept_and_of_large_ones_the_last() -> None:
    _, small = CPU().time_block(lambda n: torch.full((4,), n), [(n,) for n in range(20)])
    assert [int(output[0]) for output in small] == list(range(12, 20))
    _, large = CPU().time_block(lambda n: torch.full((1 << 20,), n), [(n,) for n in range(3)])
    assert [int(output[0]) for output in large] == [2]


def test_large_outputs_are_given_back_before_the_next_call() -> None:
    places = []

    def call() -> torch.Tensor:
        made = torch.zeros(1 << 20)
        places.append(made.data_ptr())
        return made

    code_free = CPU().time_block(call, [()] * 6)
    assert len(code_free[1]) == 1
    assert len(set(places)) < 6


def test_peaks_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = peaks.measure(lambda kind, size, budget_s: 1e9 * (kind + 1))
    assert found.margin == 1.25
    assert found.bandwidth[0] == (65536.0, 4e9)  # the best of reading, copying and filling
    assert found.operations == {"float32": 6e9, "float64": 7e9}
    kept = peaks._kept_path(CPU(), tmp_path)
    kept.parent.mkdir()
    kept.write_text(json.dumps(peaks.to_json(found)))
    monkeypatch.setattr(peaks, "_probed", lambda *_: pytest.fail("measured again"))
    assert CPU().peaks(tmp_path) == found


def test_a_busy_machine_widens_the_margin_and_is_measured_again(tmp_path: Path) -> None:
    rates = iter(range(1, 10_000))
    assert peaks.measure(lambda kind, size, budget_s: float(next(rates)), most_sweeps=2).margin == 2.0


def test_the_probe_measures_this_machine(tmp_path: Path) -> None:
    found = CPU().peaks(tmp_path)
    assert len(found.bandwidth) == len(found.random_accesses) == 8
    assert all(1e8 < rate < 1e13 for _, rate in found.bandwidth)
    assert min(found.operations["float32"], found.operations["float64"]) > 1e8  # which is more depends on who else computes just now
    assert found.empty_call_us is not None
    assert 0.05 < found.empty_call_us < 1000


def test_measured_again_the_higher_figures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other load all the while makes a machine look slow, and evenly so: what a second look finds higher counts, and nothing lower."""
    slow, quick = (peaks.measure(lambda kind, size, budget_s, rate=rate: rate * (kind + 1)) for rate in (1e8, 1e9))
    mixed = replace(quick, operations={**quick.operations, "float32": 1.0}, empty_call_us=1e9)
    looks = iter([slow, mixed, slow])
    monkeypatch.setattr(peaks, "_probed", lambda *_: next(looks))
    assert CPU().peaks(tmp_path) == slow
    again = CPU().peaks_again(tmp_path)
    assert again.bandwidth == quick.bandwidth
    assert again.operations == {"float32": slow.operations["float32"], "float64": quick.operations["float64"]}
    assert again.empty_call_us == slow.empty_call_us
    assert replace(CPU().peaks_again(tmp_path), margin=again.margin) == again
    assert CPU().peaks(tmp_path).bandwidth == quick.bandwidth
