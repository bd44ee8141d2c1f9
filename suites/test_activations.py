"""Gated activations."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, on, sizes
from reference_ops import activations


@kevolve.kernel(activations.swiglu, min_speedup=1.2, vary=dict(rows=sizes(0, 1024), cols=sizes(0, 16384)))
@pytest.mark.parametrize(
    "rows, cols, dtype",
    [
        pytest.param(256, 14336, "float32", marks=on("cpu")),
        pytest.param(256, 14336, "bfloat16", marks=on("cpu")),
        pytest.param(1, 14336, "float32", marks=on("cpu")),
        pytest.param(4096, 14336, "bfloat16", marks=on("cuda")),
        pytest.param(2048, 28672, "bfloat16", marks=on("cuda")),
        pytest.param(32, 14336, "bfloat16", marks=on("cuda")),
    ],
)
def test_swiglu(rows, cols, dtype):
    """Llama 3.1's MLP, 8B and 70B: a prompt, and decoded tokens."""
    return Tensor(rows, cols, dtype=dtype), Tensor(rows, cols, dtype=dtype)
