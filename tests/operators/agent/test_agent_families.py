"""The families of references, from their traced graphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from kevolve.knowledge.terms import FAMILIES
from kevolve.operators.agent.families import GENERAL, families
from kevolve.operators.trace import trace_function, untraceable
from reference_ops import norms, recommendation

MATRIX = torch.randn(5, 7)
IDS = torch.tensor([0, 2, 1])


def attention(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1) @ v


def pooled(table, indices):
    return table[indices].sum(0)


CASES: list[tuple[Callable, tuple, str]] = [
    (lambda x: torch.nn.functional.gelu(x) * 2, (MATRIX,), "pointwise"),
    (lambda x: x.sum(-1), (MATRIX,), "reduction"),
    (norms.rms_norm, (MATRIX, torch.randn(7)), "normalisation reduction"),
    (norms.layer_norm, (MATRIX, torch.randn(7), torch.randn(7)), "normalisation reduction"),
    (torch.mm, (MATRIX, MATRIX.t()), "matmul"),
    (attention, (torch.randn(2, 5, 4), torch.randn(2, 3, 4), torch.randn(2, 3, 4)), "attention matmul reduction"),
    (functional.conv1d, (torch.randn(2, 3, 8), torch.randn(4, 3, 3)), "convolution"),
    (lambda x: x.cumsum(-1), (MATRIX,), "scan"),
    (pooled, (MATRIX, IDS), "embedding gather-scatter reduction"),
    (lambda x, i: x[i], (MATRIX, IDS), "gather-scatter"),
    (recommendation.mbdt, (torch.randn(2, 5), torch.randn(2, 4).sort(-1).values), "search"),
    (lambda x: (x.float() * 0.1).round().to(torch.int8), (MATRIX,), "quantisation"),
]


@pytest.mark.parametrize(("function", "values", "expected"), CASES, ids=[case[2].replace(" ", "-") for case in CASES])
def test_a_reference_belongs_to_its_families(function, values, expected):
    names = [f"input_{place}" for place in range(len(values))]
    assert families(trace_function(function, values, names=names)) == tuple(expected.split())


def test_every_family_is_a_word_of_the_documents():
    assert {name for *_, names in CASES for name in names.split()} | {GENERAL} <= set(FAMILIES)


def test_what_is_not_recognised_is_general():
    assert families(untraceable("refused")) == ("general",)
    assert families(trace_function(lambda x: x.flip(-1), (MATRIX,))) == ("general",)
