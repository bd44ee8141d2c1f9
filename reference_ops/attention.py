"""Attention of Llama 3.1: causal, several query heads to a key/value head."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(Q K^T / sqrt(dim)) V`` of a whole prompt, written out: each place looks at itself and at those before it.

    ``q``: floating [batch, heads, length, dim]. ``k``, ``v``: the same dtype [batch, kv_heads, length, dim], ``heads`` a multiple of
    ``kv_heads``, whose neighbours share a head of ``k`` and ``v``. Returns the shape and dtype of q; the softmax is taken in float32.
    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1; Ainslie et al. 2023, arXiv 2305.13245 (grouped queries).
    """
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
    scores = q @ for_each_query_head(k, q).transpose(2, 3) / math.sqrt(q.shape[3])
    weights = torch.softmax(scores.masked_fill(later, -torch.inf), dim=-1, dtype=torch.float32).to(q.dtype)
    return weights @ for_each_query_head(v, q)


def attention_decode(q: Tensor, k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, position: int) -> Tensor:
    """One new token of every sequence: its key and value go into the caches, its query looks at all places up to its own.

    ``q``: floating [batch, heads, dim]. ``k``, ``v``: the same dtype [batch, kv_heads, dim], ``heads`` a multiple of ``kv_heads``.
    ``k_cache``, ``v_cache``: [batch, kv_heads, capacity, dim], written at ``position``, which is less than ``capacity``.
    Returns the shape and dtype of q; the softmax is taken in float32.
    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1; Shazeer 2019, arXiv 1911.02150, section 2.4 (incremental inference).
    """
    k_cache[:, :, position] = k
    v_cache[:, :, position] = v
    keys = for_each_query_head(k_cache[:, :, : position + 1], q)
    values = for_each_query_head(v_cache[:, :, : position + 1], q)
    scores = keys @ q[..., None] / math.sqrt(q.shape[2])
    weights = torch.softmax(scores, dim=2, dtype=torch.float32).to(q.dtype)
    return (weights.transpose(2, 3) @ values).squeeze(2)


def for_each_query_head(shared: Tensor, q: Tensor) -> Tensor:
    """Heads of keys or values, each repeated for the query heads that share it."""
    return shared.repeat_interleave(q.shape[1] // shared.shape[1], dim=1)
