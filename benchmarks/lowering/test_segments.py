"""Rows of unequal length."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import segments
from kevolve import Jagged, Tensor, sizes


@kevolve.kernel(segments.segment_sum, vary=dict(rows=sizes(0, 4096), dim=sizes(1, 512), count=sizes(1, 1024)))
@pytest.mark.parametrize("rows, dim, count, dtype", [(8192, 64, 512, "float32"), (4000, 128, 4000, "float32"), (8192, 64, 512, "float16")])
def test_segment_sum(rows, dim, count, dtype):
    """The atoms of a batch of molecules; as many segments as rows, a third of them empty."""
    return Tensor(rows, dim, dtype=dtype), Tensor(rows, dtype="int64", low=0, high=count, sorted=True), count


@kevolve.kernel(segments.segment_softmax, vary=dict(edges=sizes(0, 8192), heads=sizes(1, 16), count=sizes(1, 2048)))
@pytest.mark.parametrize("edges, heads, count", [(10_000, 8, 2708), (20_000, 1, 500)])
def test_segment_softmax(edges, heads, count):
    """The edges of Cora with the eight heads of GAT; a denser graph with one."""
    return Tensor(edges, heads), Tensor(edges, dtype="int64", low=0, high=count, sorted=True), count


@kevolve.kernel(segments.jagged_mean, vary=dict(bags=sizes(0, 512), longest=sizes(1, 64), dim=sizes(1, 256)))
@pytest.mark.parametrize("bags, longest, dim, dtype", [(512, 40, 64, "float32"), (2048, 8, 32, "float32"), (512, 40, 64, "float16")])
def test_jagged_mean(bags, longest, dim, dtype):
    """Watched videos of users; short lists of tags."""
    return Jagged(rows=bags, max_length=longest, inner=(dim,), dtype=dtype)


@kevolve.kernel(segments.jagged_to_padded, vary=dict(rows=sizes(0, 256), longest=sizes(0, 128), width=sizes(1, 128), dim=sizes(1, 256)))
@pytest.mark.parametrize(
    "rows, longest, width, dim, dtype", [(256, 60, 50, 64, "float32"), (512, 20, 20, 32, "float32"), (256, 60, 50, 64, "float16")]
)
def test_jagged_to_padded(rows, longest, width, dim, dtype):
    """Histories of users, some of them cut; short ones that all fit."""
    return Jagged(rows=rows, max_length=longest, inner=(dim,), dtype=dtype), width


@kevolve.kernel(segments.graph_mean, vary=dict(nodes=sizes(1, 2048), edges=sizes(0, 8192), dim=sizes(1, 256)))
@pytest.mark.parametrize("nodes, edges, dim", [(2708, 10_556, 64), (1000, 25_000, 16)])
def test_graph_mean(nodes, edges, dim):
    """The edges of Cora; a denser graph."""
    index = Tensor(edges, dtype="int64", low=0, high=nodes)
    return Tensor(nodes, dim), index, index
