"""Small matrix products with what stands before and after them."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import products
from kevolve import Tensor, index_of, sizes


@kevolve.kernel(products.linear_gelu, vary=dict(rows=sizes(0, 512), inputs=sizes(1, 512), outputs=sizes(1, 512)))
@pytest.mark.parametrize(
    "rows, inputs, outputs, dtype", [(128, 192, 768, "float32"), (1000, 64, 100, "float32"), (256, 192, 768, "bfloat16")]
)
def test_linear_gelu(rows, inputs, outputs, dtype):
    """The MLP of DeiT-Ti; narrow layers of many rows."""
    return Tensor(rows, inputs, dtype=dtype), Tensor(outputs, inputs, dtype=dtype), Tensor(outputs, dtype=dtype)


@kevolve.kernel(products.lora_linear, vary=dict(rows=sizes(0, 512), inputs=sizes(1, 1024), outputs=sizes(1, 1024), rank=sizes(1, 64)))
@pytest.mark.parametrize("rows, inputs, outputs, rank", [(128, 2048, 2048, 8), (64, 4096, 1024, 16)])
def test_lora_linear(rows, inputs, outputs, rank):
    """Adapters of a square projection and of grouped keys."""
    return Tensor(rows, outputs), Tensor(rows, inputs), Tensor(rank, inputs), Tensor(outputs, rank)


@kevolve.kernel(products.int8_linear, vary=dict(rows=sizes(0, 512), inputs=sizes(1, 512), outputs=sizes(1, 512)))
@pytest.mark.parametrize("rows, inputs, outputs", [(64, 512, 512), (1, 2048, 2048)])
def test_int8_linear(rows, inputs, outputs):
    """A few tokens; one decoded token."""
    scale = dict(low=0.001, high=0.1)
    row, column = Tensor(rows, **scale), Tensor(outputs, **scale)
    return Tensor(rows, inputs, dtype="int8"), Tensor(outputs, inputs, dtype="int8"), row, column, Tensor(outputs)


def distances(x, codebook):
    """What the codes index: ties may be broken either way."""
    return products.squared_distances(x, codebook)


@kevolve.kernel(
    products.vector_quantise, compare={0: index_of(distances)}, vary=dict(rows=sizes(0, 2048), codes=sizes(1, 1024), dim=sizes(1, 256))
)
@pytest.mark.parametrize("rows, codes, dim", [(256, 1024, 64), (1000, 256, 32)])
def test_vector_quantise(rows, codes, dim):
    """A frame of a neural audio codec; the latents of an image."""
    return Tensor(rows, dim), Tensor(codes, dim)


@kevolve.kernel(products.dot_interaction, vary=dict(batch=sizes(0, 256), features=sizes(1, 64), dim=sizes(1, 256)))
@pytest.mark.parametrize("batch, features, dim, dtype", [(128, 26, 64, "float32"), (1024, 8, 16, "float32"), (128, 26, 64, "bfloat16")])
def test_dot_interaction(batch, features, dim, dtype):
    """The 26 features of Criteo; few and narrow ones."""
    return Tensor(batch, dim, dtype=dtype), Tensor(batch, features, dim, dtype=dtype)
