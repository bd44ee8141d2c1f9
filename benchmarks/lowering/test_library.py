"""What no skeleton covers, allowed to call the library for it."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import library
from kevolve import Tensor, choices, sizes


@kevolve.kernel(library.gated_mlp, allow="aten::mm", vary=dict(tokens=sizes(0, 256), dim=sizes(1, 512), hidden=sizes(1, 1024)))
@pytest.mark.parametrize("tokens, dim, hidden", [(32, 384, 1024), (128, 256, 688)])
def test_gated_mlp(tokens, dim, hidden):
    """Small language models of Llama's proportions."""
    weight = Tensor(hidden, dim)
    return Tensor(tokens, dim), weight, weight, Tensor(dim, hidden)


@kevolve.kernel(
    library.conv_norm_relu,
    allow="aten::convolution",
    vary=dict(batch=sizes(1, 8), channels=sizes(1, 64), outputs=sizes(1, 64), height=sizes(1, 64), width=sizes(1, 64)),
)
@pytest.mark.parametrize("batch, channels, outputs, height, width", [(1, 64, 64, 28, 28), (4, 16, 32, 32, 32)])
def test_conv_norm_relu(batch, channels, outputs, height, width):
    """Blocks of ResNets for ImageNet and for CIFAR."""
    statistics, variance = Tensor(outputs), Tensor(outputs, low=0.1, high=2.0)
    return Tensor(batch, channels, height, width), Tensor(outputs, channels, 3, 3), statistics, variance, statistics, statistics


@kevolve.kernel(
    library.sliced_wasserstein, allow=("aten::mm", "aten::sort"), vary=dict(count=sizes(1, 1024), dim=sizes(1, 64), slices=sizes(1, 128))
)
@pytest.mark.parametrize("count, dim, slices", [(500, 64, 32), (2000, 2, 10)])
def test_sliced_wasserstein(count, dim, slices):
    """Features of two batches of images; points in the plane."""
    return Tensor(count, dim), Tensor(count, dim), Tensor(dim, slices)


@kevolve.kernel(
    library.log_power_spectrogram, allow="aten::_fft_r2c", vary=dict(batch=sizes(1, 16), frames=sizes(1, 200), hop=choices(80, 160))
)
@pytest.mark.parametrize("batch, frames, frame, hop", [(1, 300, 400, 160), (8, 50, 256, 80)])
def test_log_power_spectrogram(batch, frames, frame, hop):
    """Three seconds of speech at 16 kHz; a batch of short commands."""
    return Tensor(batch, frame + hop * (frames - 1)), Tensor(frame, low=0.0, high=1.0), hop


@kevolve.kernel(library.causal_attention, allow="aten::bmm", vary=dict(heads=sizes(0, 16), time=sizes(1, 512), dim=sizes(1, 128)))
@pytest.mark.parametrize("heads, time, dim", [(8, 128, 64), (2, 256, 32)])
def test_causal_attention(heads, time, dim):
    """A short prompt; fewer heads over a longer one."""
    tensor = Tensor(heads, time, dim)
    return tensor, tensor, tensor
