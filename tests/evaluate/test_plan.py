"""The frozen plan."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from example_specs import matrix, rms_norm_spec, spec_of, square

from kevolve.evaluate import plan as plan_module
from kevolve.evaluate.materialise import elements
from kevolve.evaluate.oracle import GLANCE
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


def test_modules_that_are_imported_meanwhile_do_not_change_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_plan(rms_norm_spec(), seed=3).draws
    (tmp_path / "full_of_numbers.py").write_text("\n".join(f"a{number} = {number}" for number in range(100, 600)))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("full_of_numbers")
    try:
        assert make_plan(rms_norm_spec(), seed=3).draws == before
    finally:
        del sys.modules["full_of_numbers"]


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


def row_max(x: torch.Tensor) -> torch.Tensor:
    return x.amax(-1)


MANY_ROWS = spec_of(row_max, lambda rows: (Tensor(rows, 64, dtype="int8"),), vary=dict(rows=sizes(0, 1 << 27)))
SEEN, FACTOR, PEAK = 1 << 24, 160, 100 << 20  # bytes of the smaller draw, how many times larger the huge one is, the oracle's peak
NEEDED = FACTOR * (PEAK + SEEN + 4 * SEEN // 64)  # the judge's: what was seen, the arena, the outputs four times
NEEDED_BY_WORKER = FACTOR * (SEEN + 2 * SEEN // 64)


def huge_of(monkeypatch: pytest.MonkeyPatch, available: int, memory_bytes: int) -> tuple[list[Draw], tuple[str, ...]]:
    monkeypatch.setattr(plan_module, "available_bytes", lambda: available)
    monkeypatch.setattr(plan_module, "peak_bytes", lambda work: work() or PEAK)
    plan = make_plan(MANY_ROWS, seed=1, examples=1, memory_bytes=memory_bytes)
    return [draw for draw in plan.draws if draw.origin == "huge"], plan.notes[1:]


def test_a_draw_beyond_two_to_the_31_is_there_exactly_when_memory_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    ((draw,), notes) = huge_of(monkeypatch, NEEDED, NEEDED_BY_WORKER)
    assert (draw.values, draw.layout, draw.distribution) == ({"rows": 5 * (1 << 31) // 4 // 64}, "contiguous", "normal")
    assert notes == ()
    assert huge_of(monkeypatch, NEEDED - 1, NEEDED_BY_WORKER) == (
        [],
        ("no draw beyond 2^31 elements: it needs 18 GiB of memory, 18 GiB are free",),
    )
    assert huge_of(monkeypatch, NEEDED, NEEDED_BY_WORKER - 1) == (
        [],
        ("no draw beyond 2^31 elements: it needs 3 GiB of memory in a worker, whose limit is 3 GiB",),
    )


def test_what_a_huge_draw_needs_is_seen_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "available_bytes", lambda: 0)
    copies = spec_of(square, lambda rows: (Tensor(rows, 64),), vary=dict(rows=sizes(0, 1 << 27)))
    needed = []
    for spec in (MANY_ROWS, copies):
        note = make_plan(spec, seed=1, examples=1).notes[-1]
        needed.append(int(note.removeprefix("no draw beyond 2^31 elements: it needs ").partition(" GiB")[0]))
    assert needed[0] <= 12  # int8 in, the largest of 64 out: the inputs twice and little else
    assert needed[1] >= 60  # float32 in and out, both in float64 for the oracle


def test_the_search_plans_no_huge_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "available_bytes", lambda: 1 << 60)
    plan = make_plan(MANY_ROWS, seed=1, examples=1, memory_bytes=1 << 60, huge=False)
    assert {draw.origin for draw in plan.draws} == {"sweep", "drawn"}


def test_inputs_and_oracle_are_computed_once() -> None:
    plan = make_plan(rms_norm_spec(), seed=7, examples=1)
    assert plan.inputs(5) is plan.inputs(5)
    assert plan.expected(5) is plan.expected(5)
    assert plan.widened(5, GLANCE) is plan.widened(5, GLANCE)
    assert plan.widened(5, GLANCE).outputs[0].spread is not None


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
