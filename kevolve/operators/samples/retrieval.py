"""Retrieval over a sparse inverted index: documents scored by the postings of a query's terms, the best taken."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _by_index_add(offsets: Any, documents: Any, weights: Any, terms: Any, term_weights: Any, count: int, top: int) -> tuple[Any, Any]:
    import torch

    held = offsets.diff()[terms].flatten()
    first = offsets[terms].flatten() - (held.cumsum(0) - held)
    posting = torch.arange(int(held.sum()), device=offsets.device) + first.repeat_interleave(held)
    query = torch.arange(terms.numel(), device=offsets.device).div(max(terms.shape[1], 1), rounding_mode="floor").repeat_interleave(held)
    products = weights[posting] * term_weights.flatten().repeat_interleave(held)
    scores = torch.zeros(terms.shape[0] * count, device=offsets.device)
    best = scores.index_add(0, query * count + documents[posting], products).view(terms.shape[0], count).topk(min(top, count))
    return best.values, best.indices


def _example() -> tuple[Any, ...]:
    """One posting a term: the offsets are the sorted, unique whole numbers from 0 to 4."""
    return (
        Tensor(5, dtype="int64", low=0, high=5, sorted=True, unique=True),
        Tensor(4, dtype="int64", low=0, high=9),
        Tensor(4),
        Tensor(2, 3, dtype="int64", low=0, high=4),
        Tensor(2, 3),
        9,
        3,
    )


SAMPLES = (
    Sample(
        name="inverted_index",
        idea="scores of a range of documents are summed up while they lie in the cache, and searched there for those above the best so far",
        patterns=(_by_index_add,),
        example=_example,
        templates={"cpp": "inverted_index.cpp.jinja", "triton": "inverted_index.py.jinja"},
        knobs={
            "cpp": {"range": (16384, 65536, 4096), "grain": (4096, 65536)},
            "triton": {
                "block": (1024, 512, 2048),
                "spread": (32, 8, 128),
                "fan": (32, 16, 64),
                "direct": (4096, 1024),
                "groups": (1, 4),
                "add_warps": (4, 8),
                "take_warps": (8, 16, 4),
            },
        },
    ),
)
