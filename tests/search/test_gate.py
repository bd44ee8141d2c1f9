"""Timings alone, everything else together, and nobody kept out for ever."""

from __future__ import annotations

import threading
import time

from kevolve.search.gate import Gate


class Watch:
    """Who is inside."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.seen: list[tuple[str, ...]] = []
        self._lock = threading.Lock()

    def pass_through(self, gate: Gate, kind: str, seconds: float = 0.005) -> None:
        with gate.alone() if kind == "alone" else gate.shared():
            with self._lock:
                self.inside.append(kind)
                self.seen.append(tuple(self.inside))
            time.sleep(seconds)
            with self._lock:
                self.inside.remove(kind)


def crowd(gate: Gate, watch: Watch, kinds: list[str], rounds: int) -> list[threading.Thread]:
    def work(kind: str) -> None:
        for _ in range(rounds):
            watch.pass_through(gate, kind)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    return threads


def test_a_timing_is_alone_and_checks_are_together():
    gate, watch = Gate(), Watch()
    for thread in crowd(gate, watch, ["shared"] * 4 + ["alone"] * 3, 8):
        thread.join(20)
        assert not thread.is_alive()
    assert len(watch.seen) == 56
    assert all(seen == ("alone",) or "alone" not in seen for seen in watch.seen)
    assert max(len(seen) for seen in watch.seen) > 1


def test_a_timing_that_waits_is_not_starved_by_checks_that_keep_coming():
    gate, watch, stop = Gate(), Watch(), threading.Event()

    def endless() -> None:
        while not stop.is_set():
            watch.pass_through(gate, "shared", 0.01)

    threads = [threading.Thread(target=endless, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    done = threading.Thread(target=watch.pass_through, args=(gate, "alone"))
    done.start()
    done.join(5)
    assert not done.is_alive()
    stop.set()


def test_checks_that_wait_go_before_the_next_timing():
    gate, order = Gate(), []
    ready, first = threading.Barrier(3), threading.Event()

    def alone(name: str) -> None:
        with gate.alone():
            order.append(name)
            if name == "first":
                first.set()
                ready.wait(5)
                time.sleep(0.05)  # until the other two wait

    def later(kind: str) -> None:
        ready.wait(5)
        if kind == "shared":
            with gate.shared():
                order.append("shared")
        else:
            alone("second")

    threads = [threading.Thread(target=alone, args=("first",))]
    threads[0].start()
    assert first.wait(5)
    threads += [threading.Thread(target=later, args=(kind,)) for kind in ("alone", "shared")]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert order == ["first", "shared", "second"]
