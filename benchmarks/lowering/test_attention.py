"""Rows of attention."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import attention
from kevolve import Tensor, sizes


@kevolve.kernel(
    attention.masked_softmax,
    vary=dict(batch=sizes(0, 4), heads=sizes(1, 16), queries=sizes(0, 512), keys=sizes(1, 2048)),
)
@pytest.mark.parametrize(
    "batch, heads, queries, keys, dtype", [(1, 12, 128, 128, "float32"), (4, 8, 16, 500, "float32"), (1, 12, 128, 128, "bfloat16")]
)
def test_masked_softmax(batch, heads, queries, keys, dtype):
    """BERT's heads over 128 tokens; cross attention to 500 encoded frames."""
    return Tensor(batch, heads, queries, keys, dtype=dtype), Tensor(batch, queries, keys, dtype="bool")


@kevolve.kernel(attention.alibi_softmax, vary=dict(heads=sizes(1, 64), queries=sizes(0, 512), cached=sizes(1, 2048)))
@pytest.mark.parametrize("heads, queries, cached, dtype", [(8, 128, 128, "float32"), (32, 1, 4095, "float32"), (8, 128, 128, "bfloat16")])
def test_alibi_softmax(heads, queries, cached, dtype):
    """A chunk of a prompt behind as many cached tokens; one decoded token."""
    return Tensor(heads, queries, queries + cached, dtype=dtype), Tensor(heads, low=0.004, high=0.5)


@kevolve.kernel(attention.decode_attention, vary=dict(batch=sizes(0, 8), time=sizes(1, 1024), heads=sizes(1, 32), dim=sizes(1, 256)))
@pytest.mark.parametrize(
    "batch, time, heads, dim, dtype", [(1, 1024, 8, 128, "float32"), (8, 64, 8, 64, "float32"), (1, 1024, 8, 128, "bfloat16")]
)
def test_decode_attention(batch, time, heads, dim, dtype):
    """One sequence with a longer cache, eight with short ones."""
    cache = Tensor(batch, time, heads, dim, dtype=dtype)
    return Tensor(batch, heads, dim, dtype=dtype), cache, cache, Tensor(batch, dtype="int64", low=1, high=time + 1)


@kevolve.kernel(attention.attentive_pooling, vary=dict(batch=sizes(0, 16), channels=sizes(1, 1536), time=sizes(1, 1024)))
@pytest.mark.parametrize("batch, channels, time", [(1, 1536, 200), (8, 192, 100)])
def test_attentive_pooling(batch, channels, time):
    """Two seconds of speech through ECAPA-TDNN; a batch of short utterances."""
    return Tensor(batch, channels, time), Tensor(batch, channels, time)
