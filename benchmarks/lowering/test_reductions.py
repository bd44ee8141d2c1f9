"""Reductions over rows, columns and both."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import reductions
from kevolve import Tensor, index_of, sizes

ROWS_AND_COLS = dict(rows=sizes(0, 2048), cols=sizes(1, 8192))


@kevolve.kernel(reductions.masked_mean, grad="x", vary=dict(batch=sizes(0, 32), time=sizes(1, 512), dim=sizes(1, 1024)))
@pytest.mark.parametrize("batch, time, dim, dtype", [(4, 128, 384, "float32"), (64, 16, 256, "float32"), (4, 128, 384, "bfloat16")])
def test_masked_mean(batch, time, dim, dtype):
    """MiniLM's embeddings of sentences; many short queries."""
    return Tensor(batch, time, dim, dtype=dtype), Tensor(batch, time, dtype="bool")


@kevolve.kernel(reductions.weighted_log_softmax, grad="x", vary=ROWS_AND_COLS)
@pytest.mark.parametrize("rows, cols, dtype", [(256, 1000, "float32"), (4096, 50, "float32"), (256, 1000, "bfloat16")])
def test_weighted_log_softmax(rows, cols, dtype):
    """The classes of ImageNet; many rows of few classes."""
    return Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)


@kevolve.kernel(reductions.gelu_bias_backward, vary=ROWS_AND_COLS)
@pytest.mark.parametrize("rows, cols, dtype", [(64, 3072, "float32"), (1024, 256, "float32"), (64, 3072, "bfloat16")])
def test_gelu_bias_backward(rows, cols, dtype):
    """The hidden layer of BERT's MLP; a small model's, of many tokens."""
    return Tensor(rows, cols, dtype=dtype), Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)


@kevolve.kernel(reductions.sinkhorn, vary=dict(batch=sizes(0, 64), rows=sizes(1, 256), cols=sizes(1, 256)))
@pytest.mark.parametrize("batch, rows, cols", [(8, 64, 64), (1024, 4, 4), (1, 128, 200)])
def test_sinkhorn(batch, rows, cols):
    """Matched keypoints, the mixing matrices of residual streams (four by four), a rectangular assignment."""
    return Tensor(batch, rows, cols)


@kevolve.kernel(reductions.cosine_scores, vary=dict(batch=sizes(0, 64), count=sizes(0, 512), dim=sizes(1, 1024)))
@pytest.mark.parametrize("batch, count, dim, dtype", [(96, 50, 128, "float32"), (1, 2000, 256, "float32"), (96, 50, 128, "float16")])
def test_cosine_scores(batch, count, dim, dtype):
    """Candidates of a retrieval stage; one query against two thousand."""
    return Tensor(batch, dim, dtype=dtype), Tensor(batch, count, dim, dtype=dtype)


def class_probabilities(logits):
    """What the labels index: ties may be broken either way, and logits far below 1 tie once rounded."""
    return logits.float().softmax(1)


@kevolve.kernel(
    reductions.segmentation_argmax,
    compare={1: index_of(class_probabilities, dim=1)},
    vary=dict(batch=sizes(0, 8), classes=sizes(1, 64), height=sizes(1, 128), width=sizes(1, 128)),
)
@pytest.mark.parametrize(
    "batch, classes, height, width, dtype", [(1, 21, 128, 128, "float32"), (4, 150, 20, 20, "float32"), (1, 21, 128, 128, "float16")]
)
def test_segmentation_argmax(batch, classes, height, width, dtype):
    """The classes of PASCAL VOC and of ADE20K."""
    return Tensor(batch, classes, height, width, dtype=dtype)
