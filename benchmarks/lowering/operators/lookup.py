"""Sorted search, gather and scatter."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

PADDING = 0
NARROWEST = 1e-30


def bucketised_histogram(values: Tensor, edges: Tensor) -> Tensor:
    """How many of each row's values lie in each bin [a, b); what lies outside all bins is not counted.

    ``values``: float32 [rows, cols]. ``edges``: float32 [bins + 1], ascending. Returns int64 [rows, bins].
    Source: ``numpy.histogram`` with given edges, the last bin open.
    """
    index = torch.bucketize(values, edges, right=True)
    counts = torch.zeros(len(values), len(edges) + 1, dtype=torch.int64, device=values.device)
    return counts.scatter_add(1, index, torch.ones_like(index))[:, 1:-1]


def embedding_with_padding(tokens: Tensor, table: Tensor, positions: Tensor) -> Tensor:
    """Scaled token embeddings plus position embeddings; padding (token 0) is zero and gives no gradient.

    ``tokens``: int64 [batch, time], each in [0, vocabulary). ``table``: float32 [vocabulary, dim]. ``positions``: float32 [time, dim].
    Returns float32 [batch, time, dim]. Source: Vaswani et al. 2017, arXiv 1706.03762, sections 3.4 and 3.5.
    """
    embedded = functional.embedding(tokens, table, padding_idx=PADDING) * math.sqrt(table.shape[1]) + positions
    return torch.where((tokens != PADDING)[:, :, None], embedded, 0.0)


def piecewise_linear(x: Tensor, knots: Tensor, heights: Tensor) -> Tensor:
    """Calibrate by linear interpolation between knots, constant beyond the first and the last.

    ``x``: float32 [rows, cols]. ``knots``: float32 [count], ascending, at least two.
    ``heights``: float32 [count]. Returns float32 [rows, cols].
    Source: calibrators of lattice models, Gupta et al. 2016, JMLR 17, section 5.
    """
    right = torch.searchsorted(knots, x, right=True).clamp(1, len(knots) - 1)
    left = right - 1
    width = (knots[right] - knots[left]).clamp(min=NARROWEST)
    part = ((x - knots[left]) / width).clamp(0, 1)
    return heights[left] + part * (heights[right] - heights[left])


def repetition_penalty(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Make tokens that were generated already less likely: positive logits divided by the penalty, others multiplied.

    ``logits``: floating [batch, vocabulary]. ``tokens``: int64 [batch, time], each in [0, vocabulary), repetitions among them.
    ``penalty``: above 1. Returns the dtype of logits [batch, vocabulary]. Source: Keskar et al. 2019, arXiv 1909.05858, section 4.1.
    """
    seen = logits.gather(1, tokens)
    return logits.scatter(1, tokens, torch.where(seen > 0, seen / penalty, seen * penalty))


def cache_update(cache: Tensor, scales: Tensor, keys: Tensor, slots: Tensor) -> None:
    """Write new keys into their slots of a cache of 8 bits, a scale for each token and head; ``cache`` and ``scales`` are changed.

    ``cache``: int8 [slots, heads, dim]. ``scales``: float32 [slots, heads]. ``keys``: floating [tokens, heads, dim].
    ``slots``: int64 [tokens], each another one. Returns nothing. Source: the paged cache of vLLM, Kwon et al. 2023, arXiv 2309.06180.
    """
    wide = keys.float()
    scale = (wide.abs().amax(-1) / 127).clamp(min=NARROWEST)
    cache.index_copy_(0, slots, torch.round(wide / scale[:, :, None]).to(torch.int8))
    scales.index_copy_(0, slots, scale)
