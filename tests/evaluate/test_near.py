"""Draws near the benchmark's cases: paths for these sizes alone are judged in every layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.draws import INTERPRETED_SIZE
from kevolve.evaluate.materialise import elements
from kevolve.evaluate.near import MOST, NEAR_ELEMENTS, near_cases
from kevolve.evaluate.outcome import Status
from kevolve.evaluate.plan import make_plan
from kevolve.spec.domain import choices, sizes
from kevolve.spec.inputs import Tensor
from kevolve.spec.spec import Case, Spec
from kevolve.targets.cpu import CPU
from tests.evaluate.example_specs import spec_of, total

VARY = dict(rows=sizes(0, 300), cols=sizes(1, 2000))


def spec(*cases: Mapping[str, Any], **options: Any) -> Spec:
    made = tuple(Case(id=str(number), values=values) for number, values in enumerate(cases))
    given = dict(vary=VARY, choices={"dtype": ("float32", "bfloat16")}) | options
    return replace(spec_of(total, lambda rows, cols, dtype: (Tensor(rows, cols, dtype=dtype),), **given), cases=made)


ONE = dict(rows=96, cols=700, dtype="bfloat16")


def test_a_cases_sizes_are_met_whole_and_with_each_size_small_contiguous_and_in_two_other_layouts() -> None:
    found = near_cases(spec(ONE), seed=1, cap=None)
    whole = [draw.layout for draw in found if (draw.values["rows"], draw.values["cols"]) == (96, 700)]
    thin = [draw.layout for draw in found if draw.values["cols"] <= 5]
    short = [draw.layout for draw in found if draw.values["rows"] <= 5]
    assert (len(whole), len(thin), len(short), len(found)) == (1, 3, 3, 7)
    assert "contiguous" not in whole  # timed calls are
    for each in (thin, short):
        assert "contiguous" in each
        assert len({*each}) == 3
    assert {draw.values["dtype"] for draw in found} == {"bfloat16"}
    assert {draw.origin for draw in found} == {"near"}


def test_no_two_have_the_same_sizes_so_that_what_fails_fails_alone_too() -> None:
    found = near_cases(spec(ONE, dict(ONE, dtype="float32"), dict(rows=96, cols=300, dtype="float32")), seed=1, cap=None)
    sizes_met = [(draw.values["rows"], draw.values["cols"]) for draw in found]
    assert len({*sizes_met}) == len(sizes_met) > 10


def test_what_the_domain_does_not_reach_is_brought_into_it() -> None:
    found = near_cases(spec(dict(rows=4096, cols=700, dtype="float64")), seed=1, cap=None)
    assert max(draw.values["rows"] for draw in found) == 300
    assert {draw.values["dtype"] for draw in found} == {"float32"}
    listed = spec(dict(rows=96, cols=700), vary=dict(rows=sizes(0, 300), cols=choices(64, 128)), choices={})
    given = replace(spec_of(total, lambda rows, cols: (Tensor(rows, cols),), vary=listed.vary), cases=listed.cases)
    assert {draw.values["cols"] for draw in near_cases(given, seed=1, cap=None)} == {64}


def test_all_together_stay_within_their_elements_the_cheapest_first() -> None:
    cases = [dict(rows=rows, cols=cols, dtype="float32") for rows in range(100, 300, 10) for cols in range(100, 2000, 100)]
    made = spec(*cases)
    found = near_cases(made, seed=1, cap=None)
    costs = [elements(made, draw.values) for draw in found]
    assert 0 < len(found) <= MOST
    assert sum(costs) <= NEAR_ELEMENTS
    assert costs == sorted(costs)


def test_an_interpreter_gets_no_size_that_it_would_take_minutes_for() -> None:
    found = near_cases(spec(ONE, dict(rows=96, cols=96, dtype="float32")), seed=1, cap=1 << 13)
    assert found
    assert all(max(draw.values["rows"], draw.values["cols"]) <= INTERPRETED_SIZE for draw in found)
    assert all(draw.values["rows"] * draw.values["cols"] <= 1 << 13 for draw in found)


def test_they_follow_from_the_secret_seed_alone() -> None:
    made = spec(ONE)
    assert near_cases(made, seed=1, cap=None) == near_cases(made, seed=1, cap=None)
    assert near_cases(made, seed=1, cap=None) != near_cases(made, seed=2, cap=None)


def test_a_spec_without_cases_or_without_sizes_has_none() -> None:
    assert near_cases(spec(), seed=1, cap=None) == []
    assert near_cases(spec(ONE, vary={}), seed=1, cap=None) == []


@pytest.mark.parametrize(("name", "status"), [("far", Status.PASSED), ("blind", Status.INCORRECT_NUMERICAL)])
def test_a_path_for_a_cases_sizes_that_takes_every_input_for_contiguous_is_found(
    workers: Workers, cpu: CPU, name: str, status: Status
) -> None:
    made = spec(dict(ONE, dtype="float32"), choices={"dtype": ("float32",)}, allow=("sum",))
    candidate = Candidate(name=name, language="cpp", entry=made.name, callable=f"near_kernels:{name}")
    outcome = check(workers, made, candidate, make_plan(made, seed=3), target=cpu, deadline_s=30.0)
    assert outcome.status is status, outcome.message
    assert "cols=700" in outcome.message or status is Status.PASSED
