"""The reference of ``faults``: a module of its own, since every process that computes it imports this anew."""

from __future__ import annotations

import torch


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Floating [n] to the same."""
    return x + x
