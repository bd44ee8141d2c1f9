from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kevolve.evaluate.floor import at, case_work, floor_us, fraction_of_light, suspect, touched_bytes
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec, Work
from kevolve.targets import Peaks

CURVE = ((1e3, 100e9), (1e6, 50e9), (1e9, 10e9))
PEAKS = Peaks(bandwidth=CURVE, operations={"float32": 1e12}, random_accesses=((1e3, 1e9), (1e9, 1e8)), empty_call_us=0.5, margin=1.25)
CASE = Case(id="c", values={"rows": 4})


def _spec(work: object = None) -> Spec:
    return Spec(
        name="f",
        nodeid="t.py::test_f",
        folder=Path(),
        describe=lambda rows: (Tensor(rows, 8), Tensor(1000, 8)),
        reference=Reference(module="m", qualname="f", file=Path("m.py"), inputs=("x", "table")),
        cases=(CASE,),
        vary={},
        choices={},
        hash="h",
        work=work,  # type: ignore[arg-type]
    )


def test_inputs_count_once_outputs_once_and_indexed_tables_not_at_all() -> None:
    inputs, outputs = (torch.zeros(4, 8), torch.zeros(1000, 8), 3), (torch.zeros(4, dtype=torch.float64),)
    assert case_work(_spec(), CASE, inputs, outputs).bytes == 4 * 8 * 4 + 1000 * 8 * 4 + 4 * 8
    assert case_work(_spec(), CASE, inputs, outputs, unread=frozenset({"table"})).bytes == 4 * 8 * 4 + 4 * 8


def test_a_cache_of_which_some_slots_are_written_counts_nothing_and_what_is_written_whole_counts_twice() -> None:
    spec = replace(_spec(), mutates=("x", "table"))
    x, table, other = torch.zeros(4, 8), torch.zeros(1000, 8), torch.zeros(5)
    found = case_work(spec, CASE, (x, table, other), (torch.zeros(3), x, table), unread=frozenset({"table"}))
    assert found.bytes == 4 * (32 + 5 + 3 + 32)


def test_gradients_of_the_outputs_after_the_inputs_count_too() -> None:
    inputs = (torch.zeros(4, 8), torch.zeros(2, 2), torch.zeros(5))
    assert case_work(_spec(), CASE, inputs, ()).bytes == 4 * (32 + 4 + 5)


def test_a_broadcast_axis_counts_once() -> None:
    assert touched_bytes(torch.zeros(1, 8).expand(1000, 8)) == 32
    assert touched_bytes(torch.zeros(0, 8)) == 0
    assert touched_bytes(7) == 0


def test_what_the_spec_says_of_its_work_wins() -> None:
    work = Work(bytes=10.0, operations=5.0)
    assert case_work(_spec(lambda rows: work), CASE, (torch.zeros(9),), ()) is work


@pytest.mark.parametrize(
    "work, expected",
    [
        (Work(bytes=1e6), 1e6 / 50e9 * 1e6),
        (Work(bytes=1e6, operations=1e9), 1e9 / 1e12 * 1e6),
        (Work(bytes=1e3, random_accesses=1e6), 1e6 / 1e9 * 1e6),
        (Work(bytes=1.0), 0.5),
        (Work(bytes=0.0), 0.5),
    ],
)
def test_the_floor_is_the_greatest_of_its_parts(work: Work, expected: float) -> None:
    assert floor_us(work, PEAKS) == pytest.approx(expected)


@pytest.mark.parametrize(
    "work, peaks",
    [
        (Work(bytes=1.0), Peaks()),
        (Work(bytes=1.0, operations=1.0, dtype="float64"), PEAKS),
        (Work(bytes=1.0, random_accesses=1.0), Peaks(bandwidth=CURVE, empty_call_us=0.1)),
        (Work(bytes=1.0), Peaks(bandwidth=CURVE)),
    ],
)
def test_a_peak_that_was_not_measured_leaves_the_floor_unknown(work: Work, peaks: Peaks) -> None:
    assert floor_us(work, peaks) is None


@given(st.floats(min_value=1, max_value=1e12))
def test_between_measured_footprints_the_rate_lies_between_the_measured_rates(footprint: float) -> None:
    found = at(CURVE, footprint)
    assert found is not None
    assert 10e9 <= found <= 100e9


def test_the_measured_points_themselves_are_kept_and_the_ends_are_held() -> None:
    assert [at(CURVE, size) for size in (1.0, 1e3, 1e6, 1e9, 1e12)] == [100e9, 100e9, 50e9, 10e9, 10e9]
    assert at((), 1.0) is None


def test_only_what_beats_the_floor_by_more_than_the_margin_is_suspect() -> None:
    assert suspect(8.1, 10.0, PEAKS) is None
    assert suspect(1.0, None, PEAKS) is None
    message = suspect(7.9, 10.0, PEAKS)
    assert message is not None
    assert message.startswith("7.90 us is faster than the speed of light: 10.00 us from this device's measured peaks (margin 1.25)")


def test_the_fraction_of_the_speed_of_light_is_floor_over_time() -> None:
    assert fraction_of_light(5.0, 10.0) == 0.5
    assert fraction_of_light(None, 10.0) is None
