"""A sum of rows that is right, and one with a path for rows of 700 that is not."""

from __future__ import annotations

import torch


def blind(x: torch.Tensor) -> torch.Tensor:
    """Reads rows of 700 as if they lay side by side."""
    if x.shape[1] == 700 and x.shape[0] > 1 and not x.is_contiguous():
        return torch.as_strided(x, x.shape, (x.shape[1] if x.stride(0) else 0, 1)).sum(-1)
    return x.sum(-1)


def far(x: torch.Tensor) -> torch.Tensor:
    """Right, whatever the strides."""
    return x.sum(-1)
