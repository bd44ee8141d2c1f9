"""A whole batch compared at once: it passes what comparing one by one passes, and settles nothing else."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from example_specs import draw, spec_of, square, vector

from kevolve.evaluate import sheet
from kevolve.evaluate.arena import Filler, Outputs, read_outputs
from kevolve.evaluate.compare import compare
from kevolve.evaluate.oracle import Expected, expect
from kevolve.evaluate.sheet import Sheet, sheet_of
from kevolve.spec.comparators import quantised

SPEC = spec_of(square, vector)
SHAPES = [(3,), (2, 5), (0, 4), (1,), ()]


def _inputs() -> list[torch.Tensor]:
    torch.manual_seed(3)
    floating = [torch.randn(shape).to(dtype) for dtype in (torch.float32, torch.float16) for shape in SHAPES]
    return [*floating, torch.arange(6), torch.arange(3) % 2 == 0]


def _expected() -> list[Expected]:
    return [expect(SPEC, draw(), (x,)) for x in _inputs()]


def _right() -> list[torch.Tensor]:
    return [square(x) for x in _inputs()]


@pytest.fixture
def arena() -> Iterator[Outputs]:
    with Outputs() as made:
        yield made


def _put(arena: Outputs, outputs: Sequence[torch.Tensor]) -> list[list[Any]]:
    filler = Filler(arena.fd, lambda size: os.ftruncate(arena.fd, size))
    return [[filler.put(output)] for output in outputs]


def _sheet(expected: Sequence[Expected] | None = None, **compare_by: Any) -> tuple[Sheet, list[Expected]]:
    made = sheet_of(_expected() if expected is None else expected, compare_by.get("compare", {}))
    assert made is not None
    return made


@pytest.fixture(params=[sheet._STRIP, 3])
def strip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All outputs of a dtype in one strip, and each cut into pieces."""
    monkeypatch.setattr(sheet, "_STRIP", request.param)


@pytest.mark.usefixtures("strip")
def test_right_outputs_of_every_dtype_and_shape_leave_nothing_open(arena: Outputs) -> None:
    made, _ = _sheet()
    assert made.unsettled(arena, _put(arena, _right())) == []


@pytest.mark.usefixtures("strip")
@pytest.mark.parametrize("number", [number for number, x in enumerate(_inputs()) if x.numel()])
def test_one_wrong_element_of_any_output_leaves_all_open(arena: Outputs, number: int) -> None:
    outputs = _right()
    made, expected = _sheet()
    for at in range(outputs[number].numel()):
        outputs[number] = _right()[number]
        wrong = outputs[number].view(-1)[at : at + 1]
        wrong.copy_(~wrong if wrong.dtype is torch.bool else wrong + 1)
        assert made.unsettled(arena, _put(arena, outputs)) is None
    assert not compare(SPEC, expected[number], (outputs[number],), (_inputs()[number],)).passed


def test_what_is_not_finite_leaves_all_open(arena: Outputs) -> None:
    outputs = _right()
    outputs[1][1, 2] = torch.nan
    assert _sheet()[0].unsettled(arena, _put(arena, outputs)) is None


def test_other_strides_leave_only_their_own_draw_open(arena: Outputs) -> None:
    outputs = _right()
    outputs[1] = outputs[1].T.contiguous().T
    assert _sheet()[0].unsettled(arena, _put(arena, outputs)) == [1]


@pytest.mark.parametrize(
    "change",
    [
        lambda metas: metas.pop(),
        lambda metas: metas[2].pop(),
        lambda metas: metas[1][0].__setitem__(0, "float16"),
        lambda metas: metas[1][0].__setitem__(1, [10]),
        lambda metas: metas[1][0].__setitem__(3, metas[0][0][3]),
        lambda metas: metas.__setitem__(0, {"no": "list"}),
        lambda metas: metas[0].__setitem__(0, None),
    ],
)
def test_outputs_described_otherwise_leave_all_open(arena: Outputs, change: Any) -> None:
    metas = copy.deepcopy(_put(arena, _right()))
    change(metas)
    assert _sheet()[0].unsettled(arena, metas) is None
    assert _sheet()[0].unsettled(arena, "nothing of the kind") is None


def test_an_arena_that_is_too_small_leaves_all_open(arena: Outputs) -> None:
    metas = _put(arena, _right())
    with Outputs(bytes=64) as small:
        assert _sheet()[0].unsettled(small, metas) is None


def test_what_needs_a_look_of_its_own_stays_open(arena: Outputs) -> None:
    large, unreliable, infinite = torch.randn(1 << 17), torch.randn(4), torch.full((2,), 1e30)
    expected = [expect(SPEC, draw(), (x,)) for x in (large, unreliable, infinite.half())]
    (output,) = expected[1].outputs
    expected[1] = replace(expected[1], outputs=(replace(output, unreliable="a reason"),))
    sheet, _ = _sheet(expected)
    assert list(sheet.rest) == [0, 2]
    metas = _put(arena, [square(large), torch.zeros(4), square(infinite.half())])
    assert sheet.unsettled(arena, metas) == [0, 2]  # of the second, dtype and shape are judged, and no values


def test_a_comparator_has_every_draw_compared(arena: Outputs) -> None:
    sheet, _ = _sheet(compare={0: quantised(steps=1)})
    assert sheet.unsettled(arena, _put(arena, _right())) == list(range(len(_inputs())))


def test_what_is_expected_stays_the_same_in_the_sheets_memory() -> None:
    before = _expected()
    _, after = _sheet(before)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.outputs[0].oracle, new.outputs[0].oracle)
        assert (old.outputs[0].allowed is None) == (new.outputs[0].allowed is None)


def test_the_metas_foreseen_are_those_of_contiguous_outputs(arena: Outputs) -> None:
    metas = _put(arena, _right())
    assert _sheet()[0].metas == metas
    assert [output.tolist() for (output,) in read_outputs(arena, metas)] == [output.tolist() for output in _right()]
