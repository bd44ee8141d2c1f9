"""Retrieval by a sparse inverted index; the paper states no sizes."""

from __future__ import annotations

import math

import pytest

import kevolve
from kevolve import Work, choices, index_of, on, sizes
from reference_ops import retrieval

COMMON = 10  # terms are as frequent as 1 / (rank + COMMON)


def frequency(count, vocabulary, per_document):
    """Postings of the most frequent term, and what the others' fall by: Zipf's law, no term in more than a tenth of the documents."""
    return count * per_document / max(1e-9, math.log((vocabulary + COMMON) / COMMON)), count // 10 + 1


def inverted_index_work(count, vocabulary, per_document, batch, length, top):
    """Of the postings that queries are expected to read, a tenth: a few terms are in many documents, most in few."""
    all_of_them, most = frequency(count, vocabulary, per_document)
    ranks = [math.exp((step + 0.5) / 64 * math.log(max(vocabulary, 1))) - 1 for step in range(64)]
    expected = sum(min(most, all_of_them / (rank + COMMON)) for rank in ranks) / len(ranks)
    return Work(bytes=0.1 * batch * length * expected * (8 + 4) + batch * min(top, count) * (8 + 4))


@kevolve.kernel(
    retrieval.inverted_index,
    min_speedup=1.25,
    compare={1: index_of(retrieval.inverted_index_scores)},
    vary=dict(
        count=sizes(1, 20000),
        vocabulary=sizes(1, 2000),
        per_document=sizes(0, 20),
        batch=sizes(0, 4),
        length=sizes(0, 8),
        top=choices(1, 10, 100),
    ),
    work=inverted_index_work,
)
@pytest.mark.parametrize(
    "count, vocabulary, per_document, batch, length, top",
    [
        pytest.param(100_000, 10_000, 16, 1, 8, 100, marks=on("cpu")),
        pytest.param(100_000, 10_000, 16, 8, 8, 100, marks=on("cpu")),
        pytest.param(1_000_000, 100_000, 16, 1, 8, 100, marks=on("cuda")),
        pytest.param(1_000_000, 100_000, 16, 64, 8, 100, marks=on("cuda")),
        pytest.param(4_000_000, 200_000, 8, 16, 16, 100, marks=on("cuda")),
    ],
)
def test_inverted_index(count, vocabulary, per_document, batch, length, top):
    """A million documents, one query and a batch; four million; on the CPU a tenth of a million."""
    return inverted_index_inputs


def inverted_index_inputs(arguments, generator):
    """Terms by Zipf's law, weights by BM25 (k1 = 1.2, b = 0.75), queries of which half the terms are among the most frequent."""
    import torch

    count, vocabulary, batch, length = (arguments[name] for name in ("count", "vocabulary", "batch", "length"))
    all_of_them, most = frequency(count, vocabulary, arguments["per_document"])
    wanted = (all_of_them / (torch.arange(vocabulary) + COMMON)).long().clamp(max=most)
    drawn = torch.arange(vocabulary).repeat_interleave(wanted)
    pairs = (drawn * count + torch.randint(0, count, drawn.shape, generator=generator)).unique()
    term, documents = pairs // count, pairs % count
    offsets = torch.searchsorted(term, torch.arange(vocabulary + 1))
    held = offsets.diff()
    rarity = torch.log1p((count - held + 0.5) / (held + 0.5))
    occurrences = 1 + torch.rand(documents.shape, generator=generator).clamp(min=1e-6).log().neg().floor()
    size = torch.exp(0.5 * torch.randn(count, generator=generator))
    weights = rarity[term] * occurrences * 2.2 / (occurrences + 1.2 * (0.25 + 0.75 * size[documents]))
    terms = torch.exp(torch.rand(batch, length, generator=generator) * math.log(vocabulary)).long().sub(1).clamp(0, vocabulary - 1)
    term_weights = 0.5 + torch.rand(batch, length, generator=generator)
    return offsets, documents, weights, terms, term_weights, count, arguments["top"]
