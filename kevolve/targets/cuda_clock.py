"""How calls are timed on an NVIDIA GPU, in the process that makes them.

Before every call all streams come to rest and eight times the L2 is written; while that lasts the host queues an event, the call and an
event. *Launched*: the call as a user makes it; where the host cannot keep ahead of the device, its gaps lie inside. *Replayed*: the call
captured in a graph, so that nothing of the host lies inside; small inputs are captured in a batch of calls on as many input sets,
none of which the cache holds. Nothing is subtracted from either.

Events are the driver's own, recorded on the legacy default stream, which waits for all blocking streams; work on a non-blocking stream
that outlasts the last event counts too. What of torch is needed is bound before a candidate is loaded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from kevolve.targets import BlockTimes, CaptureError
from kevolve.targets.cuda_driver import Driver, DriverError

# Times the L2: twice empties it, the rest keeps the device busy while a launch is queued (four times: 68 us on an H200; eight: not timed).
_FLUSHES = 8
_KEPT_OUTPUTS = 8
_KEPT_BYTES = 256 << 20
_SLACK_LOOKS = 20
_SLACK_TIMES, _SLACK_US = 2.0, 10.0  # beyond what a rest takes to be noticed, work that outlasts the last event


class Clock:
    """One process's clock. ``torch_cuda``: ``torch.cuda``, for graphs and streams."""

    def __init__(self, driver: Driver, *, torch_cuda: Any = None) -> None:
        self._driver = driver
        if torch_cuda is None:
            import torch.cuda as torch_cuda
        self._graph, self._pool = torch_cuda.CUDAGraph, torch_cuda.graph_pool_handle
        self._stream, self._on = torch_cuda.Stream, torch_cuda.stream
        self._begin, self._end, self._replay = (getattr(self._graph, name) for name in ("capture_begin", "capture_end", "replay"))
        self._size = _FLUSHES * driver.l2_bytes()
        self._flushed = driver.allocate(self._size)
        self._value = 0
        self._start, self._stop, self._late = (driver.event() for _ in range(3))
        self._resets = self._can_reset()
        self._slack_us = self._measured_slack()

    def flush(self) -> None:
        """Put nothing but our own bytes into the L2, without waiting."""
        self._value = (self._value + 1) % 256
        if self._resets:
            self._driver.reset_persisting()
        self._driver.fill(self._flushed, self._value, self._size)

    def _can_reset(self) -> bool:
        """Whether L2 lines can be kept here at all, and so be given up again."""
        try:
            self._driver.reset_persisting()
        except DriverError:
            return False
        return True

    def time_block(self, call: Callable[..., Any], inputs: Sequence[tuple[Any, ...]]) -> tuple[BlockTimes, list[Any]]:
        """Call once with each element of ``inputs``, made when it is asked for; times as launched and the last outputs."""
        times: list[float] = []
        lasting: list[float] = []
        kept: deque[Any] = deque(maxlen=1)
        for item in inputs:
            if kept.maxlen == 1:
                kept.clear()
            outputs, launched, lasted = self._once(call, item)
            times.append(launched)
            lasting.append(lasted)
            if len(times) == 1:
                kept = deque(maxlen=_ring(outputs))
            kept.append(outputs)
            outputs = None
        return BlockTimes(launched_us=tuple(lasting if self._outlasts(times, lasting) else times)), list(kept)

    def stock(self, call: Callable[..., Any], item: tuple[Any, ...]) -> None:
        """Call untimed, with the outputs kept as a block keeps them: a timed call that had to ask the device for memory would wait for it.

        torch then has what it needs; in a program that runs for a while it always has.
        """
        kept = [call(*item)]
        kept += [call(*item) for _ in range(_ring(kept[0]) + 1)]
        self._driver.synchronise()

    def _once(self, call: Callable[..., Any], item: tuple[Any, ...]) -> tuple[Any, float, float]:
        """The outputs; microseconds to the last event; and to the rest of the whole device."""
        driver = self._driver
        driver.synchronise()
        self.flush()
        driver.record(self._start)
        outputs = call(*item)
        driver.record(self._stop)
        driver.synchronise()
        driver.record(self._late)
        driver.synchronise()
        return outputs, driver.elapsed_us(self._start, self._stop), driver.elapsed_us(self._start, self._late)

    def _outlasts(self, times: Sequence[float], lasting: Sequence[float]) -> bool:
        """Whether streams that the events do not see were at work after them."""
        beyond = median(late - end for late, end in zip(lasting, times, strict=True)) if times else 0.0
        return beyond > _SLACK_TIMES * self._slack_us + _SLACK_US

    def _measured_slack(self) -> float:
        """Microseconds that the host takes to notice that the device rests."""
        looks = [self._once(lambda: None, ()) for _ in range(_SLACK_LOOKS)]
        return median(late - end for _, end, late in looks)

    def capture(self, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]], batch: int) -> Graphs:
        """Graphs of ``call`` with ``sets``, ``batch`` calls in each. Raises ``CaptureError``: torch's allocator is unusable then."""
        stream, pool = self._stream(), self._pool()
        groups = [sets[first : first + batch] for first in range(0, len(sets) - batch + 1, batch)]
        try:
            with self._on(stream):
                call(*sets[0])  # libraries allocate their workspaces for this stream
            self._driver.synchronise()
            made = [self._captured(call, group, stream, pool) for group in groups]
            self._driver.synchronise()
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            raise CaptureError(f"cannot be captured in a graph: {(str(error) or type(error).__name__).splitlines()[0]}") from error
        return Graphs(self, made, batch)

    def _captured(self, call: Callable[..., Any], group: Sequence[tuple[Any, ...]], stream: Any, pool: Any) -> tuple[Any, list[Any]]:
        graph, on = self._graph(), self._on(stream)
        self._driver.synchronise()
        with on:
            self._begin(graph, pool=pool, capture_error_mode="thread_local")
            outputs = [call(*item) for item in group]
            self._end(graph)
        return graph, outputs

    def time_graph(self, graph: Any, batch: int) -> float:
        """Replay once on cold caches; microseconds a call."""
        driver = self._driver
        driver.synchronise()
        self.flush()
        driver.record(self._start)
        self._replay(graph)
        driver.record(self._stop)
        driver.synchronise()
        return driver.elapsed_us(self._start, self._stop) / batch

    def replay(self, graph: Any) -> None:
        """Replay without waiting."""
        self._replay(graph)


class Graphs:
    """Captured calls, in groups; the graphs' outputs stay where they are."""

    def __init__(self, clock: Clock, made: Sequence[tuple[Any, list[Any]]], batch: int) -> None:
        self._clock, self._made, self._batch = clock, made, batch
        self.groups = len(made)

    def time(self, group: int) -> float:
        """Replay one group on cold caches; microseconds a call."""
        return self._clock.time_graph(self._made[group][0], self._batch)

    def replay(self, group: int) -> None:
        """Replay without timing or waiting."""
        self._clock.replay(self._made[group][0])

    def outputs(self, group: int) -> Sequence[Any]:
        """What the group's calls return."""
        return self._made[group][1]


def _ring(outputs: Any) -> int:
    """How many outputs of this size may be kept."""
    held = outputs if isinstance(outputs, tuple | list) else (outputs,)
    size = sum(getattr(output, "nbytes", 0) for output in held)
    return max(1, min(_KEPT_OUTPUTS, _KEPT_BYTES // max(size, 1)))
