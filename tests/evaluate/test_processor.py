"""How long another process has been at work."""

from __future__ import annotations

import subprocess
import sys
import time

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
    start = Look(passed=1000.0, first=5.0, every=7.0, waited=3.0)
    end = Look(passed=1100.0, first=5.0 + first, every=7.0 + every, waited=3.0 + waited)
    assert least_between_us(start, end) == pytest.approx(expected)
