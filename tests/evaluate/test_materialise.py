"""From draws to tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from example_specs import doubled_ids, draw, rms_norm_spec, spec_of, square, total

from kevolve.evaluate.materialise import elements, grad_outputs, materialise
from kevolve.spec.inputs import DISTRIBUTIONS, Jagged, Scalar, Tensor


def one(item: Any, *, values: Any = None, **options: Any) -> Any:
    return materialise(spec_of(square, lambda: (item,)), draw(**options))[0]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("layout", ["contiguous", "strided", "offset", "transposed", "broadcast"])
def test_the_same_draw_always_gives_the_same_tensors(distribution: str, layout: str) -> None:
    given = draw(rows=5, cols=7, dtype="float16", distribution=distribution, layout=layout)
    again = [materialise(rms_norm_spec(), given) for _ in range(2)]
    for first, second in zip(*again, strict=True):
        assert torch.equal(first, second)
        assert first.stride() == second.stride()
        assert bool(first.isfinite().all())


def test_inputs_of_one_draw_are_independent() -> None:
    first, second = materialise(spec_of(square, lambda: (Tensor(64), Tensor(64))), draw())
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("layout", "stride"), [("contiguous", (7, 1)), ("offset", (7, 1)), ("transposed", (1, 5)), ("broadcast", (0, 1))])
def test_layouts_have_their_strides(layout: str, stride: tuple[int, int]) -> None:
    made = one(Tensor(5, 7), layout=layout)
    assert made.shape == (5, 7)
    assert made.stride() == stride
    assert (made.storage_offset() > 0) == (layout == "offset")


def test_a_strided_layout_has_a_wider_pitch_with_poison_between_rows() -> None:
    made = one(Tensor(5, 7), layout="strided")
    pitch = made.stride(0)
    assert pitch > 7
    assert bool(made.as_strided((4, pitch), (pitch, 1))[:, 7:].isnan().all())


def test_a_vector_is_laid_out_with_every_second_element_when_transposed() -> None:
    assert one(Tensor(9), layout="transposed").stride() == (2,)
    assert one(Tensor(9), layout="broadcast").stride() == (1,)


def test_a_tensor_that_fixes_layout_and_distribution_keeps_them() -> None:
    made = one(Tensor(5, 7, layout="contiguous", distribution="constant"), layout="transposed", distribution="normal")
    assert made.is_contiguous()
    assert made.unique().numel() == 1


def test_mutated_inputs_are_never_broadcast() -> None:
    spec = spec_of(square, lambda: (Tensor(5, 7),), mutates=("x",))
    assert 0 not in materialise(spec, draw(layout="broadcast"))[0].stride()


def test_distributions_are_what_their_names_say() -> None:
    made = {name: one(Tensor(10_000, infinities=True), distribution=name) for name in DISTRIBUTIONS}
    assert abs(float(made["normal"].std()) - 1) < 0.05
    assert float(made["heavy_tailed"].abs().max()) > 20 * float(made["heavy_tailed"].abs().median())
    assert float(made["tiny"].abs().max()) < 1e-14
    assert 1e15 < float(made["huge"].abs().max()) < 1e17
    assert torch.equal(made["integers"], made["integers"].round())
    assert made["constant"].unique().numel() == 1
    assert made["constant"][0] != 0
    assert 1 <= int(made["infinities"].isinf().sum()) <= 4


def test_infinities_come_only_where_the_tensor_takes_them() -> None:
    assert bool(one(Tensor(1000), distribution="infinities").isfinite().all())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_bounds_hold_for_every_float_type(dtype: str) -> None:
    made = one(Tensor(100_000, dtype=dtype, low=0.0, high=1.0), distribution="huge")
    assert float(made.min()) >= 0
    assert float(made.max()) < 1


def test_integers_keep_within_their_bounds() -> None:
    made = one(Tensor(10_000, dtype="int64", low=-3, high=4))
    assert made.dtype == torch.int64
    assert made.unique().tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert one(Tensor(10_000, dtype="int8")).unique().numel() == 256
    assert one(Tensor(100, dtype="bool")).unique().tolist() == [False, True]


@pytest.mark.parametrize("high", [2_000, 2**40])
def test_unique_sorted_ids_are_distinct_and_ascending_however_wide_the_range(high: int) -> None:
    made = one(Tensor(1_500, dtype="int64", low=0, high=high, sorted=True, unique=True))
    assert bool((made[1:] > made[:-1]).all())
    assert 0 <= int(made[0]) < int(made[-1]) < high


def test_too_many_unique_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tensor \[5\]: expected bounds at least 5 apart for 5 unique values, got \[0, 3\)"):
        one(Tensor(5, dtype="int64", low=0, high=3, unique=True))


def test_floats_sort_along_the_last_axis() -> None:
    made = one(Tensor(3, 50, sorted=True), layout="strided")
    assert torch.equal(made, made.sort(dim=-1).values)


def test_jagged_inputs_are_lengths_and_their_values_with_empty_rows_among_them() -> None:
    lengths, values = materialise(spec_of(square, lambda: (Jagged(rows=400, max_length=9, inner=(2,)),)), draw())
    assert lengths.dtype == torch.int64
    assert (int(lengths.min()), int(lengths.max())) == (0, 9)
    assert values.shape == (int(lengths.sum()), 2)


def test_scalars_vary_in_properties_and_not_in_cases() -> None:
    item = Scalar(value=2, low=1, high=3)
    assert one(item, distribution=None) == 2
    assert {one(item, seed=seed) for seed in range(50)} == {1, 2, 3}


def test_a_function_gets_the_sizes_and_a_seeded_generator() -> None:
    spec = spec_of(doubled_ids, lambda n: lambda given, generator: torch.randint(0, 9, (given["n"],), generator=generator))
    (made,) = materialise(spec, draw(n=6))
    assert torch.equal(made, materialise(spec, draw(n=6))[0])
    assert made.shape == (6,)


def test_elements_are_counted_without_making_them() -> None:
    assert elements(rms_norm_spec(), dict(rows=10**6, cols=10**6, dtype="float32")) == 10**12 + 10**6


def test_gradients_of_outputs_follow_the_floating_outputs() -> None:
    outputs = (torch.zeros(3, 2, dtype=torch.bfloat16), torch.zeros(4, dtype=torch.int64))
    assert grad_outputs(spec_of(total, lambda: ()), draw(), outputs) == ()
    (made,) = grad_outputs(spec_of(total, lambda: (), grad=("x",)), draw(), outputs)
    assert (made.shape, made.dtype) == ((3, 2), torch.bfloat16)
