"""Llama-3.1-8B's SDPA-MLP (KernelEvolve, arXiv 2512.23236): attention, then the SwiGLU MLP 4096-14336-4096."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Scalar, Tensor, Work, choices, on, sizes
from reference_ops import transformer

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# 16 hidden units at the least: the library adds up parts of half-precision products in their own precision, and two units that both happen
# to be small leave nothing but that error.
SMALL = dict(kv_heads=sizes(1, 2), group=choices(1, 2, 4, 7), dim=sizes(8, 128), inner=sizes(16, 1024))


def weights(hidden, inner, dtype):
    """Gate, up and down, scaled as trained weights are: so that their products are of the size of what they multiply."""
    bound = 2 / hidden**0.5
    wide = Tensor(inner, hidden, dtype=dtype, low=-bound, high=bound)
    return wide, wide, Tensor(hidden, inner, dtype=dtype, low=-2 / inner**0.5, high=2 / inner**0.5)


def sdpa_mlp_work(batch, kv_heads, group, length, dim, inner, dtype):
    """Two products of ``dim`` for each pair of a place and one not after it, three with weights; every matrix is moved once."""
    hidden = kv_heads * group * dim
    products = 4 * hidden * batch * length * (length + 1) / 2 + 6 * batch * length * hidden * inner
    elements = 2 * batch * length * (hidden + kv_heads * dim) + 3 * hidden * inner
    return Work(bytes=BYTES[dtype] * elements, operations=products, dtype=dtype)


@kevolve.kernel(
    transformer.sdpa_mlp,
    allow="aten::mm",
    vary=dict(batch=sizes(0, 2), length=sizes(1, 256), **SMALL),
    work=sdpa_mlp_work,
)
@pytest.mark.parametrize(
    "batch, kv_heads, group, length, dim, inner, dtype",
    [
        pytest.param(1, 2, 4, 64, 64, 1792, "float32", marks=on("cpu")),
        pytest.param(2, 2, 4, 32, 64, 1792, "bfloat16", marks=on("cpu")),
        pytest.param(1, 8, 4, 4096, 128, 14336, "bfloat16", marks=on("cuda")),
        pytest.param(4, 8, 4, 512, 128, 14336, "float16", marks=on("cuda")),
    ],
)
def test_sdpa_mlp(batch, kv_heads, group, length, dim, inner, dtype):
    """Prompts of 8B; on the CPU with an eighth of the width. The large products are the library's; between them is what can be fused."""
    shared = Tensor(batch, kv_heads, length, dim, dtype=dtype)
    return Tensor(batch, kv_heads * group, length, dim, dtype=dtype), shared, shared, *weights(kv_heads * group * dim, inner, dtype)


def sdpa_mlp_decode_work(batch, kv_heads, group, capacity, dim, inner, dtype):
    """Both caches and the weights are read once; of the token its query, key, value and result are moved."""
    hidden = kv_heads * group * dim
    elements = 2 * batch * kv_heads * dim * (capacity + 1 + group) + 3 * hidden * inner
    return Work(bytes=BYTES[dtype] * elements)


@kevolve.kernel(
    transformer.sdpa_mlp_decode,
    mutates=("k_cache", "v_cache"),
    vary=dict(batch=sizes(0, 20), capacity=sizes(1, 512), **SMALL),
    work=sdpa_mlp_decode_work,
)
@pytest.mark.parametrize(
    "batch, kv_heads, group, capacity, dim, inner, dtype",
    [
        pytest.param(1, 2, 4, 256, 64, 1792, "float32", marks=on("cpu")),
        pytest.param(4, 2, 4, 128, 64, 1792, "bfloat16", marks=on("cpu")),
        pytest.param(1, 8, 4, 4096, 128, 14336, "bfloat16", marks=on("cuda")),
        pytest.param(16, 8, 4, 4096, 128, 14336, "bfloat16", marks=on("cuda")),
        pytest.param(1, 8, 4, 1024, 128, 14336, "float16", marks=on("cuda")),
    ],
)
def test_sdpa_mlp_decode(batch, kv_heads, group, capacity, dim, inner, dtype):
    """A token of 8B for one conversation and for 16; the last place of the cache. On the CPU with an eighth of the width."""
    token, cache = Tensor(batch, kv_heads, dim, dtype=dtype), Tensor(batch, kv_heads, capacity, dim, dtype=dtype)
    position = Scalar(value=capacity - 1, low=0, high=capacity - 1)
    queries = Tensor(batch, kv_heads * group, dim, dtype=dtype)
    return queries, token, token, cache, cache, position, *weights(kv_heads * group * dim, inner, dtype)
