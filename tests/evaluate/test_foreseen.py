"""What is said of cases before anything ran on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kevolve import Work
from kevolve.evaluate.floor import case_work
from kevolve.evaluate.foreseen import foreseen_work, known_cases
from kevolve.evaluate.materialise import grad_outputs, materialise
from kevolve.evaluate.oracle import answers, forward
from kevolve.spec.inputs import Jagged, Tensor
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets import Peaks
from tests.evaluate.example_specs import add_to, spec_of, square, total

PEAKS = Peaks(bandwidth=((1e6, 1e12),), operations={"float32": 1e13, "float16": 1e14}, empty_call_us=1.0)
NONE: frozenset[str] = frozenset()


def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x @ y


def peeking(x: torch.Tensor) -> torch.Tensor:
    return x if x.sum() > 0 else -x


def case(**values: Any) -> Case:
    return Case(id="one", values=values)


def rows(n: int) -> Any:
    return (Tensor(n, 64),)


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(square, rows),
        spec_of(total, rows, grad=("x",)),
        spec_of(add_to, lambda n: (Tensor(n, 64), Tensor(n, 64)), mutates=("state",)),
    ],
    ids=["forward", "gradients", "written in place"],
)
def test_the_bytes_foreseen_are_those_of_a_real_call(spec: Spec) -> None:
    one = case(n=48)
    draw = Draw(values=one.values, seed=1)
    inputs = materialise(spec, draw)
    grads = grad_outputs(spec, draw, forward(spec, draw, inputs)) if spec.grad else ()
    real = case_work(spec, one, (*inputs, *grads), answers(spec, draw, inputs))
    foreseen = foreseen_work(spec, one, unread=NONE)
    assert foreseen is not None
    assert foreseen.bytes == real.bytes > 0


def test_bytes_are_named_as_the_bound_where_the_references_products_would_take_less() -> None:
    spec = spec_of(product, lambda n, k: (Tensor(n, k, dtype="float16"), Tensor(k, n, dtype="float16")))
    assert known_cases(spec, [case(n=2048, k=16)], PEAKS, unread=NONE)["one"] == {
        "floor_us": pytest.approx((2 * 2048 * 16 + 2048 * 2048) * 2 / 1e6),
        "bound": "memory",
    }
    assert known_cases(spec, [case(n=2048, k=2048)], PEAKS, unread=NONE)["one"] == {"floor_us": pytest.approx(3 * 2048 * 2048 * 2 / 1e6)}


def test_what_the_spec_says_of_its_work_counts_whole() -> None:
    spec = spec_of(square, rows, work=lambda n: Work(bytes=1e6, operations=1e9))
    assert known_cases(spec, [case(n=48)], PEAKS, unread=NONE)["one"] == {"floor_us": pytest.approx(100.0), "bound": "compute"}


def test_inputs_that_are_read_in_part_count_nothing() -> None:
    spec = spec_of(product, lambda n: (Tensor(n, 8), Tensor(8, n)))
    work = foreseen_work(spec, case(n=32), unread=frozenset({"x"}))
    assert work is not None
    assert work.bytes == (8 * 32 + 32 * 32) * 4


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(square, lambda n: lambda values, generator: torch.rand(values["n"], generator=generator)),
        spec_of(total, lambda n: (Jagged(rows=n, max_length=5),)),
        spec_of(peeking, rows),
    ],
    ids=["a function makes the inputs", "lengths are drawn", "the reference looks at values"],
)
def test_where_contents_decide_shapes_nothing_is_known(spec: Spec) -> None:
    assert known_cases(spec, [case(n=8)], PEAKS, unread=NONE) == {"one": {}}
