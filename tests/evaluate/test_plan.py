"""The frozen plan."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from example_specs import matrix, rms_norm_spec, spec_of, square

from kevolve.evaluate.materialise import elements
from kevolve.evaluate.plan import Plan, make_plan
from kevolve.spec.domain import choices, sizes
from kevolve.spec.inputs import DISTRIBUTIONS, LAYOUTS, Tensor
from kevolve.spec.spec import Draw, Spec


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(rms_norm_spec(), seed=7)


def swept(plan: Plan, name: str) -> list[int]:
    others = [other for other in ("rows", "cols") if other != name]
    return [draw.values[name] for draw in plan.draws if draw.origin == "sweep" and all(draw.values[other] <= 8 for other in others)]


def test_every_size_up_to_1025_is_swept_on_each_axis_within_its_domain(plan: Plan) -> None:
    assert set(swept(plan, "rows")) >= set(range(1026))
    assert set(swept(plan, "cols")) >= set(range(1, 1026))
    assert sum(draw.origin == "sweep" for draw in plan.draws) == 1026 + 1025


def test_no_swept_draw_is_empty_because_of_another_axis(plan: Plan) -> None:
    assert [draw.values["rows"] for draw in plan.draws if draw.origin == "sweep" and not elements(plan.spec, draw.values)] == []
    assert all(draw.values["rows"] > 0 for draw in plan.draws[1026:2051])


def test_each_dtype_is_met_about_as_often(plan: Plan) -> None:
    met = Counter(draw.values["dtype"] for draw in plan.draws if draw.origin == "sweep")
    assert min(met.values()) > 800


def test_a_hundred_drawn_ones_differ_and_meet_every_distribution_and_layout(plan: Plan) -> None:
    found = [draw for draw in plan.draws if draw.origin == "drawn"]
    assert len(found) == 100
    assert len({(str(draw.values), draw.distribution, draw.layout) for draw in found}) == 100
    assert {draw.layout for draw in found} == set(LAYOUTS)
    assert {draw.distribution for draw in found} == set(DISTRIBUTIONS) - {"infinities"}
    assert sum(draw.values["rows"] == 0 for draw in found) <= 5
    assert max(draw.values["cols"] for draw in found) > 1100


def test_the_plan_follows_from_its_seed_alone() -> None:
    one, again, other = (make_plan(rms_norm_spec(), seed=seed, examples=20).draws for seed in (3, 3, 4))
    assert one == again
    assert one != other
    assert {draw.seed for draw in one}.isdisjoint({draw.seed for draw in other})


def test_all_draws_lie_in_the_domain_and_within_a_million_elements(plan: Plan) -> None:
    for draw in plan.draws:
        assert all(domain.contains(draw.values[name]) for name, domain in plan.spec.vary.items())
        assert elements(plan.spec, draw.values) <= 1 << 20


def test_a_cap_thins_the_sweep_and_quarters_the_examples() -> None:
    plan = make_plan(rms_norm_spec(), seed=7, cap=1 << 15)
    count = Counter(draw.origin for draw in plan.draws)
    assert count["sweep"] < 200
    assert count["drawn"] <= 25
    assert max(elements(plan.spec, draw.values) for draw in plan.draws) <= 1 << 15
    assert {31, 32, 33, 37, 127, 129, 1025} <= set(swept(plan, "cols"))


def test_a_bug_at_one_tail_is_in_the_plan_of_twenty_seeds_of_twenty() -> None:
    for seed in range(20):
        draws = make_plan(rms_norm_spec(), seed=seed, examples=1).draws
        assert sum(draw.values["cols"] % 64 == 37 and draw.values["rows"] > 0 for draw in draws) >= 16
        assert any(draw.values["cols"] == 1000 and draw.values["rows"] > 0 for draw in draws)


def test_a_spec_without_sizes_is_drawn_over_its_choices() -> None:
    def describe(dtype: str, n: int) -> Any:
        return (Tensor(n, dtype=dtype),)

    spec = spec_of(square, describe, vary=dict(n=choices(3, 5)), choices=dict(dtype=("float32", "float16")))
    plan = make_plan(spec, seed=1)
    assert {draw.origin for draw in plan.draws} == {"drawn"}
    found = {(draw.values["n"], draw.values["dtype"]) for draw in plan.draws}
    assert found == {(n, dtype) for n in (3, 5) for dtype in ("float32", "float16")}


def test_a_large_fixed_size_thins_the_sweep_and_says_so() -> None:
    spec = spec_of(square, matrix, vary=dict(cols=sizes(1, 1025)), choices=dict(rows=(1 << 17,)))
    plan = make_plan(spec, seed=1, examples=2)
    assert sum(elements(spec, draw.values) for draw in plan.draws if draw.origin == "sweep") < 1 << 25
    assert plan.notes[0] == "sweep of cols: thinned to 58 of 1025 sizes: all 1025 hold more than 16777216 elements together"


def test_a_domain_beyond_two_to_the_31_is_drawn_once_or_the_reason_is_noted() -> None:
    spec = spec_of(square, matrix, vary=dict(rows=sizes(1, 1 << 17), cols=sizes(1, 1 << 17)))
    plan = make_plan(spec, seed=1, examples=1)
    huge = [draw for draw in plan.draws if draw.origin == "huge"]
    if huge:
        assert 1 << 31 < elements(spec, huge[0].values) < 1 << 32
    else:
        assert plan.notes[-1].startswith("no draw beyond 2^31 elements: it needs ")


def test_inputs_and_oracle_are_computed_once() -> None:
    plan = make_plan(rms_norm_spec(), seed=7, examples=1)
    assert plan.inputs(5) is plan.inputs(5)
    assert plan.expected(5) is plan.expected(5)


def test_a_draw_survives_its_json() -> None:
    spec: Spec = rms_norm_spec()
    for draw in make_plan(spec, seed=1, examples=5).draws[-5:]:
        assert Draw.from_json(draw.to_json(), origin="drawn") == draw


def test_no_draw_is_planned_that_a_worker_could_not_hold() -> None:
    spec = spec_of(square, matrix, vary=dict(rows=sizes(1, 1 << 17), cols=sizes(1, 1 << 17)))
    plan = make_plan(spec, seed=1, examples=1, memory_bytes=1 << 20)
    assert [draw for draw in plan.draws if draw.origin == "huge"] == []
    assert plan.notes[-1].startswith("no draw beyond 2^31 elements: it needs ")


def test_inputs_that_a_function_makes_are_measured_so_that_the_sweep_stays_whole() -> None:
    def made(arguments: Any, generator: torch.Generator) -> Any:
        return torch.randn(arguments["table"] + arguments["bags"] + arguments["width"], generator=generator)

    vary = dict(table=sizes(1, 5000), bags=sizes(1, 5000), width=sizes(1, 5000), limit=choices(1, 10**6))
    plan = make_plan(spec_of(square, lambda table, bags, width, limit: made, vary=vary), seed=1, examples=1)
    assert [note for note in plan.notes if note.startswith("sweep")] == []
    assert sum(draw.origin == "sweep" for draw in plan.draws) == 3 * 1025


def test_a_function_that_makes_large_inputs_thins_the_sweep() -> None:
    def made(arguments: Any, generator: torch.Generator) -> Any:
        return torch.zeros(arguments["n"], 1 << 16)

    plan = make_plan(spec_of(square, lambda n: made, vary=dict(n=sizes(1, 5000))), seed=1, examples=1)
    assert plan.notes[0].startswith("sweep of n: thinned to 58 of 1025 sizes: ")
