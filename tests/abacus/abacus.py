"""A modelled accelerator in a package of its own, as a hardware team would bring it: no torch device, an exact clock.

Its time is a microsecond for each operator that PyTorch dispatches, plus a nanosecond for each byte of input.
"""

from __future__ import annotations

from typing import Any

from kevolve.targets import BlockPolicy, BlockTimes, Peaks


class Abacus:
    name = "abacus"
    languages = ("cpp",)
    shares_cores = True
    modelled = True
    blocks = BlockPolicy(min_us=0.0, min_calls=1, max_calls=4, warm_calls=0, cache="modelled")

    def missing(self) -> str | None:
        return None

    def device(self) -> dict[str, str]:
        return {"name": "Abacus 1", "arch": "beads"}

    def unmeasured(self, language: str) -> str | None:
        return None

    def largest(self, language: str) -> int | None:
        return None

    def environment(self, language: str) -> dict[str, str]:
        return {"OMP_NUM_THREADS": "1"}

    def peaks(self, cache: Any) -> Peaks:
        return Peaks(bandwidth=((1.0, 4e9),), empty_call_us=1.0)

    def enter(self, stage: str) -> None:
        pass

    def place(self, tensor: Any) -> Any:
        return tensor

    def fetch(self, tensor: Any) -> Any:
        return tensor

    def synchronise(self) -> None:
        pass

    def time_block(self, call: Any, inputs: Any) -> tuple[BlockTimes, list[Any]]:
        times, outputs = [], []
        for item in inputs:
            with _counter()() as counted:
                outputs.append(call(*item))
            moved = sum(getattr(value, "nbytes", 0) for value in item)
            times.append(float(max(counted.operators, 1)) + moved / 1e3)
        return BlockTimes(launched_us=tuple(times)), outputs[-1:]


def _counter() -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        operators = 0

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # else the first use imports torch._dynamo

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.operators += 1
            return func(*args, **(kwargs or {}))

    return Counter
