"""A reference in float64 that rounds where it would round as declared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from example_specs import draw, gated, spec_of
from torch.nn import functional

from kevolve.evaluate.compare import compare
from kevolve.evaluate.lifting import Lift
from kevolve.evaluate.materialise import materialise
from kevolve.evaluate.oracle import conditioned, expect, row_scale
from kevolve.evaluate.rounding import Rounded, spacings
from kevolve.spec.inputs import Tensor


def _run(call: Callable[..., torch.Tensor], *values: torch.Tensor) -> torch.Tensor:
    mode = Rounded(seed=1)
    lifted = mode.lifted(values)
    with torch.no_grad(), mode:
        made = call(*lifted)
    assert made.dtype == torch.float64
    return made


def _random(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_a_result_is_one_of_its_two_neighbours_and_either_happens() -> None:
    x, y = _random(64, 64), _random(64, 64, seed=1)
    exact = x.double() * y.double()
    found = _run(torch.mul, x, y)
    assert torch.equal(found.bfloat16().double(), found)
    assert bool(((found - exact).abs() < spacings(exact, torch.bfloat16)).all())
    assert bool((found > exact).any())
    assert bool((found < exact).any())


def test_data_that_is_only_moved_stays_as_it_is() -> None:
    x = _random(8, 6)
    index = torch.tensor([3, 1])
    found = _run(lambda x: torch.cat((x.t().contiguous(), x.t().clone()))[index].maximum(-x.t()[index]), x)
    assert torch.equal(found, x.t()[index].double().maximum(-x.t()[index].double()))


def test_what_is_computed_in_float32_is_rounded_once_at_its_end() -> None:
    x, y = _random(8, 6), _random(8, 6, seed=1)
    exact = (x.double() * y.double()).sum(-1)
    assert torch.equal(_run(lambda x, y: (x.float() * y.float()).sum(-1), x, y), exact)
    assert not torch.equal(_run(lambda x, y: (x.float() * y.float()).sum(-1).to(torch.bfloat16), x, y), exact)


def test_a_fused_operator_is_rounded_once_and_one_that_gives_float32_never() -> None:
    x = _random(8, 64, dtype=torch.float16)
    with Lift():
        exact = torch.softmax(x.double(), -1)
    found = _run(lambda x: torch.softmax(x, -1), x)
    assert bool(((found - exact).abs() < spacings(exact, torch.float16)).all())


def test_float32_and_values_that_are_not_finite_stay() -> None:
    x = _random(8, dtype=torch.float32)
    assert torch.equal(_run(lambda x: x * x, x), x.double() * x.double())
    odd = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0, 1e-39], dtype=torch.bfloat16)
    found = _run(lambda x: x * x, odd)
    assert found[:2].isinf().all()
    assert found[2].isnan()
    assert found[3] == 0


def _honest(x: torch.Tensor, mixed: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Rounds where the reference rounds, but values that it scales first, as a softmax does that divides at its end."""

    def product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (1.37 * (one.float() @ other.float().t())).bfloat16().float() / 1.37

    between = product(x, mixed)
    return product(functional.silu(product(between, gate)) * product(between, up), down).bfloat16()


def _gates(rows: int, width: int, inner: int) -> tuple[Tensor, ...]:
    shapes = (rows, width), (width, width), (inner, width), (inner, width), (width, inner)
    return tuple(Tensor(*shape, dtype="bfloat16") for shape in shapes)


def test_a_gate_of_one_channel_that_cancels_may_round_on_the_way_as_its_reference_does_and_another_gate_may_not() -> None:
    spec, refused = spec_of(gated, _gates), 0
    for seed in range(30):
        given = draw(rows=17, width=32, inner=1, seed=seed)
        x, mixed, gate, up, down = materialise(spec, given)
        inputs = x, mixed / 6, gate / 6, up / 6, down
        expected, found = expect(spec, given, inputs), _honest(*inputs)
        outcome = compare(spec, expected, (found,), inputs, draw=given)
        assert outcome.passed, f"{given}\n{outcome.message}"
        refused += not compare(spec, expected, (found,), inputs).passed
        other = _honest(*inputs[:2], gate / 6 * 1.25, *inputs[3:])
        assert not compare(spec, expected, (other,), inputs, draw=given).passed, given
    assert refused > 3, "the first look alone should refuse some"


def test_rows_in_which_nothing_is_magnified_stay_as_tight_as_they_were() -> None:
    spec, given = spec_of(gated, _gates), draw(rows=16, width=64, inner=256)
    inputs = materialise(spec, given)
    (wide,) = conditioned(spec, given, inputs, expect(spec, given, inputs)).outputs
    assert wide.spread is not None
    assert float((wide.spread / row_scale(wide.oracle)).max()) < 2**-8


def test_below_the_smallest_normal_number_roundings_on_the_way_may_add_up_to_more_than_a_step() -> None:
    spec, given = spec_of(gated, _gates), draw(rows=16, width=64, inner=16)
    x, mixed, gate, up, down = (value.half() for value in materialise(spec, given))
    inputs = x / 8, mixed / 8, gate / 64, up / 256, down / 256
    expected = expect(spec, given, inputs)
    smallest = 2.0**-24
    found = (expected.outputs[0].oracle / smallest).round().add_(2.0).mul_(smallest).half()  # two steps off
    assert not compare(spec, expected, (found,), inputs).passed
    assert compare(spec, expected, (found,), inputs, draw=given).passed
    assert not compare(spec, expected, (torch.zeros_like(found),), inputs, draw=given).passed
