"""A target that behaves as one with a device of its own, on the host: contents stay there, calls are captured, processes are kept."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kevolve.targets import BlockPolicy, CaptureError
from kevolve.targets.cpu import CPU

CROWDED = 1 << 16


class Attached(CPU):
    name = "attached"
    languages = ("python",)
    shares_cores = False
    limits_address_space = False
    starts_programs = True
    writes = ("/dev",)
    forks_after_use = False
    judges_from = 1 << 12
    _captured = 0
    blocks = BlockPolicy(
        min_us=500.0,
        min_calls=3,
        max_calls=10,
        warm_calls=1,
        cache="warm",
        budget_s=0.1,
        quick_budget_s=0.02,
        pairs_a_process=3,
        sets=4,
        answered=2,
        bound_us=1_000.0,
    )

    def lock_path(self) -> Path:
        return Path(tempfile.gettempdir()) / f"kevolve-attached-{os.getuid()}.lock"

    def enter(self, stage: str) -> None:
        super().enter("check" if stage == "judge" else stage)

    def place(self, tensor: Any) -> Any:
        """A copy: what the device holds is not what the host holds."""
        if not tensor.numel():
            return tensor.clone()
        return tensor.as_strided((_span(tensor),), (1,)).clone().as_strided(tensor.shape, tensor.stride())

    def fetch_all(self, tensors: Sequence[Any]) -> list[Any]:
        return [tensor.clone() for tensor in tensors]

    def marker(self, page: Any, offset: int) -> Callable[[int], None]:
        """A device that has always come to what it was told last."""
        return lambda number: struct.pack_into("<q", page, offset, number)

    def stock(self, call: Callable[..., Any], item: tuple[Any, ...]) -> None:
        call(*item)

    def reallocate(self, seed: int) -> None:
        self.reallocated = seed
        self._captured = 0

    def crowds(self) -> bool:
        """Once calls on inputs of so many elements were captured, until they are given back."""
        return self._captured > CROWDED

    def capture(self, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]], batch: int) -> Captured:
        if not sets[0][0].is_floating_point():
            raise CaptureError("integers cannot be captured")
        self._captured = sets[0][0].numel()
        return Captured(call, sets, batch)

    def explain(self, message: str) -> str:
        return message.replace("xyzzy", "an explained error")


class Captured:
    """Calls made again into the outputs of the first ones."""

    def __init__(self, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]], batch: int) -> None:
        self._call, self._batch = call, batch
        self._groups = [sets[first : first + batch] for first in range(0, len(sets), batch)]
        self.groups = len(self._groups)
        self._outputs = [[call(*item) for item in group] for group in self._groups]

    def time(self, group: int) -> float:
        start = time.perf_counter()
        self.replay(group)
        return (time.perf_counter() - start) * 1e6 / self._batch

    def replay(self, group: int) -> None:
        for item, output in zip(self._groups[group], self._outputs[group], strict=True):
            output.copy_(self._call(*item))

    def outputs(self, group: int) -> Sequence[Any]:
        return self._outputs[group]


def _span(tensor: Any) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
