"""How many threads the judge itself computes with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

_FEW = 1 << 21


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, in the calling thread only: OpenMP's threads spin when cores are busy.

    Two busy processes beside it made two thousand small oracles take 157 s on two cores instead of 2 s.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(values: Sequence[Any]) -> contextlib.AbstractContextManager[None]:
    """One thread below two million elements, as many as there are above."""
    small = sum(value.numel() for value in values if isinstance(value, torch.Tensor)) <= _FEW
    return one_thread() if small else contextlib.nullcontext()
