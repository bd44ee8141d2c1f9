"""Rows of attention: masks, biases by position, a single query, pooling over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SCALE = 0.125  # of heads with 64 dimensions
LEAST_VARIANCE = 1e-4


def masked_softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Scaled softmax over the keys that may be seen; a row that sees none is zero.

    ``scores``: floating [batch, heads, queries, keys]. ``visible``: bool [batch, queries, keys]. Returns the dtype of scores and its shape.
    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2.1, with a mask for each sequence.
    """
    visible = visible[:, None]
    logits = (scores.float() * SCALE).masked_fill(~visible, -torch.inf)
    return torch.where(visible.any(-1, keepdim=True), logits.softmax(-1), 0.0).to(scores.dtype)


def alibi_softmax(scores: Tensor, slopes: Tensor) -> Tensor:
    """Causal softmax with linear biases; the queries are the last of the keys' positions.

    ``scores``: floating [heads, queries, keys], keys >= queries. ``slopes``: float32 [heads]. Returns the dtype of scores and its shape.
    Source: Press, Smith and Lewis 2021, arXiv 2108.12409, section 3.
    """
    queries, keys = scores.shape[-2:]
    position = torch.arange(keys - queries, keys, device=scores.device)[:, None]
    distance = torch.arange(keys, device=scores.device) - position
    biased = scores.float() * SCALE + slopes[:, None, None] * distance
    return biased.masked_fill(distance > 0, -torch.inf).softmax(-1).to(scores.dtype)


def decode_attention(query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """Attention of one decoded token over a cache of keys and values, of which each sequence fills a part.

    ``query``: floating [batch, heads, dim]. ``keys``, ``values``: the same dtype [batch, time, heads, dim].
    ``lengths``: int64 [batch], each in [1, time]. Returns the dtype of query [batch, heads, dim].
    Source: arXiv 1706.03762, equation 1, for one query.
    """
    scores = torch.einsum("bhd,bthd->bht", query.float(), keys.float()) / math.sqrt(query.shape[-1])
    filled = torch.arange(keys.shape[1], device=keys.device) < lengths[:, None]
    weights = scores.masked_fill(~filled[:, None], -torch.inf).softmax(-1)
    return torch.einsum("bht,bthd->bhd", weights, values.float()).to(query.dtype)


def attentive_pooling(x: Tensor, energies: Tensor) -> Tensor:
    """Attentive statistics pooling: mean and standard deviation over time, weighted by a softmax over time.

    ``x``, ``energies``: float32 [batch, channels, time]. Returns float32 [batch, 2 * channels]: means, then deviations.
    Source: Okabe, Koshinaka and Shinoda 2018, arXiv 1803.10963, equations 5 and 6; by channel in ECAPA-TDNN, arXiv 2005.07143.
    """
    weights = energies.softmax(-1)
    mean = (weights * x).sum(-1, keepdim=True)
    variance = (weights * (x - mean).square()).sum(-1)
    return torch.cat((mean.squeeze(-1), variance.clamp(min=LEAST_VARIANCE).sqrt()), dim=1)
