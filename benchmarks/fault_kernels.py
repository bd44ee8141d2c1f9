"""Kernels that fail in every way a GPU knows, and one that does not. Imported in a child only."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _outside(x):
    tl.store(x + (1 << 40), 1.0)


@triton.jit
def _crooked(x):
    place = (x.to(tl.int64, bitcast=True) + 1).to(tl.pointer_type(tl.float32), bitcast=True)
    tl.store(place, 1.0)


@triton.jit
def _endless(x):
    value = tl.load(x)
    while value > -1.0e30:
        value = tl.atomic_add(x, 1.0)


@triton.jit
def _wide(x, LONG: tl.constexpr):
    row, along = tl.arange(0, 64), tl.arange(0, LONG)
    one = tl.load(x + row[:, None] * LONG + along[None, :]).to(tl.bfloat16)
    other = tl.load(x + along[:, None] * 64 + row[None, :]).to(tl.bfloat16)
    tl.store(x + row[:, None] * 64 + row[None, :], tl.dot(one, other))  # both operands lie in shared memory


def right(x: torch.Tensor) -> torch.Tensor:
    """The correct one. Floating [rows, cols] to the same."""
    return torch.sigmoid(x)


def _scratch() -> torch.Tensor:
    return torch.zeros(1 << 20, device="cuda")


def illegal_address(x: torch.Tensor) -> torch.Tensor:
    """Writes four terabytes beyond its memory."""
    _outside[(1,)](_scratch())
    return torch.sigmoid(x)


def misaligned_access(x: torch.Tensor) -> torch.Tensor:
    """Writes four bytes at an odd address."""
    _crooked[(1,)](_scratch())
    return torch.sigmoid(x)


def device_assert(x: torch.Tensor) -> torch.Tensor:
    """Indexes beyond the end."""
    return x.index_select(0, torch.full((4,), 1 << 30, device=x.device))


def out_of_resources(x: torch.Tensor) -> torch.Tensor:
    """Wants more shared memory than a multiprocessor has: twice 128 KiB."""
    _wide[(1,)](_scratch(), LONG=1024, num_warps=8, num_stages=1)
    return torch.sigmoid(x)


def endless(x: torch.Tensor) -> torch.Tensor:
    """Never comes back."""
    _endless[(1,)](_scratch())
    return torch.sigmoid(x)


def out_of_memory(x: torch.Tensor) -> torch.Tensor:
    """Asks for four terabytes."""
    torch.empty(1 << 40, dtype=torch.float32, device=x.device)
    return torch.sigmoid(x)
