"""References and callables that the workers under test import."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch


def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def sizes_read(x: torch.Tensor) -> torch.Tensor:
    """What ``tolist`` of a device's tensor dispatches, and a conversion."""
    torch.ops.aten._to_copy(x, device="cpu")
    return torch.ops.aten._to_copy(x, dtype=torch.float64) if x.numel() == 2 else x.clone()


def scaled(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x * weight, x.sum()


def add_in_place(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x.add_(y)
    return x.sum()


def fails(x: torch.Tensor) -> torch.Tensor:
    raise ZeroDivisionError("no rows")


def not_a_tensor(x: torch.Tensor) -> int:
    return 3


def sleeps_at_three(x: torch.Tensor) -> torch.Tensor:
    if x.numel() == 3:
        time.sleep(600)
    return 2 * x


def aborts_at_three(x: torch.Tensor) -> torch.Tensor:
    if x.numel() == 3:
        time.sleep(0.6)
        os.abort()
    return 2 * x


def environment(x: torch.Tensor) -> torch.Tensor:
    files = {Path(f"/proc/self/fd/{fd}").readlink().name.partition(":")[0] for fd in range(20) if Path(f"/proc/self/fd/{fd}").exists()}
    raise RuntimeError(f"{sorted(os.environ)} {sys.flags.isolated} {sorted(files)}")


def with_bias(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x + weight


def with_bias_prepare(weight: torch.Tensor) -> torch.Tensor:
    return weight * 10


def bombs(x: torch.Tensor) -> torch.Tensor:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(600)
    return x


def spins(x: torch.Tensor) -> torch.Tensor:
    while True:
        x = x + 0
    return x


def escapes(x: torch.Tensor) -> torch.Tensor:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
    return x * 1
