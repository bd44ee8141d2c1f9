"""Preprocessing and embedding operators of recommendation models (KernelEvolve, arXiv 2512.23236)."""

from __future__ import annotations

import torch
from torch import Tensor


def map_id(values: Tensor, ids: Tensor) -> Tensor:
    """MapIdTransform: each value's 1-based position among the known ids, or 0 if it is none of them.

    ``values``: int64 [batch]. ``ids``: int64 [unique], ascending, without repetitions, at least one. Returns int64 [batch].
    """
    index = torch.bucketize(values, ids).clamp(max=len(ids) - 1)
    return torch.where(ids[index] == values, index + 1, 0)


def mbdt(x: Tensor, borders: Tensor) -> Tensor:
    """MergeBucketizedDenseTransform: the bin of every value, bins numbered on from feature to feature.

    ``x``: floating [features, batch]. ``borders``: the same dtype [features, borders], ascending along the last axis;
    bins are the intervals (a, b]. Returns int64 [features, batch].
    """
    bins = borders.shape[1] + 1
    merged = [torch.bucketize(x[feature], borders[feature]) + feature * bins for feature in range(x.shape[0])]
    return torch.stack(merged)


def batch_event_truncate(outer_lengths: Tensor, inner_lengths: Tensor, values: Tensor, max_events: int) -> tuple[Tensor, Tensor, Tensor]:
    """Batch Event Truncate: keep each user's first ``max_events`` events, for every feature.

    ``outer_lengths``: int64 [features, users], events of each user. ``inner_lengths``: int64 [events], values of each event.
    ``values``: any dtype [sum of inner_lengths]. Features lie one after another in both. Returns the same three, truncated.
    """
    inner_by_feature = inner_lengths.split(outer_lengths.sum(1).tolist())
    values_by_feature = values.split([int(inner.sum()) for inner in inner_by_feature])
    inner_kept, values_kept = [], []
    for outer, inner, held in zip(outer_lengths, inner_by_feature, values_by_feature, strict=True):
        first_event = (outer.cumsum(0) - outer).repeat_interleave(outer)
        keep = torch.arange(len(inner), device=inner.device) - first_event < max_events
        inner_kept.append(inner[keep])
        values_kept.append(held[keep.repeat_interleave(inner)])
    return outer_lengths.clamp(max=max_events), torch.cat(inner_kept), torch.cat(values_kept)


def embedding_bag(table: Tensor, scale: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    """Sum pooling over an embedding table quantised to 8 bits with one scale a row.

    ``table``: int8 [vocabulary, dim]. ``scale``: float32 [vocabulary]. ``indices``: int64 [lookups], each in [0, vocabulary).
    ``offsets``: int64 [bags + 1], ascending from 0 to lookups; bag b sums the rows ``indices[offsets[b]:offsets[b + 1]]``.
    Returns float32 [bags, dim].
    """
    rows = table[indices].float() * scale[indices][:, None]
    bags = torch.arange(len(offsets) - 1, device=offsets.device).repeat_interleave(offsets.diff())
    return torch.zeros(len(offsets) - 1, table.shape[1], device=table.device).index_add(0, bags, rows)


def wukong_fm(x: Tensor, y: Tensor) -> Tensor:
    """WuKong's optimised factorisation machine: every pair of features interacts, in the rank of ``y``.

    ``x``: floating [batch, features, dim]. ``y``: the same dtype [batch, features, rank]. Returns the same dtype [batch, features, rank].
    Source: Zhang et al. 2024, arXiv 2403.02545, section 3.4.
    """
    return torch.bmm(x, torch.bmm(x.transpose(1, 2), y))
