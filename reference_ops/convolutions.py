"""Convolutions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution along the last axis with stride 1, padded by one zero on both sides.

    ``x``: floating [batch, in_channels, length]. ``weight``: the same dtype [out_channels, in_channels, taps]. ``bias``: [out_channels].
    Returns the same dtype [batch, out_channels, length + 3 - taps].
    """
    return functional.conv1d(x, weight, bias, stride=1, padding=1)
