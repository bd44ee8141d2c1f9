"""Inputs of timed calls that stay on a device: several sets of buffers in turn, each rewritten whole before a call that uses it.

The contents of call ``number`` follow from the pool and a seed alone, whichever buffers they are written to, so that the judge can make
them again on the host. See ``contents`` for the pool itself.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from kevolve.evaluate.contents import row_of, window, write

BATCHED_BYTES = 16 << 20  # input sets up to here are captured in a batch: a call with them lasts a few microseconds
REPLAYED_FROM = 1 << 40  # the first number of a captured call: no launched one comes so far
_OUTPUTS_TOO = 2  # outputs are taken to be as large as inputs
_LEAST_SETS = 2
_LARGE_BYTES = 1 << 20  # torch serves smaller ones from segments that are there

Layout = Sequence[Sequence[Any]]


class Resident:
    """The inputs of call after call. The same ``fd``, ``layout`` and ``seed`` give the same contents in every process."""

    def __init__(self, fd: int, layout: Layout, seed: int, *, place: Callable[[Any], Any] = lambda tensor: tensor, sets: int = 1) -> None:
        self.layout = layout
        self.seed = seed
        self.sets = sets
        self._place = place
        self._map = mmap.mmap(fd, os.fstat(fd).st_size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._flats = [[self._flat(slot) for slot in row] for row in layout]
        self._buffers: list[list[Any]] = []
        self._banked: dict[tuple[int, int], Any] = {}

    def _flat(self, slot: dict[str, Any] | None) -> Any:
        if slot is None or slot["kind"] == "value":
            return None
        dtype = getattr(torch, slot["dtype"])
        if not slot["length"]:
            return self._place(torch.empty(0, dtype=dtype))
        return self._place(torch.frombuffer(self._map, dtype=dtype, count=slot["length"], offset=slot["at"]))

    def release(self, seed: int) -> None:
        """Forget every buffer; the next ones lie elsewhere, and their contents follow from ``seed``."""
        self._buffers.clear()
        self._banked.clear()
        self.seed = seed

    def inputs(self, number: int, into: int | None = None) -> tuple[Any, ...]:
        """The inputs of call ``number``, in the buffers of set ``into`` (the next in turn, where None)."""
        if not self._buffers:
            self._bank()
        while len(self._buffers) < self.sets:
            self._buffers.append([self._buffer(slot, flat) for slot, flat in zip(self.layout[0], self._flats[0], strict=True)])
        row = row_of(self.seed, number, len(self.layout))
        held = self._buffers[number % self.sets if into is None else into]
        return tuple(self._input(held, position, row, number) for position in range(len(held)))

    def _bank(self) -> None:
        """Make a bank's large buffers at once: made between timed calls, they take the memory that these would have had again."""
        for row, slots in enumerate(self.layout):
            for position, slot in enumerate(slots):
                flat = self._flats[row][position]
                if slot is not None and slot["kind"] == "bank" and flat.nbytes >= _LARGE_BYTES:
                    self._restored(row, position, slot, flat)

    def _buffer(self, slot: dict[str, Any], flat: Any) -> Any:
        if flat is None:
            return slot["value"]
        if slot["kind"] == "bank":
            return None  # each row has its own, of its own shape
        return self._filled(slot, flat)

    def _filled(self, slot: dict[str, Any], flat: Any) -> Any:
        buffer = _strided_empty(slot, flat)
        write(buffer, flat)
        return buffer

    def _input(self, held: list[Any], position: int, row: int, number: int) -> Any:
        slot, flat = self.layout[row][position], self._flats[row][position]
        if slot is not None and slot["kind"] == "bank":
            return self._restored(row, position, slot, flat)
        if slot is not None and row and slot["kind"] == "value":
            return slot["value"]
        buffer, pool, kind = held[position], self._flats[0][position], self.layout[0][position]["kind"]
        if kind in ("window", "whole"):
            start = window(self.seed, position, number, pool.numel() - buffer.numel() + 1)
            write(buffer, pool[start : start + buffer.numel()])
        elif kind == "restored":
            write(buffer, pool)
        return buffer

    def _restored(self, row: int, position: int, slot: dict[str, Any], flat: Any) -> Any:
        """A bank's input in buffers that its row keeps, written anew: an earlier call may have changed it."""
        key = (row, position)
        if key not in self._banked:
            self._banked[key] = self._filled(slot, flat)
        else:
            write(self._banked[key], flat)
        return self._banked[key]


def _strided_empty(slot: dict[str, Any], like: torch.Tensor) -> torch.Tensor:
    """Memory of our own with the slot's strides and storage offset, where ``like`` lies."""
    shape, strides, offset = slot["shape"], slot["strides"], slot["offset"]
    if prod(shape) == 0:
        return torch.empty_strided(shape, strides, dtype=like.dtype, device=like.device)
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return torch.zeros(offset + span, dtype=like.dtype, device=like.device).as_strided(shape, strides, offset)


# --- which calls a replay makes: the judge and the worker reckon alike ---


def set_count(layout: Layout, most: int, most_bytes: int) -> int:
    """How many input sets calls rotate over: at least two, as many as ``most_bytes`` hold with their outputs, of a bank its rows."""
    fitting = most_bytes // max(1, _OUTPUTS_TOO * _row_bytes(layout))
    return max(1, min(most, max(_LEAST_SETS, fitting), len(layout) if _is_bank(layout) else most))


def batch_size(layout: Layout, sets: int) -> int:
    """How many calls a graph holds: one on every set where the inputs are small, else one."""
    return sets if _row_bytes(layout) <= BATCHED_BYTES else 1


def replayed_numbers(layout: Layout, seed: int, number: int, *, count: int, sets: int, batch: int) -> list[list[int]]:
    """The numbers of the calls in ``count`` replays from ``number`` on: group after group, of a bank those whose rows were captured."""
    rows, found = len(layout), []
    for replay in range(count):
        if rows > 1:
            first = replay % (sets // batch) * batch
            number += (first - row_of(seed, number, rows)) % rows
        found.append(list(range(number, number + batch)))
        number += batch
    return found


def captured_numbers(layout: Layout, seed: int, number: int, sets: int) -> list[int]:
    """Numbers of calls that fill every set once, from ``number`` on; of a bank its first rows."""
    return [call for replay in replayed_numbers(layout, seed, number, count=1, sets=sets, batch=sets) for call in replay]


def _is_bank(layout: Layout) -> bool:
    return any(slot["kind"] == "bank" for slot in layout[0])


def _row_bytes(layout: Layout) -> int:
    return sum(_slot_bytes(slot) for slot in layout[0] if slot["kind"] != "value")


def _slot_bytes(slot: dict[str, Any]) -> int:
    size: int = prod(slot["shape"]) * getattr(torch, slot["dtype"]).itemsize
    return size
