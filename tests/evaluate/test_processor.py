from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kevolve.evaluate.processor import Look, least_between_us, look


def test_a_process_s_waits_are_those_of_all_its_threads(tmp_path: Path) -> None:
    me = tmp_path / str(os.getpid())
    for thread, waited in (("5", 1_500_000_000), ("6", 500_000_000)):
        (me / "task" / thread).mkdir(parents=True)
        (me / "task" / thread / "schedstat").write_text(f"99000 {waited} 3\n")
    (me / "schedstat").write_text("7000 1 1\n")
    found = look(os.getpid(), time.monotonic, proc=tmp_path)
    assert found is not None
    assert (found.first, found.waited) == (7.0, 2e6)
    assert look(os.getpid() + 1, time.monotonic, proc=tmp_path) is None


def test_the_least_time_is_what_passed_less_what_was_waited_and_no_less_than_any_thread_ran() -> None:
    cores = len(os.sched_getaffinity(0))
    before = Look(passed=0.0, first=0.0, used=0.0, waited=0.0)
    assert least_between_us(before, Look(passed=100.0, first=10.0, used=10.0, waited=30.0)) == 70.0
    assert least_between_us(before, Look(passed=100.0, first=80.0, used=80.0, waited=90.0)) == 80.0
    assert least_between_us(before, Look(passed=100.0, first=1.0, used=90.0 * cores, waited=99.0)) == 90.0
    assert least_between_us(None, before) is None


def test_this_machine_says_how_long_a_process_waited_that_shares_its_core() -> None:
    if look(os.getpid(), time.monotonic) is None:
        pytest.skip("this kernel keeps no schedstat")

    def waited_us(process: subprocess.Popen[bytes]) -> float:
        found = look(process.pid, time.monotonic)
        return 0.0 if found is None else found.waited

    core = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    pair = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
    try:
        deadline = time.monotonic() + 20
        while min(map(waited_us, pair)) < 50_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(waited >= 50_000 for waited in map(waited_us, pair))
    finally:
        for one in pair:
            one.kill()
            one.wait()
