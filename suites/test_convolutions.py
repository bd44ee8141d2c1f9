"""Convolutions."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, on, sizes
from reference_ops import convolutions

TAPS = 3


@kevolve.kernel(
    convolutions.conv1d,
    min_speedup=1.5,
    vary=dict(batch=sizes(0, 16), in_channels=sizes(1, 128), out_channels=sizes(1, 128), length=sizes(1, 512)),
)
@pytest.mark.parametrize(
    "batch, in_channels, out_channels, length, dtype",
    [
        pytest.param(8, 96, 96, 200, "float16", marks=on("cpu")),
        pytest.param(64, 32, 32, 100, "float16", marks=on("cpu")),
        pytest.param(512, 96, 96, 200, "float16", marks=on("cuda")),
        pytest.param(2048, 96, 96, 200, "float16", marks=on("cuda")),
    ],
)
def test_conv1d(batch, in_channels, out_channels, length, dtype):
    """The paper's sizes; on the CPU a few of a batch."""
    weight = Tensor(out_channels, in_channels, TAPS, dtype=dtype)
    return Tensor(batch, in_channels, length, dtype=dtype), weight, Tensor(out_channels, dtype=dtype)
