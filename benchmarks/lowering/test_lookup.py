"""Sorted search, gather and scatter."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import lookup
from kevolve import Scalar, Tensor, quantised, sizes


@kevolve.kernel(lookup.bucketised_histogram, vary=dict(rows=sizes(0, 64), cols=sizes(0, 8192), bins=sizes(1, 256)))
@pytest.mark.parametrize("rows, cols, bins", [(8, 8192, 32), (512, 100, 10), (1, 50_000, 255)])
def test_bucketised_histogram(rows, cols, bins):
    """The spread of features, of many short series, of one image's brightness."""
    return Tensor(rows, cols), Tensor(bins + 1, sorted=True)


@kevolve.kernel(
    lookup.embedding_with_padding,
    grad="table",
    vary=dict(vocabulary=sizes(1, 4096), batch=sizes(0, 16), time=sizes(1, 256), dim=sizes(1, 512)),
)
@pytest.mark.parametrize("vocabulary, batch, time, dim", [(1000, 8, 64, 256), (50, 64, 32, 64)])
def test_embedding_with_padding(vocabulary, batch, time, dim):
    """Subwords of a small translator; the characters of a speech recogniser, where padding is frequent."""
    return Tensor(batch, time, dtype="int64", low=0, high=vocabulary), Tensor(vocabulary, dim), Tensor(time, dim)


@kevolve.kernel(lookup.piecewise_linear, vary=dict(rows=sizes(0, 4096), cols=sizes(1, 128), knots=sizes(2, 256)))
@pytest.mark.parametrize("rows, cols, knots", [(1024, 32, 20), (50_000, 1, 100)])
def test_piecewise_linear(rows, cols, knots):
    """Features of a lattice model; scores calibrated by an isotonic regression."""
    return piecewise_inputs


def piecewise_inputs(arguments, generator):
    """Knots at least a tenth of a unit apart: where they nearly meet, float32 has no slope to tell. Some values lie beyond them."""
    import torch

    rows, cols, count = (arguments[name] for name in ("rows", "cols", "knots"))
    knots = (torch.rand(count, generator=generator) + 0.1).cumsum(0)
    knots = knots - knots[count // 2]
    x = (1.2 * torch.rand(rows, cols, generator=generator) - 0.1) * (knots[-1] - knots[0]) + knots[0]
    return x, knots, torch.randn(count, generator=generator)


@kevolve.kernel(lookup.repetition_penalty, vary=dict(batch=sizes(0, 32), vocabulary=sizes(1, 32768), time=sizes(0, 1024)))
@pytest.mark.parametrize(
    "batch, vocabulary, time, dtype", [(64, 32_000, 512, "float32"), (16, 128_256, 2000, "float32"), (32, 32_000, 512, "bfloat16")]
)
def test_repetition_penalty(batch, vocabulary, time, dtype):
    """The vocabularies of Llama 2 and Llama 3."""
    tokens = Tensor(batch, time, dtype="int64", low=0, high=vocabulary)
    return Tensor(batch, vocabulary, dtype=dtype), tokens, Scalar(value=1.2, low=1.05, high=2.0)


@kevolve.kernel(
    lookup.cache_update,
    mutates=("cache", "scales"),
    compare={0: quantised(1)},
    vary=dict(spare=sizes(0, 1024), tokens=sizes(0, 512), heads=sizes(1, 16), dim=sizes(1, 256)),
)
@pytest.mark.parametrize(
    "spare, tokens, heads, dim, dtype", [(1024, 256, 8, 128, "float32"), (1024, 256, 8, 128, "bfloat16"), (4096, 128, 8, 128, "bfloat16")]
)
def test_cache_update(spare, tokens, heads, dim, dtype):
    """A prompt's keys of Llama 3.1 8B; 128 sequences decoding."""
    slots = tokens + spare + 1
    where = Tensor(tokens, dtype="int64", low=0, high=slots, unique=True)
    return Tensor(slots, heads, dim, dtype="int8"), Tensor(slots, heads), Tensor(tokens, heads, dim, dtype=dtype), where
