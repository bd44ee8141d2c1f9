"""Softmax and the loss that is built on it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis. ``x``: floating [rows, cols]. Returns the same dtype and shape."""
    return torch.softmax(x, dim=-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy over rows, computed in float32 as language models do.

    ``logits``: floating [rows, vocab]. ``target``: int64 [rows], each in [0, vocab). Returns a float32 scalar.
    """
    return functional.cross_entropy(logits.float(), target)
