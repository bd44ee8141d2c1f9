"""From a failing draw to the smallest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from example_specs import rms_norm_spec

from kevolve.evaluate.plan import make_plan
from kevolve.evaluate.shrink import shrink, simplify
from kevolve.spec.spec import Draw

BUGS: dict[str, Callable[[Draw], bool]] = {
    "tail": lambda draw: draw.values["cols"] % 64 == 37 and draw.values["cols"] > 1200,
    "transposed": lambda draw: draw.layout == "transposed" and draw.values["cols"] > 1,
    "bfloat16": lambda draw: draw.values["dtype"] == "bfloat16" and draw.values["rows"] * draw.values["cols"] > 4000,
}


def smallest(name: str, seed: int) -> Draw | None:
    spec, fails = rms_norm_spec(), BUGS[name]
    plan = make_plan(spec, seed=seed)
    failing = next((draw for draw in plan.draws if draw.origin == "drawn" and fails(draw)), None)
    if failing is None:
        return None
    return shrink(spec, failing, fails, seed=seed, cap=None, examples=plan.examples, may_go_on=lambda: True)


def test_hypothesis_shrinks_to_the_simplest_layout_that_fails() -> None:
    found = smallest("transposed", 1)
    assert found is not None
    assert dict(found.values) == {"cols": 2, "dtype": "float32", "rows": 0}
    assert (found.layout, found.distribution) == ("transposed", "normal")


def test_a_dtype_that_matters_is_kept_and_sizes_shrink() -> None:
    found = smallest("bfloat16", 1)
    assert found is not None
    assert found.values["dtype"] == "bfloat16"
    assert found.layout == "contiguous"
    assert 4000 < found.values["rows"] * found.values["cols"] < 4400


def test_a_tail_beyond_the_sweep_shrinks_to_its_first_size() -> None:
    # hypothesis takes constants from the modules that are loaded, so that which seeds meet the bug differs from run to run
    found = next(draw for draw in (smallest("tail", seed) for seed in count()) if draw is not None)
    assert found.values["cols"] == 1253


def test_a_swept_failure_is_simplified_without_hypothesis() -> None:
    spec = rms_norm_spec()
    failing = Draw(values=dict(rows=7, cols=1000, dtype="bfloat16"), seed=1, distribution="normal", layout="contiguous", origin="sweep")
    found = simplify(spec, failing, lambda draw: draw.values["cols"] == 1000 and draw.values["rows"] > 0)
    assert found == replace(failing, values=dict(rows=1, cols=1000, dtype="float32"))


@pytest.mark.parametrize("origin", ["sweep", "drawn"])
def test_it_stops_when_time_is_up_with_the_best_so_far(origin: str) -> None:
    failing = Draw(values=dict(rows=7, cols=1000, dtype="bfloat16"), seed=1, distribution="normal", layout="contiguous", origin=origin)
    found = shrink(rms_norm_spec(), failing, lambda draw: True, seed=1, cap=None, examples=10, may_go_on=lambda: False)
    assert found == failing
