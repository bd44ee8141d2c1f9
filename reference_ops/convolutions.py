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


def conv2d_channels_last(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv1d`` as a convolution in two dimensions with channels last: stride 1, padded by one zero on both sides of every row.

    ``x``: floating [batch, rows, length, in_channels]. ``weight``: the same dtype [out_channels, 1, taps, in_channels].
    ``bias``: [out_channels]. Returns the same dtype [batch, rows, length + 3 - taps, out_channels].
    Source: KernelEvolve, arXiv 2512.23236, which measures conv1d against it.
    """
    channels_first = x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2)  # in shape alone: the memory stays as it is
    return functional.conv2d(*channels_first, bias, stride=1, padding=(0, 1)).permute(0, 2, 3, 1)
