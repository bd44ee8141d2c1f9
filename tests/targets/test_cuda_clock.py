"""The clock's arithmetic and order of work, on a driver that only counts."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve.targets import CaptureError
from kevolve.targets.cuda_clock import Clock
from kevolve.targets.cuda_driver import Driver, DriverError

NOTICED_US = 12.0  # what a rest takes to be noticed


class FakeDriver:
    """Time passes only in calls, in ``work`` and in ``side`` (work on a stream that events do not see)."""

    def __init__(self) -> None:
        self.now = 0.0
        self.side = 0.0
        self.log: list[str] = []

    def l2_bytes(self) -> int:
        return 1000

    def allocate(self, size: int) -> str:
        return f"{size} bytes"

    def event(self) -> dict[str, float]:
        return {}

    def record(self, event: dict[str, float]) -> None:
        self.log.append("record")
        event["at"] = self.now

    def elapsed_us(self, start: dict[str, float], end: dict[str, float]) -> float:
        return end["at"] - start["at"]

    def synchronise(self) -> None:
        self.log.append("synchronise")
        self.now += self.side + NOTICED_US
        self.side = 0.0

    def reset_persisting(self) -> None:
        self.log.append("reset")

    def fill(self, pointer: str, value: int, size: int) -> None:
        self.log.append(f"fill {pointer}")

    def work(self, us: float) -> None:
        self.log.append("call")
        self.now += us


class FakeGraph:
    """Captures nothing; a replay lasts as long as its calls."""

    driver: FakeDriver
    refuses = False

    def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
        self.start = self.driver.now
        if FakeGraph.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    def capture_end(self) -> None:
        self.lasts = self.driver.now - self.start

    def replay(self) -> None:
        self.driver.now += self.lasts


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def clock(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(FakeGraph, "driver", driver, raising=False)
    monkeypatch.setattr(FakeGraph, "refuses", False)
    fake = SimpleNamespace(CUDAGraph=FakeGraph, Stream=object, stream=lambda stream: nullcontext(), graph_pool_handle=lambda: (0, 1))
    made = Clock(driver, torch_cuda=fake)  # type: ignore[arg-type]
    driver.log.clear()
    return made


def test_each_call_is_queued_behind_a_flush_that_follows_a_rest(clock: Clock, driver: FakeDriver) -> None:
    times, outputs = clock.time_block(lambda us: driver.work(us) or us, [(30.0,), (40.0,)])
    assert times.launched_us == (30.0, 40.0)
    assert times.replayed_us is None
    assert outputs == [30.0, 40.0]
    one = ["synchronise", "reset", "fill 8000 bytes", "record", "call", "record", "synchronise", "record", "synchronise"]
    assert driver.log == one * 2


def test_work_that_outlasts_the_last_event_counts(clock: Clock, driver: FakeDriver) -> None:
    def hides(us: float) -> None:
        driver.work(1.0)
        driver.side = us

    times, _ = clock.time_block(hides, [(100.0,)] * 5)
    assert times.launched_us == (1.0 + 100.0 + NOTICED_US,) * 5
    times, _ = clock.time_block(hides, [(2.0,)] * 5)
    assert times.launched_us == (1.0,) * 5


def test_a_batch_is_timed_a_call_and_its_groups_keep_their_outputs(clock: Clock, driver: FakeDriver) -> None:
    graphs = clock.capture(lambda us: driver.work(us) or us, [(1.0,), (2.0,), (3.0,), (4.0,)], 2)
    assert graphs.groups == 2
    assert graphs.time(0) == 1.5
    assert graphs.time(1) == 3.5
    assert list(graphs.outputs(1)) == [3.0, 4.0]


def test_a_replay_is_queued_as_a_call_is(clock: Clock, driver: FakeDriver) -> None:
    graphs = clock.capture(lambda: driver.work(5.0), [()], 1)
    driver.log.clear()
    graphs.time(0)
    assert driver.log == ["synchronise", "reset", "fill 8000 bytes", "record", "record", "synchronise"]


def test_calls_that_cannot_be_captured_say_why_in_a_line(clock: Clock, driver: FakeDriver) -> None:
    FakeGraph.refuses = True
    with pytest.raises(CaptureError, match=r"^cannot be captured in a graph: operation not permitted when stream is capturing$"):
        clock.capture(lambda: driver.work(5.0), [()], 1)


def test_small_outputs_are_kept_and_of_large_ones_the_last(clock: Clock) -> None:
    small, large = SimpleNamespace(nbytes=8), SimpleNamespace(nbytes=1 << 30)
    assert len(clock.time_block(lambda: small, [()] * 20)[1]) == 8
    assert len(clock.time_block(lambda: large, [()] * 3)[1]) == 1


def test_a_driver_call_that_fails_is_named_as_torch_names_it() -> None:
    def error_string(code: int, text: Any) -> int:
        text._obj.value = b"an illegal memory access was encountered"
        return 0

    def error_name(code: int, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_ILLEGAL_ADDRESS"
        return 0

    library = SimpleNamespace(cuCtxSynchronize=lambda: 700, cuGetErrorString=error_string, cuGetErrorName=error_name)
    with pytest.raises(DriverError, match=r"^CUDA error: an illegal memory access was encountered \(CUDA_ERROR_ILLEGAL_ADDRESS\)$"):
        Driver(library).synchronise()


def test_without_persisting_lines_nothing_is_reset(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> None:
        raise DriverError("CUDA error: operation not supported")

    monkeypatch.setattr(driver, "reset_persisting", refuses)
    fake = SimpleNamespace(CUDAGraph=FakeGraph, Stream=object, stream=nullcontext, graph_pool_handle=tuple)
    times, _ = Clock(driver, torch_cuda=fake).time_block(lambda: driver.work(3.0), [()])  # type: ignore[arg-type]
    assert times.launched_us == (3.0,)


def test_the_allocator_is_stocked_with_as_many_outputs_as_a_block_keeps(driver: FakeDriver) -> None:
    fake = SimpleNamespace(CUDAGraph=FakeGraph, Stream=object, stream=nullcontext, graph_pool_handle=tuple)
    clock, alive, most = Clock(driver, torch_cuda=fake), [0], [0]  # type: ignore[arg-type]

    class Output:
        nbytes = 32 << 20

        def __init__(self) -> None:
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self) -> None:
            alive[0] -= 1

    clock.stock(Output, ())
    stocked, most[0] = most[0], 0
    clock.time_block(Output, [()] * 25)
    assert most[0] <= stocked
    assert stocked == 10
