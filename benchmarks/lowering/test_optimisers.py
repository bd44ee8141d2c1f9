"""Steps of optimisers."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import optimisers
from kevolve import Scalar, Tensor, sizes


@kevolve.kernel(optimisers.adamw_step, mutates=("parameter", "mean", "variance"), vary=dict(count=sizes(0, 131_072)))
@pytest.mark.parametrize("count", [131_072, 300_000])
def test_adamw_step(count):
    """A small layer's parameters, and a larger one's."""
    vector = Tensor(count)
    return vector, vector, vector, Tensor(count, low=0.0, high=1.0), Scalar(value=10, low=1, high=1000)


@kevolve.kernel(optimisers.adafactor_step, vary=dict(rows=sizes(1, 1024), cols=sizes(1, 4096)))
@pytest.mark.parametrize("rows, cols", [(512, 512), (64, 4096)])
def test_adafactor_step(rows, cols):
    """A projection of T5-small; a wide layer."""
    moments = dict(low=0.01, high=1.0)
    return Tensor(rows, cols), Tensor(rows, cols), Tensor(rows, **moments), Tensor(cols, **moments)


@kevolve.kernel(optimisers.clip_by_global_norm, vary=dict(rows=sizes(1, 2048), cols=sizes(1, 4096)))
@pytest.mark.parametrize("rows, cols", [(1024, 768), (4096, 256)])
def test_clip_by_global_norm(rows, cols):
    """A layer's weight and bias."""
    return Tensor(rows, cols), Tensor(rows), Scalar(value=1.0, low=0.1, high=10.0)
