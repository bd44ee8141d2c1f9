from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

from kevolve.evaluate.hold import Hold, Holds


def _waits(hold: Hold, how: str, seconds: float = 0.2) -> bool:
    """Whether somebody else, as in another process, has to wait."""
    entered = threading.Event()

    def enter() -> None:
        with getattr(hold, how)():
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return not entered.wait(seconds)


def test_checks_share_a_device_and_a_timing_waits_for_them(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Hold(path).shared():
        assert not _waits(Hold(path), "shared", 5)
        assert _waits(Hold(path), "alone")


def test_nobody_uses_a_device_beside_a_timing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Hold(path).alone():
        assert _waits(Hold(path), "shared")
        assert _waits(Hold(path), "alone")
    assert not _waits(Hold(path), "alone", 5)


def test_a_timing_that_waits_comes_before_checks_that_ask_later(tmp_path: Path) -> None:
    hold, order = Hold(tmp_path / "lock"), []

    def use(how: str) -> None:
        with getattr(hold, how)():
            order.append(how)

    threads = [threading.Thread(target=use, args=(how,)) for how in ("alone", "shared")]
    with hold.shared():
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == ["alone", "shared"]


def test_timings_that_wait_come_one_after_another_before_checks_that_wait(tmp_path: Path) -> None:
    hold, order = Hold(tmp_path / "lock"), []

    def use(how: str) -> None:
        with getattr(hold, how)():
            order.append(how)
            time.sleep(0.02)

    asked = ["alone", "shared", "alone", "shared", "alone"]
    threads = [threading.Thread(target=use, args=(how,)) for how in asked]
    with hold.shared():
        for thread in threads:
            thread.start()
            time.sleep(0.05)
    for thread in threads:
        thread.join(5)
    assert order == ["alone", "alone", "alone", "shared", "shared"]


def test_a_target_without_a_device_of_its_own_needs_no_lock() -> None:
    holds, order = Holds(), []
    with holds.alone(SimpleNamespace()), holds.alone(SimpleNamespace()), holds.shared(SimpleNamespace(lock_path=lambda: None)):
        order.append("all at once")
    assert order == ["all at once"]


def test_another_users_lock_file_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(mode=0o444)
    target = SimpleNamespace(lock_path=lambda: path)
    holds = Holds()
    with holds.shared(target), holds.shared(target):
        assert path.stat().st_mode & 0o777 == 0o444


def test_what_may_be_interrupted_is_stopped_while_a_timing_has_the_device_and_goes_on_after_the_last(tmp_path: Path) -> None:
    hold, told = Hold(tmp_path / "lock"), []
    with hold.interruptible(lambda: told.append("pause"), lambda: told.append("resume")):
        assert _waits(Hold(tmp_path / "lock"), "alone"), "another process's timing waits"
        with hold.alone():
            told.append("timed")
            assert _waits(Hold(tmp_path / "lock"), "shared"), "nobody else comes in"
            following = threading.Thread(target=_use, args=(hold, told))
            following.start()
            time.sleep(0.1)
        following.join(5)
        assert told == ["pause", "timed", "timed", "resume"]
        assert _waits(Hold(tmp_path / "lock"), "alone"), "it uses the device again"
    assert not _waits(Hold(tmp_path / "lock"), "alone", 5)


def _use(hold: Hold, told: list[str]) -> None:
    with hold.alone():
        told.append("timed")


def test_what_ends_as_it_is_stopped_is_let_go_on_for_its_next_use(tmp_path: Path) -> None:
    hold, told, ended = Hold(tmp_path / "lock"), [], threading.Event()

    def interruptible() -> None:
        with hold.interruptible(lambda: told.append("pause"), lambda: told.append("resume")):
            ended.wait(5)

    thread = threading.Thread(target=interruptible)
    thread.start()
    while _waits(Hold(tmp_path / "lock"), "shared", 5) or not hold._interruptible:
        time.sleep(0.01)
    with hold.alone():
        ended.set()
        thread.join(5)
        assert not thread.is_alive()
    assert told == ["pause", "resume"]


def test_nothing_is_stopped_before_those_who_share_the_device_have_ended(tmp_path: Path) -> None:
    """One of them may wait for a lock that what is to be stopped has: the three would wait for each other."""
    hold, told = Hold(tmp_path / "lock"), []
    with hold.interruptible(lambda: told.append("pause"), lambda: told.append("resume")):
        with hold.shared():
            timing = threading.Thread(target=_use, args=(hold, told))
            timing.start()
            while not hold._waiting:
                time.sleep(0.01)
            time.sleep(0.1)
            assert told == []
        timing.join(5)
    assert told == ["pause", "timed", "resume"]
