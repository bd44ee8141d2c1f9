"""The tolerance on operators whose errors are known, tens of runs each; ``python -m benchmarks.tolerances`` makes thousands."""

from __future__ import annotations

import functools

import pytest
import torch

from benchmarks.operators import OPERATORS, always_refused
from benchmarks.orders import LOW, ORDERS, fused
from benchmarks.tolerances import count

SMALL = [name for name in OPERATORS if "10^6" not in name and "65536" not in name]
SINGLE = [(name, dtype) for name in SMALL for dtype in OPERATORS[name].dtypes]


@pytest.mark.parametrize(("name", "dtype"), SINGLE)
def test_every_honest_order_of_summation_passes(name: str, dtype: str) -> None:
    operator = OPERATORS[name]
    found = count(operator, dtype, operator.honest, name="honest", honest=True, runs=2 * len(operator.honest), seed=5)
    assert found.right, found.failures


@pytest.mark.parametrize(("name", "dtype"), SINGLE)
def test_accumulating_in_less_than_is_declared_fails_and_so_do_zeros(name: str, dtype: str) -> None:
    operator = OPERATORS[name]
    refused = {cheat: kernel for cheat, kernel in operator.cheats(dtype).items() if always_refused(dtype, cheat)}
    for cheat, kernel in refused.items():
        found = count(operator, dtype, {cheat: kernel}, name=cheat, honest=False, runs=4, seed=6)
        assert found.right, found.failures


@pytest.mark.parametrize("name", ["sum of 10^6, random signs", "sum of 10^6, one sign", "matrix product, K = 65536"])
def test_a_million_terms_pass_in_every_order_and_fail_in_bfloat16(name: str) -> None:
    operator = OPERATORS[name]
    assert count(operator, "float32", operator.honest, name="honest", honest=True, runs=len(operator.honest), seed=7).right
    cheat = "bfloat16, 256 threads"
    assert count(operator, "float32", {cheat: operator.low[cheat]}, name=cheat, honest=False, runs=1, seed=8).right


def test_where_the_reference_overflows_draws_are_excluded_and_counted() -> None:
    operator = OPERATORS["norm whose reference overflows"]
    found = count(operator, "float16", operator.honest, name="honest", honest=True, runs=20, seed=1)
    assert (found.runs, found.passed) == (20, 20)
    assert found.excluded > 0


@pytest.mark.parametrize("size", [1, 2, 31, 1024, 5000])
def test_every_order_sums_all_terms(size: int) -> None:
    rng = torch.Generator().manual_seed(1)
    terms = torch.randint(-8, 8, (3, size), generator=rng).float()  # exact in every order
    for name, order in ORDERS.items():
        assert torch.equal(order(terms, rng), terms.sum(-1)), name
    assert torch.equal(fused(terms, torch.ones_like(terms)), terms.sum(-1))


def test_low_sums_are_sums_that_round() -> None:
    rng = torch.Generator().manual_seed(1)
    terms = torch.rand(2, 4096, generator=rng)
    for name, order in LOW.items():
        error = float(((order(terms, rng) - terms.double().sum(-1)) / terms.double().sum(-1)).abs().max())
        assert 0 < error < 0.5, name
    assert torch.equal(functools.reduce(torch.add, [torch.ones(1)] * 3), LOW["bfloat16, tree"](torch.ones(1, 3), rng))
