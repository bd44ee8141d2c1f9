"""Comparison with the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from example_specs import argmax, doubled_ids, draw, matrix, numbers, rms_norm, rms_norm_spec, spec_of, square, vector

from kevolve.evaluate.compare import compare
from kevolve.evaluate.materialise import materialise
from kevolve.evaluate.oracle import GLANCE, LOOK, Expected, Look, conditioned, expect
from kevolve.evaluate.outcome import Outcome, Status
from kevolve.spec.comparators import index_of, quantised, unordered
from kevolve.spec.inputs import Tensor
from kevolve.spec.spec import Spec


def judged(spec: Spec, inputs: tuple[Any, ...], *outputs: Any) -> Outcome:
    return compare(spec, expect(spec, draw(), inputs), outputs, inputs)


def squares(*outputs: Any, x: Any = (1.0, 2.0, 3.0)) -> Outcome:
    return judged(spec_of(square, vector), (torch.tensor(x),), *outputs)


def test_a_failure_shows_the_count_the_worst_places_and_the_tolerance() -> None:
    outcome = squares(torch.tensor([1.0, 4.5, 9.25]))
    assert outcome.status is Status.INCORRECT_NUMERICAL
    lines = outcome.message.splitlines()
    assert lines[0].startswith("output 0 (float32 [3]): 2 of 3 differ, greatest error 5.15e-02 against a tolerance of 1.31e-06")
    assert lines[1:] == ["  [1]  expected 4  got 4.5  error 5.15e-02", "  [2]  expected 9  got 9.25  error 1.70e-02"]
    assert outcome.detail["differences"] == 2
    assert outcome.detail["worst"][0]["index"] == [1]


def test_shape_dtype_and_the_number_of_outputs_are_compared_first() -> None:
    assert squares(torch.ones(4)).message == "output 0: expected shape [3], got [4]"
    assert squares(torch.ones(3, dtype=torch.float16)).message == "output 0: expected dtype float32, got float16"
    assert squares().status is Status.INCORRECT_SHAPE
    assert squares(torch.ones(3, 1)).status is Status.INCORRECT_SHAPE


def test_strides_are_contiguous_or_the_reference_s() -> None:
    spec, x = spec_of(square, matrix), torch.randn(4, 6).T
    right = x * x
    assert right.stride() == (1, 6)
    assert judged(spec, (x,), right).passed
    assert judged(spec, (x,), right.contiguous()).passed
    padded = torch.empty(6, 9)[:, :4].copy_(right)
    assert judged(spec, (x,), padded).message == "output 0: expected a contiguous result or strides [1, 6], got strides [9, 1]"


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_never_passes_for_what_is(wrong: float) -> None:
    assert squares(torch.tensor([1.0, wrong, 9.0])).status is Status.INCORRECT_NUMERICAL


def test_the_pattern_of_what_is_not_finite_must_be_the_oracle_s() -> None:
    x = (torch.inf, torch.nan, 2.0)
    assert squares(torch.tensor([torch.inf, torch.nan, 4.0]), x=x).passed
    for found in ([torch.nan, torch.nan, 4.0], [-torch.inf, torch.nan, 4.0], [torch.inf, 0.0, 4.0], [3e38, torch.nan, 4.0]):
        assert not squares(torch.tensor(found), x=x).passed


def test_an_oracle_beyond_the_output_dtype_is_an_infinity_there() -> None:
    spec, x = spec_of(square, vector), torch.tensor([300.0, 2.0], dtype=torch.float16)
    assert judged(spec, (x,), torch.tensor([torch.inf, 4.0], dtype=torch.float16)).passed
    assert not judged(spec, (x,), torch.tensor([-torch.inf, 4.0], dtype=torch.float16)).passed
    assert not judged(spec, (x,), torch.tensor([65504.0, 4.0], dtype=torch.float16)).passed


def overflowing(x: torch.Tensor) -> torch.Tensor:
    return (x * x) / x


def test_where_only_the_reference_overflows_either_is_accepted() -> None:
    spec, x = spec_of(overflowing, vector), torch.tensor([300.0, 2.0], dtype=torch.float16)
    assert judged(spec, (x,), torch.tensor([torch.inf, 2.0], dtype=torch.float16)).passed
    assert judged(spec, (x,), torch.tensor([300.0, 2.0], dtype=torch.float16)).passed
    assert not judged(spec, (x,), torch.tensor([torch.nan, 2.0], dtype=torch.float16)).passed
    assert not judged(spec, (x,), torch.tensor([0.0, 2.0], dtype=torch.float16)).passed


def cancelling(x: torch.Tensor) -> torch.Tensor:
    return (x[:1] * x[:1] - x[1:] * x[1:]) / x[:1]


def test_where_infinities_of_both_signs_met_in_the_reference_any_of_them_is_accepted_and_no_finite_value() -> None:
    spec, x = spec_of(cancelling, vector), torch.tensor([300.0, 400.0], dtype=torch.float16)
    assert torch.isnan(cancelling(x)).all()
    for right in (torch.nan, torch.inf, -torch.inf, -233.375):
        assert judged(spec, (x,), torch.tensor([right], dtype=torch.float16)).passed
    for wrong in (0.0, 233.375, 65504.0):
        assert not judged(spec, (x,), torch.tensor([wrong], dtype=torch.float16)).passed


def test_integers_are_compared_exactly_beyond_two_to_the_53() -> None:
    spec = spec_of(doubled_ids, lambda: (Tensor(2, dtype="int64", low=0, high=9),))
    ids = torch.tensor([2**60, 3])
    assert judged(spec, (ids,), ids * 2).passed
    outcome = judged(spec, (ids,), ids * 2 + torch.tensor([1, 0]))
    assert outcome.message.startswith("output 0 (int64 [2]): 1 of 2 differ\n")


def test_quantised_integers_may_differ_by_a_step() -> None:
    spec = spec_of(doubled_ids, lambda: (), compare={0: quantised(1)})
    ids = torch.tensor([5, 6])
    assert judged(spec, (ids,), torch.tensor([11, 11])).passed
    assert not judged(spec, (ids,), torch.tensor([12, 12])).passed


def test_unordered_outputs_are_sorted_first() -> None:
    spec = spec_of(square, vector, compare={0: unordered()})
    assert judged(spec, (torch.tensor([1.0, 2.0, 3.0]),), torch.tensor([9.0, 1.0, 4.0])).passed
    assert not judged(spec, (torch.tensor([1.0, 2.0, 3.0]),), torch.tensor([9.0, 1.0, 1.0])).passed


def test_indices_are_right_when_their_scores_are() -> None:
    spec = spec_of(argmax, matrix, compare={0: index_of(lambda x: x)})
    x = torch.tensor([[1.0, 5.0, 5.0], [7.0, 0.0, 1.0]])
    assert judged(spec, (x,), torch.tensor([2, 0])).passed
    assert judged(spec, (x,), torch.tensor([1, 0])).passed
    assert not judged(spec, (x,), torch.tensor([0, 0])).passed
    assert not judged(spec, (x,), torch.tensor([5, 0])).passed
    assert not judged(spec, (x,), torch.tensor([-1, 0])).passed


def nearest(x: torch.Tensor) -> torch.Tensor:
    """The index of the element nearest to 1000, by squares that cancel."""
    return gaps(x).argmax(-1)


def gaps(x: torch.Tensor) -> torch.Tensor:
    return -(x.square() - 2000.0 * x + 1e6)


def test_indices_whose_scores_cancel_are_allowed_what_rounding_does_to_these_scores() -> None:
    spec = spec_of(nearest, matrix, compare={0: index_of(gaps)})
    x = torch.tensor([[1000.0, 1000.2, 1000.5, 1100.0], [5.0, 1000.1, 1000.0, 1300.0]])
    expected = expect(spec, draw(), (x,))
    assert not compare(spec, expected, (torch.tensor([1, 2]),), (x,)).passed
    assert compare(spec, expected, (torch.tensor([1, 2]),), (x,), draw=draw()).passed
    assert compare(spec, expected, (torch.tensor([0, 1]),), (x,), draw=draw()).passed
    for wrong in ([3, 2], [1, 0], [1, 3], [1, 4]):
        assert not compare(spec, expected, (torch.tensor(wrong),), (x,), draw=draw()).passed


def top2(x: torch.Tensor) -> torch.Tensor:
    return x.topk(2).indices


def centred(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Batch norm and ReLU of [batch, channels]; a row of the result is one element."""
    difference = x - x.mean(0)
    inverse = torch.rsqrt(difference.square().mean(0) + 1e-5)
    return (difference * (weight * inverse) + bias).relu()[:, :, None]


def test_the_longer_look_sees_what_sixteen_runs_missed_in_rows_of_one_element() -> None:
    """Equal values: the mean's last bit decides between -1 and 1, and ReLU shows one of them only."""
    spec, generator = spec_of(centred, numbers), torch.Generator().manual_seed(5)
    x = (1e14 * torch.randn(1000, generator=generator)).expand(6, 1000)
    weight = torch.full((1000,), 3.0)
    bias = torch.full((1000,), -1.9)
    honest = torch.where(torch.rand(1000, generator=generator) < 0.5, 1.1, 0.0).expand(6, 1000)[:, :, None].contiguous()
    expected = expect(spec, draw(), (x, weight, bias))
    assert compare(spec, expected, (honest,), (x, weight, bias), draw=draw()).passed
    assert not compare(spec, conditioned(spec, draw(), (x, weight, bias), expected), (honest,), (x, weight, bias)).passed, "16 runs"
    assert not compare(spec, expected, (100 * honest,), (x, weight, bias), draw=draw()).passed


def test_a_glance_allows_what_one_run_of_it_moves_no_more_than_the_look_does() -> None:
    for runs, spread in ((GLANCE.runs, GLANCE.spread), (LOOK.runs, LOOK.spread)):
        assert spread * (1.0 / runs) ** 0.5 == 2.0  # the root mean square of runs of which one moves an output by 1


def row_sums(x: torch.Tensor) -> torch.Tensor:
    return x.sum(-1, keepdim=True)


def test_what_cancels_is_accepted_at_a_glance_and_what_is_wrong_is_looked_at_in_full() -> None:
    spec, taken = spec_of(row_sums, matrix), list[Look]()
    x = torch.tensor([[1000.0, -1000.0, 1.0]]).repeat(100, 1)  # of few outputs one native run says too little of the error
    expected = expect(spec, draw(), (x,))

    def widen(look: Look) -> Expected:
        taken.append(look)
        return conditioned(spec, draw(), (x,), expected, look)

    for value, passes, seen in ((1.0002, True, [GLANCE]), (1.1, False, [GLANCE, LOOK])):
        taken.clear()
        assert compare(spec, expected, (torch.full((100, 1), value),), (x,), draw=draw(), widen=widen).passed is passes
        assert taken == seen


def powers(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(x)


def test_results_that_float32_flushes_to_zero_are_right_and_the_next_larger_are_not() -> None:
    spec, x = spec_of(powers, matrix), torch.tensor([[-88.0], [-86.0]])  # about 6e-39 and 4.5e-38
    assert judged(spec, (x,), torch.tensor([[0.0], [4.4737793e-38]])).passed
    assert not judged(spec, (x,), torch.tensor([[0.0], [0.0]])).passed


def test_an_index_given_twice_is_wrong() -> None:
    spec = spec_of(top2, matrix, compare={0: index_of(lambda x: x)})
    x = torch.tensor([[5.0, 5.0, 1.0]])
    assert judged(spec, (x,), torch.tensor([[1, 0]])).passed
    assert not judged(spec, (x,), torch.tensor([[1, 1]])).passed


def test_numbers_are_compared_as_tensors_without_axes() -> None:
    spec, x = spec_of(numbers, vector), torch.tensor([1.0, 2.0])
    assert judged(spec, (x,), x.clone(), 3.0).passed
    assert not judged(spec, (x,), x.clone(), 4.0).passed


def test_one_wrong_element_in_two_million_is_found_and_named() -> None:
    spec, given = rms_norm_spec(), draw(rows=2048, cols=1024, dtype="float32")
    inputs = materialise(spec, given)
    expected, right = expect(spec, given, inputs), rms_norm(*inputs)
    assert expected.outputs[0].allowed is None
    assert compare(spec, expected, (right,), inputs).passed
    right[2047, 1023] += 0.01
    outcome = compare(spec, expected, (right,), inputs)
    assert outcome.message.splitlines()[1].startswith("  [2047, 1023]  ")
    assert outcome.detail["differences"] == 1


def test_values_of_an_unreliable_output_are_not_judged_but_its_shape_is() -> None:
    spec, x = spec_of(square, vector), (torch.tensor([1.0]),)
    expected = expect(spec, draw(), x)
    unreliable = Expected(outputs=(replace(expected.outputs[0], unreliable="cancelled"),), reduction=1)
    assert compare(spec, unreliable, (torch.tensor([5.0]),), x).passed
    assert not compare(spec, unreliable, (torch.tensor([5.0, 5.0]),), x).passed
