"""Losses."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import losses
from kevolve import Scalar, Tensor, sizes


@kevolve.kernel(losses.huber_loss, vary=dict(rows=sizes(1, 4096), cols=sizes(1, 512)))
@pytest.mark.parametrize("rows, cols", [(4096, 64), (100_000, 4)])
def test_huber_loss(rows, cols):
    """Values of a batch of states; the corners of many boxes."""
    return Tensor(rows, cols), Tensor(rows, cols), Scalar(value=1.0, low=0.25, high=2.0)


@kevolve.kernel(losses.focal_loss, grad="logits", vary=dict(anchors=sizes(1, 4096), classes=sizes(1, 128)))
@pytest.mark.parametrize("anchors, classes", [(1000, 80), (30_000, 4)])
def test_focal_loss(anchors, classes):
    """The anchors of a coarse level of RetinaNet; many of few classes."""
    return Tensor(anchors, classes), Tensor(anchors, classes, dtype="bool")


@kevolve.kernel(losses.distillation_loss, grad="student", vary=dict(rows=sizes(1, 512), vocabulary=sizes(1, 16384)))
@pytest.mark.parametrize("rows, vocabulary, dtype", [(256, 1000, "float32"), (8, 32_000, "float32"), (256, 1000, "bfloat16")])
def test_distillation_loss(rows, vocabulary, dtype):
    """The classes of ImageNet, and tokens of a language model."""
    return Tensor(rows, vocabulary, dtype=dtype), Tensor(rows, vocabulary, dtype=dtype), Scalar(value=2.0, low=1.0, high=8.0)


@kevolve.kernel(losses.policy_loss, grad="log_probs", vary=dict(batch=sizes(1, 256), tokens=sizes(1, 4096)))
@pytest.mark.parametrize("batch, tokens", [(64, 1024), (16, 4000)])
def test_policy_loss(batch, tokens):
    """A batch of sampled answers; a few long ones."""
    log_probs = Tensor(batch, tokens, low=-4.0, high=0.0)
    return log_probs, log_probs, Tensor(batch), Tensor(batch, tokens, dtype="bool")
