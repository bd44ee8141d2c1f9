"""Allowances: the defaults, a spec's own, and how bad a figure beyond one is."""

from __future__ import annotations

import math

import pytest

from kevolve.gate.allowance import DEFAULTS, allowance
from kevolve.gate.figures import excess
from kevolve.report.values import Figure
from kevolve.spec.declaration import DeclarationError, build_spec, kernel
from kevolve.spec.figures import FIGURES, allowance_problems
from kevolve.spec.inputs import Tensor
from kevolve.spec.spec import Case
from reference_ops import norms

CASES = [Case(id="small", values=dict(rows=4))]


def test_every_figure_that_a_spec_may_name_has_a_default_with_a_reason() -> None:
    assert sorted(DEFAULTS) == sorted(FIGURES)
    assert all(default.reason for default in DEFAULTS.values())


@pytest.mark.parametrize(
    "name, old, passes, fails",
    [
        ("registers", 32, 40, 41),  # a step of eight
        ("registers", 200, 220, 221),  # a tenth
        ("spills", 0, 0, 4),
        ("occupancy", 0.5, 0.5, 0.4375),
        ("load_width", 16, 16, 8),
        ("instructions", 1000, 1150, 1151),
        ("bytes_loaded", 100_000, 102_000, 102_001),
        ("matrix_instructions", 64, 1, 0),
        ("float64_instructions", 0, 0, 1),
    ],
)
def test_a_figure_at_its_allowance_passes_and_one_step_further_fails(name: str, old: float, passes: float, fails: float) -> None:
    allowed = allowance(name, {})
    good, bad = (
        Figure(name=name, where="sm90", old=old, new=new, allowed=round(allowed.bound(old), 6), least=allowed.least)
        for new in (passes, fails)
    )
    assert (good.beyond, bad.beyond) == (False, True)
    assert excess(good) <= 1 < excess(bad)


def test_a_spec_s_own_factor_takes_the_default_s_place() -> None:
    assert allowance("registers", {"registers": 1.5}).bound(32) == 48
    assert allowance("occupancy", {"occupancy": 0.5}).bound(0.5) == 0.25


def test_what_was_not_allowed_at_all_is_infinitely_bad() -> None:
    assert excess(Figure(name="spills", where="sm90", old=0, new=4, allowed=0)) == math.inf
    assert excess(Figure(name="compiles", where="sm90", old=1, new=0, allowed=1, least=True)) == math.inf


def described(rows: int) -> Tensor:
    return Tensor(rows, 8), Tensor(8)  # type: ignore[return-value]


def test_a_declared_allowance_is_part_of_the_spec() -> None:
    declared = kernel(norms.rms_norm, allowance={"registers": 1.5})(described)
    assert build_spec(declared, nodeid="test_it.py::test_it", cases=CASES).allowance == {"registers": 1.5}


def test_a_wrong_allowance_is_an_error_that_says_what_was_expected() -> None:
    declared = kernel(norms.rms_norm, allowance={"register": 1.5, "spills": -1})(described)
    with pytest.raises(DeclarationError) as raised:
        build_spec(declared, nodeid="test_it.py::test_it", cases=CASES)
    first, second = raised.value.problems
    assert first.startswith("allowance: expected one of registers, scalar_registers, spills, ")
    assert first.endswith(", got 'register'")
    assert second == "allowance 'spills': expected a positive number that the old figure is multiplied by, got -1"


def test_an_allowance_that_is_no_mapping_is_refused() -> None:
    assert list(allowance_problems(1.5)) == ["allowance: expected a mapping such as {'registers': 1.5}, got 1.5"]
