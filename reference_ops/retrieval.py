"""Retrieval over a sparse inverted index, as KernelEvolve (arXiv 2512.23236) measures it."""

from __future__ import annotations

import torch
from torch import Tensor


def inverted_index_scores(
    offsets: Tensor, documents: Tensor, weights: Tensor, terms: Tensor, term_weights: Tensor, count: int, top: int
) -> Tensor:
    """The score of every document for every query: float32 [batch, count]. Arguments as of ``inverted_index``."""
    held = offsets.diff()[terms].flatten()
    first = offsets[terms].flatten() - (held.cumsum(0) - held)
    posting = torch.arange(int(held.sum()), device=offsets.device) + first.repeat_interleave(held)
    query = torch.arange(terms.numel(), device=offsets.device).div(max(terms.shape[1], 1), rounding_mode="floor").repeat_interleave(held)
    products = weights[posting] * term_weights.flatten().repeat_interleave(held)
    scores = torch.zeros(terms.shape[0] * count, device=offsets.device)
    return scores.index_add(0, query * count + documents[posting], products).view(terms.shape[0], count)


def inverted_index(
    offsets: Tensor, documents: Tensor, weights: Tensor, terms: Tensor, term_weights: Tensor, count: int, top: int
) -> tuple[Tensor, Tensor]:
    """The best documents for each query: the sum over the query's terms of the term's weight times its weight in the document.

    The index, in rows by term: ``offsets`` int64 [vocabulary + 1], ascending from 0 to the number of postings; term t's postings are
    ``documents[offsets[t]:offsets[t + 1]]``, int64 ascending without repetitions, below ``count``, with float32 ``weights`` of 0 or more.
    The queries: ``terms`` int64 [batch, length], each in [0, vocabulary), and ``term_weights`` float32 [batch, length], at least 0.
    Returns the scores of the ``min(top, count)`` best documents, falling, float32 [batch, top], and the documents, int64.
    Source: Zobel and Moffat 2006, Inverted files for text search engines, ACM Computing Surveys 38(2), section 3.
    """
    scores = inverted_index_scores(offsets, documents, weights, terms, term_weights, count, top)
    best = scores.topk(min(top, count))
    return best.values, best.indices
