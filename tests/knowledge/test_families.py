from __future__ import annotations

import pytest

from kevolve.knowledge.families import families_of


@pytest.mark.parametrize(
    "operators, families",
    [
        (["aten::mul", "aten::silu"], ("pointwise",)),
        (["aten::pow", "aten::mean", "aten::rsqrt"], ("normalisation", "reduction")),
        (["aten::_softmax"], ("normalisation",)),
        (["aten::bmm", "aten::_softmax", "aten::bmm"], ("attention", "matmul", "normalisation")),
        (["aten::convolution"], ("convolution",)),
        (["aten::cumsum"], ("scan",)),
        (["aten::bucketize", "aten::index"], ("search", "gather-scatter")),
        (["aten::maximum"], ("pointwise",)),
    ],
)
def test_a_references_operators_say_its_families(operators, families):
    assert families_of(operators) == families
