"""RMSNorm in two dimensions, backward."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, on, sizes
from reference_ops import norms


@kevolve.kernel(norms.rms_norm_backward, min_speedup=1.5, vary=dict(rows=sizes(0, 4096), cols=sizes(1, 8192)))
@pytest.mark.parametrize(
    "rows, cols, dtype",
    [
        pytest.param(512, 4096, "bfloat16", marks=on("cpu")),
        pytest.param(1024, 4096, "bfloat16", marks=on("cuda")),
        pytest.param(8192, 4096, "bfloat16", marks=on("cuda")),
        pytest.param(131072, 256, "bfloat16", marks=on("cuda")),
        pytest.param(16384, 8192, "bfloat16", marks=on("cuda")),
    ],
)
def test_rms_norm_2d_backward(rows, cols, dtype):
    """The paper states no shape: the hidden sizes of Llama 3.1, 8B and 70B, and norms of attention heads."""
    return Tensor(rows, cols, dtype=dtype), Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)
