"""Mixtures of experts."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import routing
from kevolve import Tensor, index_of, sizes


def expert_probabilities(logits):
    """What the experts index: ties may be broken either way, and logits far below 1 tie once rounded."""
    return logits.float().softmax(-1)


@kevolve.kernel(routing.top1_gating, compare={1: index_of(expert_probabilities)}, vary=dict(tokens=sizes(1, 4096), experts=sizes(1, 256)))
@pytest.mark.parametrize("tokens, experts, dtype", [(2048, 64, "float32"), (16_384, 8, "float32"), (2048, 64, "bfloat16")])
def test_top1_gating(tokens, experts, dtype):
    """Switch-Base's experts; few experts for many tokens."""
    return Tensor(tokens, experts, dtype=dtype)


@kevolve.kernel(routing.moe_combine, vary=dict(slots=sizes(1, 2048), tokens=sizes(0, 1024), experts=sizes(1, 8), dim=sizes(1, 1024)))
@pytest.mark.parametrize(
    "slots, tokens, experts, dim, dtype", [(512, 256, 2, 1024, "float32"), (512, 128, 8, 512, "float32"), (512, 256, 2, 1024, "bfloat16")]
)
def test_moe_combine(slots, tokens, experts, dim, dtype):
    """Two experts a token, and eight narrow ones."""
    rows = Tensor(tokens, experts, dtype="int64", low=0, high=slots)
    return Tensor(slots, dim, dtype=dtype), rows, Tensor(tokens, experts, low=0.0, high=1.0)
