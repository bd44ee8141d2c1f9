"""Kept counterexamples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from example_specs import rms_norm_spec

from kevolve.evaluate import counterexamples
from kevolve.spec.spec import Draw, Spec


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return replace(rms_norm_spec(), folder=tmp_path)


def draw(cols: int, **more: object) -> Draw:
    return Draw(values=dict(rows=1, cols=cols, dtype="float32", **more), seed=5, distribution="normal", origin="kept")


def test_a_draw_is_kept_beside_the_test_once_and_read_again(spec: Spec, tmp_path: Path) -> None:
    assert counterexamples.load(spec) == []
    assert counterexamples.save(spec, draw(37))
    assert not counterexamples.save(spec, draw(37))
    assert counterexamples.save(spec, draw(38))
    assert counterexamples.load(spec) == [draw(37), draw(38)]
    assert [path.name for path in (tmp_path / "kernels" / "rms_norm").iterdir()] == ["counterexamples.json"]


def test_the_file_reads_as_one_draw_a_line(spec: Spec) -> None:
    counterexamples.save(spec, draw(37))
    line = '    {"values":{"rows":1,"cols":37,"dtype":"float32"},"seed":5,"distribution":"normal"}'
    assert counterexamples.path(spec).read_text() == f'{{\n  "draws": [\n{line}\n  ]\n}}\n'


def test_draws_that_the_spec_has_outgrown_are_left_out(spec: Spec) -> None:
    for given in (draw(37), draw(9000), draw(5, extra=1), replace(draw(5), values=dict(rows=1, cols=2, dtype="int8"))):
        counterexamples.save(spec, given)
    assert counterexamples.load(spec) == [draw(37)]


def test_the_oldest_are_dropped_beyond_the_most(spec: Spec) -> None:
    for cols in range(1, counterexamples.MOST + 3):
        counterexamples.save(spec, draw(cols))
    assert [kept.values["cols"] for kept in counterexamples.load(spec)] == list(range(3, counterexamples.MOST + 3))


def test_a_broken_file_is_named(spec: Spec) -> None:
    counterexamples.save(spec, draw(1))
    counterexamples.path(spec).write_text("[]")
    with pytest.raises(ValueError, match=r'counterexamples.json: expected {"draws": '):
        counterexamples.load(spec)
