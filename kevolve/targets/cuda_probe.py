"""What a GPU can do, by small kernels that do nothing else. Runs in a process of its own: it imports Triton and starts the device.

Every launch finds its caches cold, as a timed kernel does. Loads bypass the L1 (``.cg``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from kevolve.targets.cuda_clock import Clock

_LOOKS = 5
_ACCESSES = 1 << 26  # a launch makes
_BLOCK = 2048
_MATRIX = 8192
_FUSED_BLOCK, _FUSED_STEPS, _FUSED_LOOPS = 1024, 64, 64
_EMPTY_BATCH = 16
_EMPTY_LOOKS = 50
_PROGRAMS_A_MULTIPROCESSOR = 16


@triton.jit  # type: ignore[untyped-decorator]
def _read(source, sums, blocks, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    first, step = tl.program_id(0), tl.num_programs(0)
    total = tl.zeros([BLOCK], tl.float32)
    for block in range(first, blocks, step):
        place = block * BLOCK
        total += tl.load(source + place + tl.arange(0, BLOCK), cache_modifier=".cg")
    tl.store(sums + first, tl.sum(total))


@triton.jit  # type: ignore[untyped-decorator]
def _fill(target, blocks, value, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    first, step = tl.program_id(0), tl.num_programs(0)
    for block in range(first, blocks, step):
        place = block * BLOCK
        tl.store(target + place + tl.arange(0, BLOCK), tl.full([BLOCK], value, tl.float32))


@triton.jit  # type: ignore[untyped-decorator]
def _copy(source, target, blocks, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    first, step = tl.program_id(0), tl.num_programs(0)
    for block in range(first, blocks, step):
        place = block * BLOCK
        tl.store(target + place + tl.arange(0, BLOCK), tl.load(source + place + tl.arange(0, BLOCK), cache_modifier=".cg"))


@triton.jit  # type: ignore[untyped-decorator]
def _random(source, sums, sectors, accesses, seed, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    first, step = tl.program_id(0), tl.num_programs(0)
    total = tl.zeros([BLOCK], tl.float32)
    for block in range(first, accesses // BLOCK, step):
        number = (block * BLOCK + tl.arange(0, BLOCK)).to(tl.uint32) + seed
        number = (number ^ (number >> 16)) * 0x7FEB352D
        number = (number ^ (number >> 15)) * 0x846CA68B
        number = number ^ (number >> 16)
        total += tl.load(source + (number & (sectors - 1)).to(tl.int64) * 8, cache_modifier=".cg")
    tl.store(sums + first, tl.sum(total))


@triton.jit  # type: ignore[untyped-decorator]
def _fuse(sums, loops, BLOCK: tl.constexpr, STEPS: tl.constexpr):  # type: ignore[no-untyped-def]
    made = tl.arange(0, BLOCK).to(tl.float32)
    for _loop in range(loops):
        for _step in tl.static_range(STEPS):
            made = made * 1.0000001 + 0.5
    tl.store(sums + tl.program_id(0), tl.sum(made))


@triton.jit
def _nothing():  # type: ignore[no-untyped-def]
    pass


class Probe:
    """The device's rates; see ``cuda_peaks.measure``. Memory is touched before it is timed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._programs = torch.cuda.get_device_properties(0).multi_processor_count * _PROGRAMS_A_MULTIPROCESSOR
        self._sums = torch.zeros(self._programs, device="cuda")

    def read(self, size: int) -> float:
        """Bytes a second read, once from ``size`` bytes."""
        source, blocks = self._memory(size)
        return self._rate(size, lambda: _read[(self._grid(blocks),)](source, self._sums, blocks, BLOCK=_BLOCK))

    def fill(self, size: int) -> float:
        """Bytes a second written, once to ``size`` bytes."""
        target, blocks = self._memory(size)
        return self._rate(size, lambda: _fill[(self._grid(blocks),)](target, blocks, 1.0, BLOCK=_BLOCK))

    def copy(self, size: int) -> float:
        """Bytes a second read and written, half of ``size`` each."""
        both, blocks = self._memory(size)
        half = blocks // 2
        source, target = both[: half * _BLOCK], both[half * _BLOCK :]
        return self._rate(2 * half * _BLOCK * 4, lambda: _copy[(self._grid(half),)](source, target, half, BLOCK=_BLOCK))

    def random(self, size: int) -> float:
        """Random 32-byte sectors a second, read from a table of ``size`` bytes (a power of two)."""
        table = torch.zeros(size // 4, device="cuda")
        grid = (self._programs,)
        return self._rate(_ACCESSES, lambda: _random[grid](table, self._sums, size // 32, _ACCESSES, 12345, BLOCK=1024))

    def matrix(self, dtype: str) -> float | None:
        """Operations a second of a matrix product (no TF32); None where torch has none for the dtype."""
        size = _MATRIX
        operations = 2.0 * size**3
        if dtype == "int8":
            one, other = (torch.randint(-128, 128, (size, size), dtype=torch.int8, device="cuda") for _ in range(2))
            return self._rate(operations, lambda: torch._int_mm(one, other.t()))
        one, other = (torch.randn(size, size, device="cuda", dtype=getattr(torch, dtype)) for _ in range(2))
        rate = self._rate(operations, lambda: torch.mm(one, other))
        return max(rate, self._fused()) if dtype == "float32" else rate

    def _fused(self) -> float:
        """float32 operations a second of multiply-adds in registers, which a matrix product does not reach."""
        operations = 2.0 * _FUSED_BLOCK * _FUSED_STEPS * _FUSED_LOOPS * self._programs
        return self._rate(operations, lambda: _fuse[(self._programs,)](self._sums, _FUSED_LOOPS, BLOCK=_FUSED_BLOCK, STEPS=_FUSED_STEPS))

    def empty_us(self) -> float:
        """A kernel that does nothing, replayed as kernels are timed: the least of many batches."""
        _nothing[(1,)]()
        graphs = self._clock.capture(lambda: _nothing[(1,)](), [()] * _EMPTY_BATCH, _EMPTY_BATCH)
        return min(graphs.time(0) for _ in range(_EMPTY_LOOKS))

    def _memory(self, size: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(size // 4, device="cuda"), size // 4 // _BLOCK

    def _grid(self, blocks: int) -> int:
        return max(1, min(self._programs, blocks))

    def _rate(self, amount: float, launch: Callable[[], Any]) -> float:
        """``amount`` over the quickest of some launches; the first one compiles."""
        launch()
        times, _ = self._clock.time_block(lambda: launch(), [()] * _LOOKS)
        return amount / min(times.launched_us) * 1e6
