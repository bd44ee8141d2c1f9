"""InterFormer's personalised feed-forward network at the paper's sizes."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, Work, on, sizes
from reference_ops import interformer


def pffn_work(batch, rows, dim, hidden, dtype):
    """Everything is read or written once; two products of rows by weights."""
    elements = 2 * batch * rows * dim + batch * (2 * dim * hidden + dim + hidden) + dim + hidden
    return Work(bytes=2 * elements, operations=4 * batch * rows * dim * hidden, dtype=dtype)


@kevolve.kernel(
    interformer.pffn,
    min_speedup=1.5,
    vary=dict(batch=sizes(0, 16), rows=sizes(0, 400), dim=sizes(1, 256), hidden=sizes(1, 192)),
    work=pffn_work,
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "batch, rows, dim, hidden",
    [
        pytest.param(4, 200, 256, 160, marks=on("cpu")),
        pytest.param(8, 150, 96, 192, marks=on("cpu")),
        pytest.param(256, 200, 256, 160, marks=on("cuda")),
        pytest.param(1024, 200, 256, 160, marks=on("cuda")),
        pytest.param(1024, 200, 192, 96, marks=on("cuda")),
        pytest.param(1024, 400, 256, 160, marks=on("cuda")),
        pytest.param(1024, 150, 96, 192, marks=on("cuda")),
    ],
)
def test_pffn(batch, rows, dim, hidden, dtype):
    """The paper's four sizes, and the first with a quarter of the batch; on the CPU a few of a batch."""
    x = Tensor(batch, rows, dim, dtype=dtype)
    first = Tensor(batch, dim, hidden, dtype=dtype), Tensor(batch, hidden, dtype=dtype), Tensor(hidden, dtype=dtype)
    second = Tensor(batch, hidden, dim, dtype=dtype), Tensor(batch, dim, dtype=dtype), Tensor(dim, dtype=dtype)
    return x, *first, *second
