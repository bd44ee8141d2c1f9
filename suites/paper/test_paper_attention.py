"""Llama 3.1's attention (KernelEvolve, arXiv 2512.23236): a whole prompt, and one token after another with a cache.

Llama-3.1-8B has 32 query heads, 8 key/value heads and a head dimension of 128; 70B has 64 query heads.
"""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Scalar, Tensor, Work, choices, on, sizes
from reference_ops import attention

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
HEADS = dict(kv_heads=sizes(1, 2), group=choices(1, 3, 4), dim=sizes(8, 256))


def attention_work(batch, kv_heads, group, length, dim, dtype):
    """Two products of ``dim`` for each pair of a place and one not after it; every tensor is moved once."""
    pairs = batch * kv_heads * group * length * (length + 1) / 2
    elements = batch * kv_heads * length * dim * 2 * (group + 1)
    return Work(bytes=BYTES[dtype] * elements, operations=4 * dim * pairs, dtype=dtype)


@kevolve.kernel(
    attention.attention,
    min_speedup=1.5,
    vary=dict(batch=sizes(0, 2), length=sizes(1, 320), **HEADS),
    work=attention_work,
)
@pytest.mark.parametrize(
    "batch, kv_heads, group, length, dim, dtype",
    [
        pytest.param(1, 2, 4, 256, 128, "float32", marks=on("cpu")),
        pytest.param(2, 2, 4, 128, 64, "bfloat16", marks=on("cpu")),
        pytest.param(1, 8, 4, 4096, 128, "bfloat16", marks=on("cuda")),
        pytest.param(4, 8, 4, 2048, 128, "bfloat16", marks=on("cuda")),
        pytest.param(16, 8, 4, 512, 128, "float16", marks=on("cuda")),
        pytest.param(1, 8, 8, 4096, 128, "bfloat16", marks=on("cuda")),
    ],
)
def test_attention(batch, kv_heads, group, length, dim, dtype):
    """Prompts of 8B: one of 4,096 tokens, four of 2,048, many short ones; one of 4,096 of 70B. On the CPU a few heads.

    Eager keeps several float32 matrices of all scores: of 8,192 tokens of 70B 17 GB each, which does not fit beside the judge's.
    """
    shared = Tensor(batch, kv_heads, length, dim, dtype=dtype)
    return Tensor(batch, kv_heads * group, length, dim, dtype=dtype), shared, shared


def attention_decode_work(batch, kv_heads, group, capacity, dim, dtype):
    """Both caches are read but for the new place, which is written; the token's query, key, value and result."""
    elements = 2 * batch * kv_heads * dim * (capacity + 1 + group)
    return Work(bytes=BYTES[dtype] * elements)


@kevolve.kernel(
    attention.attention_decode,
    min_speedup=1.5,
    mutates=("k_cache", "v_cache"),
    vary=dict(batch=sizes(0, 4), capacity=sizes(1, 1025), **HEADS),
    work=attention_decode_work,
)
@pytest.mark.parametrize(
    "batch, kv_heads, group, capacity, dim, dtype",
    [
        pytest.param(1, 8, 4, 1024, 128, "float32", marks=on("cpu")),
        pytest.param(2, 8, 4, 512, 128, "bfloat16", marks=on("cpu")),
        pytest.param(1, 8, 4, 4096, 128, "bfloat16", marks=on("cuda")),
        pytest.param(1, 8, 4, 32768, 128, "bfloat16", marks=on("cuda")),
        pytest.param(16, 8, 4, 4096, 128, "bfloat16", marks=on("cuda")),
        pytest.param(64, 8, 4, 2048, 128, "float16", marks=on("cuda")),
    ],
)
def test_attention_decode(batch, kv_heads, group, capacity, dim, dtype):
    """A token of 8B for one conversation, short and long, and for 16 and 64 at once; the last place of the cache."""
    token, cache = Tensor(batch, kv_heads, dim, dtype=dtype), Tensor(batch, kv_heads, capacity, dim, dtype=dtype)
    position = Scalar(value=capacity - 1, low=0, high=capacity - 1)
    return Tensor(batch, kv_heads * group, dim, dtype=dtype), token, token, cache, cache, position
