"""While a timing has the host, other processes' calls stand still and work on many cores waits; afterwards everything goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kevolve.evaluate.client import ChildFailed, Workers
from kevolve.evaluate.outcome import Status
from kevolve.evaluate.quiet import Quiet
from kevolve.targets.cpu import CPU


class Process:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


def _waits(do: Callable[[], object]) -> tuple[bool, threading.Thread]:
    """Whether it has to wait; it goes on in the thread."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(0.2)
    return thread.is_alive(), thread


def test_a_call_under_way_is_stopped_for_a_timing_of_others_and_its_deadline_with_it() -> None:
    quiet, process = Quiet(), Process()
    with quiet.calling(process) as stopped_s:
        with quiet.during([]):
            assert process.told == ["pause"]
            time.sleep(0.05)
            assert stopped_s() >= 0.05
        assert process.told == ["pause", "resume"]
        stood = stopped_s()
        time.sleep(0.02)
        assert stopped_s() == stood
    with quiet.during([]):
        assert process.told == ["pause", "resume"], "it has no call under way"


def test_calls_of_the_processes_that_are_timed_go_on_and_have_their_own_deadline() -> None:
    quiet, process = Quiet(), Process()
    with quiet.during([process]), quiet.calling(process) as stopped_s:
        time.sleep(0.02)
        assert stopped_s() == 0.0
    assert process.told == []


def test_what_others_begin_waits_for_the_end_of_a_timing() -> None:
    quiet, begun = Quiet(), []

    def call() -> None:
        with quiet.calling(Process()):
            begun.append("call")

    def work() -> None:
        with quiet.working():
            begun.append("work")

    with quiet.during([]):
        waiting = [_waits(call), _waits(work)]
        assert [waits for waits, _ in waiting] == [True, True]
    for _, thread in waiting:
        thread.join(5)
    assert sorted(begun) == ["call", "work"]


def test_a_timing_waits_for_work_that_has_begun_and_for_another_timing() -> None:
    quiet, timed = Quiet(), []

    def timing() -> None:
        with quiet.during([]):
            timed.append(1)

    with quiet.working():
        waits, first = _waits(timing)
        assert waits
    first.join(5)
    with quiet.during([]):
        waits, second = _waits(timing)
        assert waits
    second.join(5)
    assert timed == [1, 1]


def test_a_timing_that_fails_lets_everything_go_on() -> None:
    quiet, process = Quiet(), Process()
    with quiet.calling(process):
        with pytest.raises(ValueError, match="broken"), quiet.during([]):
            raise ValueError("broken")
        assert process.told == ["pause", "resume"]


def test_a_process_stands_still_while_another_is_timed_and_its_deadline_does_not_pass(workers: Workers, cpu: CPU) -> None:
    with (
        workers.child(target=cpu, language="cpp") as other,
        workers.child(target=cpu, language="cpp") as timed,
        ThreadPoolExecutor(1) as thread,
    ):
        other.pause()  # a call that does not end by itself
        call = thread.submit(other.call, "ping", deadline_s=0.5)
        time.sleep(0.2)
        with workers.quiet.during([timed]):
            assert timed.call("ping", deadline_s=30).fields == {"pid": timed.pid}
            time.sleep(0.6)
            assert not call.done(), "its half second has not passed"
        with pytest.raises(ChildFailed) as caught:
            call.result(timeout=30)
        assert caught.value.status is Status.TIMEOUT
