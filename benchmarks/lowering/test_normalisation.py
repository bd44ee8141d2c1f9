"""Norms of all kinds."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import normalisation
from kevolve import Scalar, Tensor, choices, sizes

ROWS_AND_COLS = dict(rows=sizes(0, 2048), cols=sizes(1, 8192))
IMAGE = dict(batch=sizes(1, 16), channels=sizes(1, 256), height=sizes(1, 64), width=sizes(1, 64))


@kevolve.kernel(normalisation.residual_rms_norm, vary=ROWS_AND_COLS)
@pytest.mark.parametrize("rows, cols, dtype", [(128, 4096, "float32"), (64, 4096, "bfloat16"), (16, 8192, "bfloat16")])
def test_residual_rms_norm(rows, cols, dtype):
    """Llama's hidden sizes: a short prompt, sixteen decoded tokens."""
    return Tensor(rows, cols, dtype=dtype), Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)


@kevolve.kernel(normalisation.layer_norm_gelu_dropout, vary=ROWS_AND_COLS)
@pytest.mark.parametrize("rows, cols, dtype", [(256, 1024, "float32"), (1024, 200, "float32"), (256, 1024, "bfloat16")])
def test_layer_norm_gelu_dropout(rows, cols, dtype):
    """A transformer's hidden size, and rows whose length is no multiple of a vector."""
    vector = Tensor(cols, dtype=dtype)
    return Tensor(rows, cols, dtype=dtype), vector, vector, Tensor(rows, cols, dtype="bool"), Scalar(value=0.1, low=0.0, high=0.5)


@kevolve.kernel(
    normalisation.group_norm_silu,
    vary=dict(batch=sizes(0, 8), groups=choices(1, 4, 32), each=sizes(1, 16), height=sizes(1, 64), width=sizes(1, 64)),
)
@pytest.mark.parametrize(
    "batch, groups, each, height, width, dtype",
    [(1, 32, 10, 32, 32, "float32"), (2, 32, 20, 16, 16, "float32"), (1, 32, 10, 32, 32, "float16")],
)
def test_group_norm_silu(batch, groups, each, height, width, dtype):
    """The U-Net of Stable Diffusion, 320 and 640 channels in 32 groups."""
    vector = Tensor(groups * each, dtype=dtype)
    return Tensor(batch, groups * each, height, width, dtype=dtype), vector, vector, groups


@kevolve.kernel(normalisation.channel_layer_norm, vary=IMAGE)
@pytest.mark.parametrize("batch, channels, height, width", [(1, 96, 56, 56), (2, 192, 28, 28), (8, 768, 7, 7)])
def test_channel_layer_norm(batch, channels, height, width):
    """The stages of ConvNeXt-T."""
    return Tensor(batch, channels, height, width), Tensor(channels), Tensor(channels)


@kevolve.kernel(normalisation.batch_norm_relu, vary=IMAGE)
@pytest.mark.parametrize("batch, channels, height, width", [(4, 64, 28, 28), (16, 256, 7, 7), (1, 32, 112, 112)])
def test_batch_norm_relu(batch, channels, height, width):
    """Stages of ResNet in training; one large image."""
    return Tensor(batch, channels, height, width), Tensor(channels), Tensor(channels)


@kevolve.kernel(normalisation.global_response_norm, vary=IMAGE)
@pytest.mark.parametrize(
    "batch, height, width, channels, dtype", [(1, 28, 28, 384, "float32"), (4, 7, 7, 1536, "float32"), (1, 28, 28, 384, "bfloat16")]
)
def test_global_response_norm(batch, height, width, channels, dtype):
    """Blocks of ConvNeXt V2-T, where the hidden layer is four times as wide."""
    vector = Tensor(channels, dtype=dtype)
    return Tensor(batch, height, width, channels, dtype=dtype), vector, vector
