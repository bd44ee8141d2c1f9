"""What Nsight Compute and torch's profiler leave, read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kevolve import registry
from kevolve.targets.cuda_profilers import DURATION, NsightCompute, TorchProfiler, parse, parse_events
from kevolve.targets.profile import Unprofiled

# Nsight Compute's command line: ``--csv --print-units base --metrics …``, details page.
HEAD = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC",'
    '"Section Name","Metric Name","Metric Unit","Metric Value"'
)
LAUNCH = '"{id}","4242","python3.12","127.0.0.1","{name}","1","7","(128, 1, 1)","(4096, 1, 1)","0","9.0","Command line profiler metrics"'


def row(id: int, name: str, metric: str, unit: str, value: str) -> str:
    return f'{LAUNCH.format(id=id, name=name)},"{metric}","{unit}","{value}"'


NCU = "\n".join(
    [
        "==PROF== Connected to process 4242 (/usr/bin/python3.12)",
        '==PROF== Profiling "rms_norm_kernel": 0%....50%....100% - 4 passes',
        "==PROF== Disconnected from process 4242",
        HEAD,
        row(0, "rms_norm_kernel", "dram__bytes_read.sum", "byte", "67,108,864"),
        row(0, "rms_norm_kernel", DURATION, "nsecond", "41,984"),
        row(0, "rms_norm_kernel", "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed", "%", "78.91"),
        row(0, "rms_norm_kernel", "launch__registers_per_thread", "register/thread", "40"),
        row(0, "rms_norm_kernel", "lts__t_sector_hit_rate.pct", "%", "n/a"),
        row(1, "finish(float*, int)", DURATION, "ns", "2,000"),
        row(2, "finish(float*, int)", DURATION, "us", "4"),
    ]
)
DENIED = """==PROF== Connected to process 4242 (/usr/bin/python3.12)
==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the target device 0.
==PROF== Disconnected from process 4242
==WARNING== No kernels were profiled.
"""


def test_a_row_a_metric_becomes_a_line_a_kernel_the_longest_first() -> None:
    profile = parse(NCU, calls=1)
    norm, finish = profile.kernels
    assert (norm.name, norm.launches, norm.time_us) == ("rms_norm_kernel", 1.0, pytest.approx(41.984))
    assert (finish.launches, finish.time_us) == (2.0, pytest.approx(3.0))
    assert profile.text.splitlines() == [
        "Nsight Compute, 1 calls:",
        "- rms_norm_kernel: 42 us; memory bandwidth used 78.9%; read 67,108,864 bytes; registers a thread 40",
        "- finish(float*, int): 3 us, 2 launches a call",
    ]


def test_counters_that_are_not_permitted_are_told_in_its_own_words() -> None:
    with pytest.raises(Unprofiled, match="ncu: ERR_NVGPUCTRPERM - The user does not have permission"):
        parse(DENIED, calls=1)
    with pytest.raises(Unprofiled, match="No kernels were profiled"):
        parse("==WARNING== No kernels were profiled.\n", calls=1)


def test_profiling_is_off_until_the_process_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ncu").write_text("#!/bin/sh\n")
    (tmp_path / "ncu").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = NsightCompute()
    assert tool.missing() is None
    command = tool.command(tmp_path)
    assert command[0] == str(tmp_path / "ncu")
    assert command[command.index("--profile-from-start") + 1] == "off"
    assert command[command.index("--log-file") + 1] == str(tmp_path / "ncu.csv")
    assert NsightCompute(program="no-such-ncu").missing() == "no no-such-ncu on PATH or in the toolkit's folder"


def test_what_torch_saw_is_told_by_kernel() -> None:
    events = [{"name": "norm", "launches": 40, "time_us": 800.0}, {"name": "x" * 300 + "\x1b[31m", "launches": 20, "time_us": 20.0}]
    profile = parse_events(json.dumps(events), calls=20)
    assert profile.text.splitlines()[1] == "- norm: 20 us, 2 launches a call"
    assert "\x1b" not in profile.text
    assert len(profile.text) < 400
    assert profile.text.endswith("not known: counters: only Nsight Compute reads them")


@pytest.mark.parametrize("text", ["", "[" * 10_000, "{}", "[]", "[1]", '[{"name": 1}]', '[{"name": "k", "launches": true, "time_us": 1}]'])
def test_what_a_candidate_left_in_its_place_is_no_profile(text: str) -> None:
    with pytest.raises(Unprofiled):
        parse_events(text, calls=1)


def test_a_link_in_place_of_figures_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "secret").write_text(json.dumps([{"name": "secret", "launches": 1, "time_us": 1.0}]))
    (tmp_path / "scratch" / "kernels.json").symlink_to(tmp_path / "secret")
    with pytest.raises(Unprofiled, match="something other than figures"):
        TorchProfiler().read(tmp_path, calls=1)


def test_many_kernels_are_told_in_few_lines() -> None:
    events = [{"name": f"k{number}", "launches": 1, "time_us": 1.0 + number} for number in range(40)]
    lines = parse_events(json.dumps(events), calls=1).text.splitlines()
    assert len(lines) <= 20
    assert lines[1] == "- k39: 40 us"
    assert "- and 35 kernels that take less" in lines


def test_the_target_asks_nsight_compute_first() -> None:
    assert [profiler.name for profiler in registry.load("targets", "cuda").profilers] == ["Nsight Compute", "torch.profiler"]
