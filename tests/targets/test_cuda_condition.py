"""What the management library's answers come to: a fake library, and this process's own forebears."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from kevolve import registry
from kevolve.targets.cuda_condition import condition

UUID = "00112233445566778899aabbccddeeff"
OK, UNSUPPORTED = 0, 3


class Management:
    """A library with one device. ``held``: nanoseconds by policy; one that is missing is not supported."""

    def __init__(self, held: dict[int, int], pids: tuple[int, ...] = ()) -> None:
        self.held, self.pids = held, pids
        self.asked: list[bytes] = []

    def nvmlDeviceGetHandleByUUID(self, name: bytes, device: Any) -> int:  # noqa: N802  # the library's own name
        self.asked.append(name)
        return OK

    def nvmlDeviceGetViolationStatus(self, device: Any, policy: int, made: Any) -> int:  # noqa: N802
        if policy not in self.held:
            return UNSUPPORTED
        made._obj.violation = self.held[policy]
        return OK

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device: Any, count: Any, made: Any) -> int:  # noqa: N802
        for place, pid in enumerate(self.pids):
            made[place].pid = pid
        count._obj.value = len(self.pids)
        return OK


def test_clocks_held_down_are_named_by_reason_and_what_is_not_supported_is_left_out() -> None:
    library = Management({0: 1_500_000_000, 1: 0})
    assert condition(UUID, library=library) == ({"power cap": 1.5, "heat": 0.0}, ())
    assert library.asked == [b"GPU-00112233-4455-6677-8899-aabbccddeeff"]


def test_our_own_processes_are_not_others() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        _, others = condition(UUID, library=Management({}, (os.getpid(), child.pid, os.getppid(), 2**22 + 1)))
    finally:
        child.communicate(b"\n")
    assert [name.rpartition("(")[2] for name in others] == [f"{os.getppid()})"]


def test_without_a_device_nothing_is_known() -> None:
    target = registry.load("targets", "cuda")
    if target.missing() is None:
        pytest.skip("there is a device here")
    assert target.condition() == ({}, ())


@pytest.mark.gpu
def test_the_device_here_answers() -> None:
    held, others = registry.load("targets", "cuda").condition()
    assert all(seconds >= 0 for seconds in held.values())
    assert isinstance(others, tuple)
