"""Softmax, and cross entropy with its gradient."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, on, sizes
from reference_ops import softmaxes


@kevolve.kernel(softmaxes.softmax, min_speedup=1.2, vary=dict(rows=sizes(0, 4096), cols=sizes(0, 8192)))
@pytest.mark.parametrize(
    "rows, cols, dtype",
    [
        pytest.param(4096, 1024, "float32", marks=on("cpu")),
        pytest.param(4096, 1024, "bfloat16", marks=on("cpu")),
        pytest.param(32768, 100, "float32", marks=on("cpu")),
        pytest.param(32768, 2048, "bfloat16", marks=on("cuda")),
        pytest.param(2048, 32000, "bfloat16", marks=on("cuda")),
        pytest.param(262144, 200, "float32", marks=on("cuda", min_speedup=0.95)),  # eager is at the floor
    ],
)
def test_softmax(rows, cols, dtype):
    """Attention scores over a context, short rows whose length is no multiple of a vector, and probabilities over a vocabulary."""
    return Tensor(rows, cols, dtype=dtype)


@kevolve.kernel(softmaxes.cross_entropy, min_speedup=1.2, grad=("logits",), vary=dict(rows=sizes(1, 1024), vocab=sizes(1, 32768)))
@pytest.mark.parametrize(
    "rows, vocab, dtype",
    [
        pytest.param(128, 32000, "float32", marks=on("cpu")),
        pytest.param(64, 128256, "bfloat16", marks=on("cpu")),
        pytest.param(4096, 32000, "bfloat16", marks=on("cuda")),
        pytest.param(2048, 128256, "bfloat16", marks=on("cuda")),
    ],
)
def test_cross_entropy(rows, vocab, dtype):
    """The vocabularies of Llama 2 and Llama 3."""
    return Tensor(rows, vocab, dtype=dtype), Tensor(rows, dtype="int64", low=0, high=vocab)
