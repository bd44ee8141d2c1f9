"""One convolution, along the last axis and channels last in two dimensions, at the paper's sizes."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, on, sizes
from reference_ops import convolutions

TAPS = 3
SIZES = dict(batch=sizes(0, 16), in_channels=sizes(1, 128), out_channels=sizes(1, 128), length=sizes(1, 512))
CASES = [
    pytest.param(8, 96, 96, 200, "float16", marks=on("cpu")),
    pytest.param(64, 96, 96, 200, "float16", marks=on("cuda")),
    pytest.param(512, 96, 96, 200, "float16", marks=on("cuda")),
    pytest.param(2048, 96, 96, 200, "float16", marks=on("cuda")),
]


@kevolve.kernel(convolutions.conv1d, min_speedup=1.5, vary=SIZES)
@pytest.mark.parametrize("batch, in_channels, out_channels, length, dtype", CASES)
def test_conv1d(batch, in_channels, out_channels, length, dtype):
    """The paper's three batches; on the CPU a few of one."""
    weight = Tensor(out_channels, in_channels, TAPS, dtype=dtype)
    return Tensor(batch, in_channels, length, dtype=dtype), weight, Tensor(out_channels, dtype=dtype)


@kevolve.kernel(convolutions.conv2d_channels_last, min_speedup=1.2, vary=SIZES)
@pytest.mark.parametrize("batch, in_channels, out_channels, length, dtype", CASES)
def test_conv2d(batch, in_channels, out_channels, length, dtype):
    """The same convolution in one row of an image, its channels last in memory."""
    weight = Tensor(out_channels, 1, TAPS, in_channels, dtype=dtype)
    return Tensor(batch, 1, length, in_channels, dtype=dtype), weight, Tensor(out_channels, dtype=dtype)
