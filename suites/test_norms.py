"""Normalisations over the last axis, forward and backward."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, on, sizes
from reference_ops import norms

ROWS_AND_COLS = dict(rows=sizes(0, 4096), cols=sizes(1, 8192))


@kevolve.kernel(norms.rms_norm, min_speedup=1.5, vary=ROWS_AND_COLS)
@pytest.mark.parametrize(
    "rows, cols, dtype",
    [
        pytest.param(1024, 4096, "float32", marks=on("cpu")),
        pytest.param(1024, 4096, "bfloat16", marks=on("cpu")),
        pytest.param(16384, 256, "float32", marks=on("cpu")),
        pytest.param(8192, 4096, "float32", marks=on("cuda")),
        pytest.param(8192, 4096, "bfloat16", marks=on("cuda")),
        pytest.param(131072, 256, "bfloat16", marks=on("cuda")),
    ],
)
def test_rms_norm(rows, cols, dtype):
    """Llama's hidden size, and many short rows (a norm of each attention head)."""
    return Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)


@kevolve.kernel(norms.rms_norm_backward, min_speedup=1.5, vary=ROWS_AND_COLS)
@pytest.mark.parametrize(
    "rows, cols, dtype",
    [
        pytest.param(1024, 4096, "float32", marks=on("cpu")),
        pytest.param(1024, 4096, "bfloat16", marks=on("cpu")),
        pytest.param(8192, 256, "float32", marks=on("cpu")),
        pytest.param(8192, 4096, "bfloat16", marks=on("cuda")),
        pytest.param(131072, 256, "bfloat16", marks=on("cuda")),
    ],
)
def test_rms_norm_backward(rows, cols, dtype):
    """Training at Llama's hidden size: the gradients of the input and of the weight."""
    return Tensor(rows, cols, dtype=dtype), Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)


@kevolve.kernel(norms.layer_norm, min_speedup=1.2, vary=ROWS_AND_COLS)
@pytest.mark.parametrize(
    "rows, cols, dtype",
    [
        pytest.param(2048, 1024, "float32", marks=on("cpu")),
        pytest.param(2048, 1024, "bfloat16", marks=on("cpu")),
        pytest.param(32768, 128, "float32", marks=on("cpu")),
        pytest.param(16384, 4096, "bfloat16", marks=on("cuda")),
        pytest.param(262144, 128, "float32", marks=on("cuda")),
    ],
)
def test_layer_norm(rows, cols, dtype):
    """A transformer's hidden size, and the short rows of recommendation models."""
    return Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype), Tensor(cols, dtype=dtype)
