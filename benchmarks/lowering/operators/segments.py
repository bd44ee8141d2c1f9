"""Rows of unequal length: sorted segment ids, lengths, and the edges of a graph."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sum(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """The sum of the rows of each segment; a segment without rows is zero.

    ``values``: floating [rows, dim]. ``segments``: int64 [rows], ascending, each in [0, count). Returns the dtype of values [count, dim].
    Source: ``tf.math.segment_sum``.
    """
    total = torch.zeros(count, values.shape[1], device=values.device)
    return total.index_add(0, segments, values.float()).to(values.dtype)


def segment_softmax(scores: Tensor, segments: Tensor, count: int) -> Tensor:
    """Softmax among the edges that arrive at the same node, for each head.

    ``scores``: float32 [edges, heads]. ``segments``: int64 [edges], ascending, each in [0, count). Returns float32 [edges, heads].
    Source: Graph Attention Networks, Veličković et al. 2018, arXiv 1710.10903, equation 2.
    """
    shape = (count, scores.shape[1])
    peak = torch.full(shape, -torch.inf, device=scores.device)
    peak = peak.scatter_reduce(0, segments[:, None].expand_as(scores), scores, "amax")
    weight = torch.exp(scores - peak[segments])
    total = torch.zeros(shape, device=scores.device).index_add(0, segments, weight)
    return weight / total[segments]


def jagged_mean(lengths: Tensor, values: Tensor) -> Tensor:
    """The mean of each bag's rows; an empty bag is zero.

    ``lengths``: int64 [bags]. ``values``: floating [sum of lengths, dim], bag after bag. Returns the dtype of values [bags, dim].
    Source: mean pooling of watched videos, Covington, Adams and Sargin 2016, RecSys, section 3.2.
    """
    bags = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths, output_size=len(values))
    total = torch.zeros(len(lengths), values.shape[1], device=values.device).index_add(0, bags, values.float())
    return (total / lengths.clamp(min=1)[:, None]).to(values.dtype)


def jagged_to_padded(lengths: Tensor, values: Tensor, width: int) -> Tensor:
    """Rows of unequal length as one dense tensor: cut at ``width``, filled up with zeros.

    ``lengths``: int64 [rows]. ``values``: floating [sum of lengths, dim], row after row. Returns the dtype of values [rows, width, dim].
    Source: ``jagged_to_padded_dense`` of FBGEMM.
    """
    starts = lengths.cumsum(0) - lengths
    column = torch.arange(width, device=lengths.device)
    nothing = torch.zeros(1, values.shape[1], dtype=values.dtype, device=values.device)
    source = torch.where(column < lengths[:, None], starts[:, None] + column, len(values))
    return torch.cat((values, nothing))[source]


def graph_mean(features: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The mean of the neighbours' features, for edges in any order; a node without neighbours is zero.

    ``features``: float32 [nodes, dim]. ``source``, ``target``: int64 [edges], each in [0, nodes). Returns float32 [nodes, dim].
    Source: GraphSAGE, Hamilton, Ying and Leskovec 2017, arXiv 1706.02216, the mean aggregator of section 3.3.
    """
    total = torch.zeros_like(features).index_add(0, target, features[source])
    degree = torch.zeros(len(features), device=features.device).index_add(0, target, torch.ones(len(target), device=features.device))
    return total / degree.clamp(min=1)[:, None]
