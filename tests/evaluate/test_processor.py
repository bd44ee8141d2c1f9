"""How long another process has been at work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kevolve.evaluate.processor import Look, least_between_us, look

BUSY = """
import sys, time
sys.stdin.readline()
end = time.process_time() + 0.2
while time.process_time() < end:
    pass
print(flush=True)
sys.stdin.readline()
"""


def test_what_a_process_has_worked_is_known_from_outside_and_its_idle_time_is_not_work() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = look(process.pid, time.perf_counter)
        if before is None:
            pytest.skip("this system does not count what its processes run")
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        after = look(process.pid, time.perf_counter)
        assert after is not None
        assert 150_000 < after.first - before.first < after.passed - before.passed + 50_000
        assert least_between_us(before, after) is not None
        process.stdin.write("\n")
        process.stdin.flush()


def test_a_process_that_is_gone_has_no_figures() -> None:
    assert look(2**22 + 1, time.perf_counter) is None
    assert least_between_us(None, None) is None


@pytest.mark.parametrize(
    ("first", "every", "waited", "expected"),
    [
        (80.0, 40.0, 0.0, 100.0),  # a quiet machine: what has passed
        (80.0, 40.0, 50.0, 80.0),  # a busy one: no less than its first thread ran
        (10.0, 90.0, 95.0, 90.0),  # work on other threads counts by core
    ],
)
def test_other_load_is_left_out_and_work_is_not(first: float, every: float, waited: float, expected: float) -> None:
    used = every * len(os.sched_getaffinity(0))
    start = Look(passed=1000.0, first=5.0, used=7.0, waited=3.0)
    end = Look(passed=1100.0, first=5.0 + first, used=7.0 + used, waited=3.0 + waited)
    assert least_between_us(start, end) == pytest.approx(expected)


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
