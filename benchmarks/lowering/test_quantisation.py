"""To few bits and back."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import quantisation
from kevolve import Tensor, quantised, sizes

GROUP_BYTES = 64  # 128 weights, the usual group


@kevolve.kernel(quantisation.quantise_rows, compare={0: quantised(1)}, vary=dict(rows=sizes(0, 2048), cols=sizes(1, 8192)))
@pytest.mark.parametrize("rows, cols, dtype", [(64, 4096, "float32"), (64, 4096, "bfloat16"), (2048, 128, "float32")])
def test_quantise_rows(rows, cols, dtype):
    """Activations before a matrix product in 8 bits; heads of a cache."""
    return Tensor(rows, cols, dtype=dtype)


@kevolve.kernel(quantisation.dequantise_int4, vary=dict(rows=sizes(0, 1024), groups=sizes(1, 64)))
@pytest.mark.parametrize("rows, groups, dtype", [(128, 16, "float32"), (64, 32, "float16"), (64, 32, "bfloat16")])
def test_dequantise_int4(rows, groups, dtype):
    """A slab of weights with 2048 and 4096 inputs in groups of 128."""
    zeros = Tensor(rows, groups, dtype="uint8", low=0, high=16)
    return Tensor(rows, groups * GROUP_BYTES, dtype="uint8"), Tensor(rows, groups, dtype=dtype), zeros
