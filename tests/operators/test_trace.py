"""Traces: what a reference computes, however it is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from kevolve.operators.trace import small_values, trace_function, trace_reference
from kevolve.spec.domain import choices, sizes
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec

X, W, B = torch.randn(3, 5), torch.randn(5), torch.randn(5)


def same(first: Any, second: Any, *values: Any) -> bool:
    return trace_function(first, values).outputs == trace_function(second, values).outputs


def spec(function: Any, describe: Any, vary: dict[str, Any], *cases: dict[str, Any], inputs: tuple[str, ...] = ("x",)) -> Spec:
    reference = Reference(module=__name__, qualname=function.__name__, file=Path(__file__), inputs=inputs)
    named = tuple(Case(id=str(number), values=case) for number, case in enumerate(cases))
    common = dict(name="s", nodeid="test_s.py::test_s", folder=Path(), choices={}, hash="h")
    return Spec(describe=describe, reference=reference, cases=named, vary=vary, **common)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda x: x.float().pow(2).mean(-1, keepdim=True), lambda x: ((x * x).sum(1) / x.shape[1])[:, None]),
        (lambda x: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(), lambda x: torch.rsqrt(1e-6 + (x * x).mean(1, True)) * x),
        (lambda x: x.softmax(-1), lambda x: (x - x.amax(-1, True)).exp() / (x - x.max(-1, keepdim=True).values).exp().sum(-1, True)),
        (lambda x: x.sigmoid() * x, lambda x: functional.silu(x)),
        (lambda x: x.double().to(torch.float32).detach().clone(), lambda x: x),
        (lambda x: -(x - 1), lambda x: 1 - x),
        (lambda x: x > 0, lambda x: torch.lt(torch.zeros_like(x), x)),
        (lambda x: x.var(-1, unbiased=False), lambda x: (x - x.mean(-1, True)).square().mean(-1)),
        (lambda x: x.T.contiguous(), lambda x: x.transpose(-2, -1)),
        (lambda x: x.T.T, lambda x: x),
        (lambda x: torch.bucketize(x, W.sort().values), lambda x: torch.searchsorted(W.sort().values, x)),
    ],
)
def test_one_formula_written_in_two_ways_is_one_trace(first, second):
    assert same(first, second, X)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda x: x.sum(0), lambda x: x.sum(1)),
        (lambda x: x + 1e-6, lambda x: x + 1e-5),
        (lambda x: x.softmax(0), lambda x: x.softmax(1)),
        (lambda x: x > 0, lambda x: x >= 0),
        (lambda x: x.amax(1), lambda x: x.amin(1)),
        (lambda x: x - W, lambda x: W - x),
        (lambda x: (x, x + 1), lambda x: (x + 1, x)),
        (lambda x: x.to(torch.int64).float(), lambda x: x),
        (lambda x: x.var(-1), lambda x: x.var(-1, unbiased=False)),
    ],
)
def test_different_formulas_are_different_traces(first, second):
    assert not same(first, second, X)


def test_layer_norm_is_its_formula():
    def written(x, w, b):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * w + b

    assert same(lambda x, w, b: functional.layer_norm(x, (5,), w, b, 1e-5), written, X, W, B)


def test_inputs_are_told_apart_by_their_place():
    def minus(x, y):
        return x - y

    values = (X, torch.randn(3, 5))
    plain, swapped = trace_function(minus, values), trace_function(minus, values, order=(1, 0))
    assert plain.outputs != swapped.outputs
    assert swapped.outputs == trace_function(lambda x, y: y - x, values).outputs


def test_constants_are_collected_in_order_and_can_be_replaced():
    def scaled(x):
        return (x + 0.25) * 1.5

    assert trace_function(scaled, [X]).constants == (0.25, 1.5)
    replaced = trace_function(scaled, [X], substitute={0.25: 0.125})
    assert replaced.outputs == trace_function(lambda x: (x + 0.125) * 1.5, [X]).outputs
    assert torch.equal(replaced.results[0], (X + 0.125) * 1.5)


def test_loops_items_and_masks_are_traced():
    def ragged(x, lengths):
        kept = [row[: int(length)] for row, length in zip(x, lengths, strict=True)]
        return torch.cat(kept)[torch.cat(kept) > 0].repeat_interleave(2)

    trace = trace_function(ragged, (X, torch.tensor([1, 3, 2])), names=("x", "lengths"))
    assert trace.problem is None
    assert trace.outputs == trace_function(ragged, (X, torch.tensor([1, 3, 2]))).outputs
    assert trace.indexed_inputs == ("x",)


def test_writes_into_views_are_followed():
    def in_place(x):
        out = torch.empty_like(x)
        for row in range(x.shape[0]):
            out[row] = x[row] + row
        return out

    def other(x):
        out = torch.empty_like(x)
        for row in range(x.shape[0]):
            out[row] = x[row] - row
        return out

    assert same(in_place, in_place, X)
    assert not same(in_place, other, X)


def test_an_input_that_is_written_to_is_an_output():
    def silent(x):
        return x * 2

    def writing(x):
        doubled = x * 2
        x.add_(1)
        return doubled

    kept = X.clone()
    trace = trace_function(writing, [X])
    assert torch.equal(X, kept)
    assert trace.outputs == trace_function(lambda x: (x * 2, x + 1), [X]).outputs
    assert trace.outputs != trace_function(silent, [X]).outputs


def test_a_shared_part_is_looked_at_once():
    def doubling(x):
        for _ in range(200):
            x = (x + W).exp() * x.sin()
        return x

    assert trace_function(doubling, [X]).operators > 600  # looked at anew each time, this would not end


@pytest.mark.parametrize(
    ("function", "indexed"),
    [
        (lambda x, t: x[t], ("x",)),
        (lambda x, t: functional.embedding(t, x), ("x",)),
        (lambda x, t: x.gather(0, t[:, None]), ("x",)),
        (lambda x, t: torch.bucketize(t.float(), x[0]), ("x",)),
        (lambda x, t: x[:2] * 2, ("x", "t")),
        (lambda x, t: x[:2].sum() + x[2:].sum() + t, ()),
        (lambda x, t: x[t] + x.sum(), ()),
        (lambda x, t: x.index_copy_(0, t, torch.zeros(2, x.shape[1])), ("x",)),
        (lambda x, t: x.index_put_((t,), torch.zeros(2, x.shape[1])), ("x",)),
        (lambda x, t: x.mul_(2) + t.sum(), ()),
    ],
)
def test_inputs_read_in_part_are_named(function, indexed):
    assert trace_function(function, (X, torch.tensor([0, 2])), names=("x", "t")).indexed_inputs == indexed


def rms(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def picky(x):
    if x.shape[-1] % 8:
        raise ValueError("cols must be a multiple of 8")
    return x * 2


def refuses(x):
    raise RuntimeError("never")


def test_a_reference_is_traced_at_small_distinct_sizes():
    cases = ({"rows": 8192, "cols": 4096, "dtype": "bfloat16"}, {"rows": 1024, "cols": 4096, "dtype": "float32"})
    given = spec(rms, lambda rows, cols, dtype: (Tensor(rows, cols, dtype=dtype),), dict(rows=sizes(0, 99), cols=sizes(1, 99)), *cases)
    trace = trace_reference(given)
    assert trace.problem is None
    assert (tuple(trace.values[0].shape), trace.values[0].dtype, trace.inputs) == ((3, 5), torch.float32, ("x",))
    assert trace.constants == (1e-6,)
    assert "reduce_sum(product(input(0)^2), 5)*0.2" in trace.text()


def test_a_reference_that_wants_round_sizes_is_given_them():
    given = spec(picky, lambda rows, cols: (Tensor(rows, cols),), dict(rows=sizes(0, 99), cols=sizes(8, 99)), dict(rows=64, cols=64))
    trace = trace_reference(given)
    assert trace.problem is None
    assert tuple(trace.values[0].shape) == (8, 16)


def test_a_reference_that_cannot_be_traced_says_why():
    trace = trace_reference(spec(refuses, lambda rows: (Tensor(rows),), dict(rows=sizes(1, 9)), dict(rows=4)))
    assert trace.problem == "the reference of s cannot be traced at {'rows': 4}: RuntimeError: never"
    assert trace.outputs == ()


def test_choices_take_a_value_that_does_something():
    given = spec(
        rms,
        lambda **_: (),
        dict(rows=sizes(4, 4), events=choices(0, 1, 2, 100), mode=choices("a", "b")),
        dict(rows=4, events=100, mode="b"),
    )
    assert next(iter(small_values(given))) == {"rows": 4, "events": 2, "mode": "a"}


def test_the_module_of_traces_loads_no_torch():
    import subprocess

    modules = "kevolve.operators, kevolve.operators.samples, kevolve.operators.tuning, kevolve.operators.trace"
    script = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
