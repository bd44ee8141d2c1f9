"""How far a result may lie from the oracle."""

from __future__ import annotations

import pytest
import torch
from example_specs import draw, matrix, rms_norm_spec, spec_of, total, vector, weighted

from kevolve.evaluate.compare import compare
from kevolve.evaluate.materialise import materialise
from kevolve.evaluate.oracle import expect
from kevolve.evaluate.tolerance import cap, few, floor, step, tolerance
from kevolve.spec.inputs import Tensor

FLOATS = ("float64", "float32", "bfloat16", "float16")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", [1, 1000, 10**6])
def test_the_floor_lies_below_the_cap(dtype: str, reduction: int) -> None:
    assert 0 < 4 * floor(dtype, reduction) <= cap(dtype, reduction)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_step_is_the_smallest_positive_number(dtype: str) -> None:
    assert float(torch.tensor(step(dtype), dtype=torch.float64).to(getattr(torch, dtype))) == step(dtype)
    assert float(torch.tensor(step(dtype) / 2.1, dtype=torch.float64).to(getattr(torch, dtype))) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_float32_may_flush_to_zero_is_a_step(dtype: str) -> None:
    assert step(dtype) == 2 * torch.finfo(getattr(torch, dtype)).smallest_normal


def test_the_reference_s_own_error_counts_between_floor_and_cap() -> None:
    arguments = dict(output="float32", coarsest="float32", reduction=100)
    assert tolerance(0.0, **arguments) == floor("float32", 100)
    assert tolerance(1e-5, **arguments) == pytest.approx(3e-5)
    assert tolerance(0.9 * cap("float32", 100), **arguments) == cap("float32", 100)
    assert tolerance(1.1 * cap("float32", 100), **arguments) is None
    assert tolerance(float("nan"), **arguments) is None


def test_a_declared_tolerance_replaces_what_is_derived() -> None:
    assert tolerance(1e-3, output="float32", coarsest="float32", reduction=1, declared=1e-2) == 1e-2
    assert tolerance(1e-1, output="float32", coarsest="float32", reduction=1, declared=1e-2) is None


def test_few_elements_raise_their_error() -> None:
    assert few(1.0, 1) == 5
    assert few(1.0, 4000) == pytest.approx(1.001)


def one_after_another(terms: torch.Tensor) -> torch.Tensor:
    """Sums over the last axis in the worst order, in the terms' dtype."""
    made = torch.zeros(terms.shape[:-1], dtype=terms.dtype)
    for term in terms.unbind(-1):
        made = made + term
    return made


def test_an_honest_order_of_summation_passes_a_thousand_times_of_a_thousand() -> None:
    spec = spec_of(weighted, lambda rows, cols: (Tensor(rows, cols), Tensor(cols)))
    names = ("normal", "uniform", "heavy_tailed", "tiny", "integers", "constant")
    for seed in range(1000):
        given = draw(rows=1 + seed % 3, cols=1 + 7 * seed % 61, seed=seed, distribution=names[seed % len(names)])
        inputs = materialise(spec, given)
        found = one_after_another(inputs[0] * inputs[1])
        assert compare(spec, expect(spec, given, inputs), (found,), inputs).passed, given


@pytest.mark.parametrize("cols", [4096, 100_000])
@pytest.mark.parametrize("distribution", ["normal", "uniform", "constant", "heavy_tailed"])
def test_naive_summation_of_long_rows_passes(cols: int, distribution: str) -> None:
    spec = spec_of(total, matrix)
    given = draw(rows=64, cols=cols, distribution=distribution)
    inputs = materialise(spec, given)
    outcome = compare(spec, expect(spec, given, inputs), (one_after_another(inputs[0]),), inputs)
    assert outcome.passed, outcome.message


@pytest.mark.parametrize("cols", [16, 1024])
def test_accumulating_in_bfloat16_where_float32_is_declared_fails(cols: int) -> None:
    spec = spec_of(total, matrix)
    for seed in range(20):
        given = draw(rows=8, cols=cols, seed=seed)
        inputs = materialise(spec, given)
        found = one_after_another(inputs[0].bfloat16()).float()
        assert not compare(spec, expect(spec, given, inputs), (found,), inputs).passed


def test_computing_an_element_in_half_precision_fails() -> None:
    spec, given = rms_norm_spec(), draw(rows=64, cols=256, dtype="float32")
    x, weight = inputs = materialise(spec, given)
    found = (x.half() * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6).half() * weight.half()).float()
    assert not compare(spec, expect(spec, given, inputs), (found,), inputs).passed


def two_products(x: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """A product, scaled to its rows' root mean square, and another."""
    return normed(normed(x @ first) @ second)


def normed(x: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def accumulated(x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, between: torch.dtype) -> torch.Tensor:
    """The same, sums in float32 where the reference's own results overflow; what stands between the products as ``between``."""
    hidden = normed(x.float() @ first.float()).to(between)
    return normed(hidden.float() @ second.float()).to(x.dtype)


@pytest.mark.parametrize(("between", "passes"), [(torch.float16, True), (torch.bfloat16, False)])
def test_where_the_reference_overflows_a_kernel_may_round_where_it_rounds(between: torch.dtype, passes: bool) -> None:
    spec = spec_of(
        two_products,
        lambda rows, cols: (Tensor(rows, cols, dtype="float16"), Tensor(cols, 40, dtype="float16"), Tensor(40, cols, dtype="float16")),
    )
    overflown = 0
    for seed in range(60):
        given = draw(rows=17, cols=60 + seed, seed=seed, distribution="huge")
        inputs = materialise(spec, given)
        overflown += not bool(two_products(*inputs).isfinite().any())
        found = accumulated(*inputs, between)
        assert compare(spec, expect(spec, given, inputs), (found,), inputs, draw=given).passed is passes, given
    assert overflown > 30


def test_zeros_never_pass_even_where_the_reference_overflows() -> None:
    spec = spec_of(total, vector)
    given = draw(n=4096, dtype="float16", distribution="huge")
    inputs = materialise(spec, given)
    expected = expect(spec, given, inputs)
    assert expected.unreliable is not None or not compare(spec, expected, (torch.zeros((), dtype=torch.float16),), inputs).passed
