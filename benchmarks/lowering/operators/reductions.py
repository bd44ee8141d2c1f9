"""Reductions over rows, over columns, over both, and several in sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """A sentence's embedding: the mean over its tokens, padding left out; zero where nothing is left.

    ``x``: floating [batch, time, dim]. ``mask``: bool [batch, time]. Returns the dtype of x [batch, dim].
    Source: Reimers and Gurevych 2019, arXiv 1908.10084, section 3 (MEAN).
    """
    total = torch.where(mask[:, :, None], x.float(), 0.0).sum(1)
    return (total / mask.sum(1, keepdim=True).clamp(min=1)).to(x.dtype)


def weighted_log_softmax(x: Tensor, weight: Tensor) -> Tensor:
    """Log-probabilities, each class times its weight.

    ``x``: floating [rows, cols]. ``weight``: the same dtype [cols]. Returns the dtype of x [rows, cols].
    """
    return (torch.log_softmax(x.float(), dim=-1) * weight.float()).to(x.dtype)


def gelu_bias_backward(dy: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of ``gelu(x + bias)`` for x and for the bias, computed in float32.

    ``dy``, ``x``: floating [rows, cols]. ``bias``: the same dtype [cols]. Returns dx [rows, cols] and dbias [cols] in the dtype of x.
    Source: the derivative of x Φ(x), Hendrycks and Gimpel 2016, arXiv 1606.08415.
    """
    z = x.float() + bias.float()
    cumulative = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    dx = dy.float() * (cumulative + z * density)
    return dx.to(x.dtype), dx.sum(0).to(x.dtype)


def sinkhorn(scores: Tensor) -> Tensor:
    """Three rounds of Sinkhorn's normalisation in log space: rows, then columns, that sum to one.

    ``scores``: float32 [batch, rows, cols]. Returns float32 [batch, rows, cols].
    Source: Mena et al. 2018, arXiv 1802.08665, equation 4; stabilised as in Peyré and Cuturi 2019, arXiv 1803.00567, section 4.4.
    """
    for _ in range(3):
        scores = scores - scores.logsumexp(2, keepdim=True)
        scores = scores - scores.logsumexp(1, keepdim=True)
    return scores.exp()


def cosine_scores(query: Tensor, candidates: Tensor) -> Tensor:
    """The cosine similarity of each query with its own candidates.

    ``query``: floating [batch, dim]. ``candidates``: the same dtype [batch, count, dim]. Returns the dtype of query [batch, count].
    Source: two-tower retrieval with normalised towers, Yi et al. 2019, RecSys, section 3.
    """
    query, candidates = query.float(), candidates.float()
    unit = functional.normalize(query, dim=-1)[:, None]
    return (unit * functional.normalize(candidates, dim=-1)).sum(-1).to(query.dtype)


def segmentation_argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each pixel and its probability.

    ``logits``: floating [batch, classes, height, width]. Returns the probability, float32 [batch, height, width], and the
    class, int64 of the same shape. Source: Long, Shelhamer and Darrell 2015, arXiv 1411.4038, section 3.
    """
    probability, label = logits.float().softmax(1).max(1)
    return probability, label
