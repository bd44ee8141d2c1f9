"""Running sums and recurrences."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import scans
from kevolve import Scalar, Tensor, choices, sizes


@kevolve.kernel(scans.row_cumsum, vary=dict(rows=sizes(0, 2048), cols=sizes(0, 8192)))
@pytest.mark.parametrize("rows, cols, dtype", [(256, 1000, "float32"), (4, 100_000, "float32"), (256, 1000, "bfloat16")])
def test_row_cumsum(rows, cols, dtype):
    """Probabilities over classes; a few long series."""
    return Tensor(rows, cols, dtype=dtype)


@kevolve.kernel(scans.position_ids, vary=dict(batch=sizes(0, 256), time=sizes(0, 2048), padding=choices(0, 1)))
@pytest.mark.parametrize("batch, time, padding", [(512, 512, 1), (4096, 64, 0), (8, 20_000, 1)])
def test_position_ids(batch, time, padding):
    """RoBERTa's longest inputs, short ones, and documents; an eighth of the tokens are padding."""
    return Tensor(batch, time, dtype="int64", low=0, high=8), padding


@kevolve.kernel(scans.discounted_returns, vary=dict(environments=sizes(0, 4096), steps=sizes(1, 512)))
@pytest.mark.parametrize("environments, steps", [(2048, 128), (512, 500)])
def test_discounted_returns(environments, steps):
    """Many short rollouts; episodes of the length of CartPole's."""
    return Tensor(environments, steps), Scalar(value=0.99, low=0.95, high=1.0)


@kevolve.kernel(scans.linear_recurrence, vary=dict(batch=sizes(0, 8), dim=sizes(1, 2048)))
@pytest.mark.parametrize("batch, time, dim", [(2, 32, 512), (4, 16, 2048)])
def test_linear_recurrence(batch, time, dim):
    """A chunk of a recurrent language model; a wider one."""
    return Tensor(batch, time, dim), Tensor(batch, time, dim, low=0.0, high=1.0)
