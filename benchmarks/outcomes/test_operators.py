"""Operators besides the suites' own, so that outcomes are recorded of every kind of work. Collected by ``record_outcomes`` only."""

from __future__ import annotations

import pytest
import torch

import kevolve
from kevolve import Tensor, on, sizes


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of two matrices."""
    return a @ b


def fm(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``x (xᵀ y)`` of each batch."""
    return torch.bmm(x, torch.bmm(x.transpose(1, 2), y))


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Softmax attention of each head."""
    scores = q.float() @ k.float().transpose(1, 2) * q.shape[-1] ** -0.5
    return (torch.softmax(scores, -1) @ v.float()).to(q.dtype)


def conv1d(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A convolution along the last axis, three taps, one element of padding on either side."""
    return torch.nn.functional.conv1d(x, weight, padding=1)


def row_scan(x: torch.Tensor) -> torch.Tensor:
    """Running sums along rows."""
    return x.float().cumsum(-1).to(x.dtype)


def gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU, exactly."""
    return torch.nn.functional.gelu(x)


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows to 8 bits with a scale each."""
    scale = x.float().abs().amax(-1).clamp(min=1e-8) / 127
    return (x.float() / scale[:, None]).round().to(torch.int8), scale


@kevolve.kernel(matmul, min_speedup=0.5, vary=dict(m=sizes(0, 512), n=sizes(1, 512), k=sizes(1, 512)))
@pytest.mark.parametrize("m, n, k, dtype", [(256, 256, 256, "float32"), pytest.param(4096, 4096, 4096, "float32", marks=on("cuda"))])
def test_matmul(m, n, k, dtype):
    return Tensor(m, k, dtype=dtype), Tensor(k, n, dtype=dtype)


@kevolve.kernel(fm, min_speedup=1.2, vary=dict(batch=sizes(0, 64), n=sizes(1, 64), d=sizes(1, 256), k=sizes(1, 512)))
@pytest.mark.parametrize(
    "batch, n, d, k, dtype", [(64, 24, 128, 256, "float32"), pytest.param(1024, 24, 224, 2198, "float16", marks=on("cuda"))]
)
def test_fm(batch, n, d, k, dtype):
    return Tensor(batch, n, d, dtype=dtype), Tensor(batch, n, k, dtype=dtype)


@kevolve.kernel(attention, min_speedup=1.2, vary=dict(heads=sizes(0, 16), queries=sizes(1, 512), keys=sizes(1, 512)))
@pytest.mark.parametrize(
    "heads, queries, keys, dim, dtype",
    [(8, 256, 256, 64, "float32"), pytest.param(32, 4096, 4096, 128, "bfloat16", marks=on("cuda"))],
)
def test_attention(heads, queries, keys, dim, dtype):
    return Tensor(heads, queries, dim, dtype=dtype), Tensor(heads, keys, dim, dtype=dtype), Tensor(heads, keys, dim, dtype=dtype)


@kevolve.kernel(conv1d, min_speedup=1.2, vary=dict(batch=sizes(0, 64), cin=sizes(1, 96), cout=sizes(1, 96), length=sizes(3, 300)))
@pytest.mark.parametrize("batch, cin, cout, length", [(16, 96, 96, 200), pytest.param(2048, 96, 96, 200, marks=on("cuda"))])
def test_conv1d(batch, cin, cout, length):
    return Tensor(batch, cin, length), Tensor(cout, cin, 3)


@kevolve.kernel(row_scan, min_speedup=1.2, vary=dict(rows=sizes(0, 512), cols=sizes(0, 4096)))
@pytest.mark.parametrize("rows, cols, dtype", [(1024, 2048, "float32"), (4, 65536, "float32"), (1024, 2048, "bfloat16")])
def test_row_scan(rows, cols, dtype):
    return Tensor(rows, cols, dtype=dtype)


@kevolve.kernel(gelu, min_speedup=1.2, vary=dict(rows=sizes(0, 1024), cols=sizes(0, 4096)))
@pytest.mark.parametrize("rows, cols, dtype", [(1024, 4096, "float32"), (1024, 4096, "bfloat16"), (1, 256, "float32")])
def test_gelu(rows, cols, dtype):
    return Tensor(rows, cols, dtype=dtype)


@kevolve.kernel(quantise, min_speedup=1.2, vary=dict(rows=sizes(0, 1024), cols=sizes(1, 4096)))
@pytest.mark.parametrize("rows, cols, dtype", [(1024, 4096, "float32"), (1024, 4096, "bfloat16")])
def test_quantise(rows, cols, dtype):
    return Tensor(rows, cols, dtype=dtype)
