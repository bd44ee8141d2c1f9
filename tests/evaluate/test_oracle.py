"""The reference in float64, and natively."""

from __future__ import annotations

import pytest
import torch
from example_specs import add_to, doubled_ids, draw, gelu, matrix, numbers, rms_norm_spec, shifted, spec_of, square, total, vector
from torch.nn import functional

from kevolve.evaluate.compare import compare
from kevolve.evaluate.lifting import Lift
from kevolve.evaluate.materialise import materialise
from kevolve.evaluate.oracle import ReferenceFailed, expect, flat, row_scale
from kevolve.spec.inputs import Tensor


def test_the_oracle_is_free_of_the_reference_s_own_casts() -> None:
    spec, given = rms_norm_spec(), draw(rows=4, cols=300, dtype="bfloat16")
    x, weight = materialise(spec, given)
    expected = expect(spec, given, (x, weight)).outputs[0]
    wide = x.double()
    exact = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.double()
    assert expected.oracle.dtype == torch.float64
    assert expected.dtype == torch.bfloat16
    assert float((expected.oracle - exact).abs().max()) < 1e-14


def test_the_longest_reduction_is_seen() -> None:
    spec, given = rms_norm_spec(), draw(rows=4, cols=300, dtype="float32")
    assert expect(spec, given, materialise(spec, given)).reduction == 300


@pytest.mark.parametrize(
    ("call", "terms"),
    [
        (lambda x: x @ x.T, 12),
        (lambda x: functional.softmax(x, -1), 12),
        (lambda x: x.cumsum(0), 5),
        (lambda x: functional.layer_norm(x, (12,)), 12),
        (lambda x: x.mean(), 60),
        (lambda x: x + 1, 1),
        (lambda x: functional.cross_entropy(x, torch.zeros(5, dtype=torch.int64)), 12),
        (lambda x: functional.linear(x, x, x[:, 0]), 12),
    ],
)
def test_reductions_are_measured_by_operator(call: object, terms: int) -> None:
    with Lift() as lifting:
        assert callable(call)
        call(torch.ones(5, 12))
    assert lifting.reduction == terms


def test_what_a_reference_makes_inside_is_lifted() -> None:
    x = torch.ones(3, dtype=torch.float64)  # as the oracle hands it over
    with Lift():
        made = [torch.zeros(3, dtype=torch.bfloat16), torch.arange(3.0), x.half(), x.to(torch.float32), x + torch.tensor([1.0, 2.0, 3.0])]
        made += [functional.softmax(x, -1, dtype=torch.float32), torch.full((2,), 0.5), x.sum(dtype=torch.float16)]
    assert {tensor.dtype for tensor in made} == {torch.float64}


def test_half_precision_is_lifted_through_softmax() -> None:
    x = torch.randn(4, 9).half()
    with Lift():
        made = torch.softmax(x, -1, dtype=torch.float32)
    assert torch.equal(made, torch.softmax(x.double(), -1))


def test_gradients_follow_the_outputs_and_are_lifted_too() -> None:
    spec = spec_of(square, vector, grad=("x",))
    given = draw(n=200, dtype="float16")
    (x,) = materialise(spec, given)
    forward, gradient = expect(spec, given, (x,)).outputs
    assert torch.equal(forward.oracle, x.double() ** 2)
    assert gradient.dtype == torch.float16
    assert gradient.oracle.shape == (200,)
    assert not x.requires_grad


def test_mutated_inputs_are_appended_and_the_judge_s_copy_is_untouched() -> None:
    spec = spec_of(add_to, lambda n: (Tensor(n), Tensor(n)), mutates=("state",))
    given = draw(n=5)
    state, x = materialise(spec, given)
    before = state.clone()
    (after,) = expect(spec, given, (state, x)).outputs
    assert torch.equal(state, before)
    assert torch.equal(after.oracle, before.double() + x.double())


def test_integers_are_exact_and_numbers_become_tensors() -> None:
    spec = spec_of(doubled_ids, lambda: (Tensor(4, dtype="int64", low=0, high=9),))
    assert expect(spec, draw(), materialise(spec, draw())).outputs[0].oracle.dtype == torch.int64
    spec = spec_of(numbers, vector)
    assert expect(spec, draw(n=3), materialise(spec, draw(n=3))).outputs[1].oracle.shape == ()


def test_a_reference_that_cancels_is_unreliable_there() -> None:
    spec = spec_of(total, vector)
    given = draw(n=2)
    expected = expect(spec, given, (torch.tensor([1.0, -1.0 + 2.0**-24]),))
    assert expected.unreliable is None or "the reference itself errs by" in expected.unreliable


def test_rows_in_which_the_reference_loses_all_are_judged_by_its_error_there_and_the_others_as_ever() -> None:
    spec, given = spec_of(shifted, matrix), draw(rows=10, cols=8)
    x = 1000 * torch.randn(10, 8, generator=torch.Generator().manual_seed(1))
    x[7] /= 1e5
    expected = expect(spec, given, (x,))
    output = expected.outputs[0]
    assert output.unreliable is None
    assert 0 < output.tolerance < 1e-5
    lost = float(((shifted(x) - x)[7]).abs().max())

    def judged(kernel: torch.Tensor) -> bool:
        return compare(spec, expected, (kernel,), (x,), draw=given).passed

    def moved(row: int, by: float) -> torch.Tensor:
        kernel = x.clone()
        kernel[row] += by
        return kernel

    assert judged(x)
    assert judged(shifted(x))
    assert judged(moved(7, 2 * lost))
    assert not judged(moved(7, 100 * lost))
    assert not judged(moved(6, 0.1))
    assert not judged(torch.zeros_like(x))


def test_where_the_reference_loses_most_rows_nothing_is_judged() -> None:
    spec, given = spec_of(shifted, matrix), draw(rows=10, cols=8)
    x = torch.randn(10, 8, generator=torch.Generator().manual_seed(1)) / 100
    x[7] *= 1e5
    assert "the reference itself errs by" in str(expect(spec, given, (x,)).unreliable)


def test_a_gelu_far_below_zero_is_widened_by_the_cancellation_inside_it() -> None:
    spec, given = spec_of(gelu, matrix), draw(rows=1, cols=1, dtype="bfloat16")
    x = torch.tensor([[-4.90625]], dtype=torch.bfloat16)
    expected = expect(spec, given, (x,))
    one_step_off = (torch.tensor([[-2.93e-7]], dtype=torch.bfloat16),)  # by a float32 hyperbolic tangent beside -1
    assert not compare(spec, expected, one_step_off, (x,)).passed
    assert compare(spec, expected, one_step_off, (x,), draw=given).passed
    assert not compare(spec, expected, (torch.full((1, 1), -1e-5, dtype=torch.bfloat16),), (x,), draw=given).passed


def test_a_reference_that_raises_says_on_which_draw() -> None:
    spec = spec_of(total, matrix)
    with pytest.raises(ReferenceFailed, match=r'example_specs:total failed on {"values":{"rows":1,"cols":2},"seed":1'):
        expect(spec, draw(rows=1, cols=2), ("no tensor",))


def test_outputs_are_flattened_without_none() -> None:
    x = torch.ones(1)
    assert flat((x, None, [x, 3])) == (x, x, 3)
    with pytest.raises(TypeError, match="expected tensors, numbers or tuples of them, got dict"):
        flat({"x": x})


def test_row_scales_ignore_infinities_and_survive_overflow() -> None:
    made = row_scale(torch.tensor([[3.0, 4.0, torch.inf], [1e300, 1e300, 1e300]], dtype=torch.float64))
    assert made[:, 0].tolist() == pytest.approx([(25 / 3) ** 0.5, 1e300])


def test_empty_tensors_have_an_oracle() -> None:
    spec, given = rms_norm_spec(), draw(rows=0, cols=5, dtype="float32")
    assert expect(spec, given, materialise(spec, given)).outputs[0].oracle.shape == (0, 5)


def floored(x: torch.Tensor) -> torch.Tensor:
    return (x * 10).floor().to(torch.int64)


def test_integers_at_a_rounding_boundary_may_be_the_native_references_own() -> None:
    spec, given = spec_of(floored, vector), draw(n=1)
    x = torch.tensor([0.7])  # 7.0 in float32, just below in float64
    expected = expect(spec, given, (x,))
    assert expected.outputs[0].native is not None
    for got in (7, 6):
        assert compare(spec, expected, (torch.tensor([got]),), (x,)).passed
    assert not compare(spec, expected, (torch.tensor([8]),), (x,)).passed
    assert expect(spec, given, (torch.tensor([0.25]),)).outputs[0].native is None
