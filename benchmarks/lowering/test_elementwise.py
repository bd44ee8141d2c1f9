"""Every element by itself, operands broadcast."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import elementwise
from kevolve import Tensor, sizes


@kevolve.kernel(elementwise.bias_gelu_layer_scale, vary=dict(rows=sizes(0, 4096), cols=sizes(0, 8192)))
@pytest.mark.parametrize("rows, cols, dtype", [(394, 768, "float32"), (788, 384, "float32"), (394, 768, "bfloat16")])
def test_bias_gelu_layer_scale(rows, cols, dtype):
    """The tokens of two images through DeiT-B, of four through DeiT-S."""
    tensor, vector = Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)
    return tensor, vector, vector, tensor


@kevolve.kernel(elementwise.rotary_embedding, vary=dict(batch=sizes(0, 4), time=sizes(0, 2048), heads=sizes(1, 32), half=sizes(1, 128)))
@pytest.mark.parametrize(
    "batch, time, heads, half, dtype", [(1, 128, 32, 64, "float32"), (1, 128, 32, 64, "bfloat16"), (64, 1, 32, 64, "bfloat16")]
)
def test_rotary_embedding(batch, time, heads, half, dtype):
    """Queries of Llama 3.1 8B: a prompt of 128 tokens, 64 sequences decoding."""
    angles = Tensor(time, half, low=-1.0, high=1.0)
    return Tensor(batch, time, heads, 2 * half, dtype=dtype), angles, angles


@kevolve.kernel(elementwise.snake, vary=dict(batch=sizes(0, 8), channels=sizes(1, 512), time=sizes(0, 8192)))
@pytest.mark.parametrize("batch, channels, time, dtype", [(1, 192, 1024, "float32"), (4, 48, 2000, "float32"), (1, 192, 1024, "float16")])
def test_snake(batch, channels, time, dtype):
    """Layers of BigVGAN: many channels, then long signals."""
    return Tensor(batch, channels, time, dtype=dtype), Tensor(channels, low=0.1, high=4.0)


@kevolve.kernel(elementwise.fourier_features, vary=dict(batch=sizes(0, 2048), half=sizes(1, 1024)))
@pytest.mark.parametrize("batch, half", [(256, 256), (1024, 64)])
def test_fourier_features(batch, half):
    """A batch of times in [0, 1), with frequencies as a network of noise levels draws them."""
    return Tensor(batch, low=0.0, high=1.0), Tensor(half, low=-16.0, high=16.0)
