"""Samples are found by what a reference computes, whatever it and its inputs are called."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from kevolve.operators import Context
from kevolve.operators.matching import fits
from kevolve.operators.samples import Samples, families, settings
from kevolve.operators.samples.library import SAMPLES
from kevolve.operators.samples.sample import Sample
from kevolve.operators.trace import Trace, trace_function, untraceable
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Step
from kevolve.spec.inputs import Tensor

X, Y, W = torch.randn(3, 5), torch.randn(3, 5), torch.randn(5)
EPS = 3e-5


def found(function: Any, *values: Any) -> list[tuple[str, tuple[int, ...], dict[str, float], bool]]:
    return [(fit.sample.name, fit.order, dict(fit.constants), fit.exact) for fit in fits(trace_function(function, values), SAMPLES)]


def gradients(dy, x, weight):
    """Of an RMSNorm, for its input and its weight."""
    scale = torch.rsqrt((x * x).mean(1, True) + EPS)
    normalised, gradient = x * scale, weight * dy
    return scale * (gradient - normalised * (normalised * gradient).mean(1, True)), (normalised * dy).sum(0)


def test_a_formula_is_matched_and_its_constant_bound():
    assert found(gradients, X, Y, W) == [("rms_norm_backward", (0, 1, 2), {"eps": EPS}, True)]


def test_inputs_may_come_in_another_order():
    assert found(lambda w, x, dy: gradients(dy, x, w), W, X, Y) == [("rms_norm_backward", (2, 1, 0), {"eps": EPS}, True)]
    products = [torch.randn(2, 3, size) for size in (4, 5)]
    assert found(lambda ranks, features: features @ (features.mT @ ranks), products[1], products[0]) == [
        ("factorisation_machine", (1, 0), {}, True)
    ]


def test_a_formula_written_in_a_way_no_pattern_has_is_matched_by_its_values():
    def odd(x):
        return torch.exp(torch.log(torch.exp(x)) - torch.logsumexp(x, -1, keepdim=True))

    assert found(odd, X) == [("softmax", (0,), {}, False)]


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (lambda x, w: x * w, (X, W)),
        (lambda x, w: functional.rms_norm(x, (5,), w, 1e-6), (X, W)),
        (lambda x, w: (x.softmax(-1), w), (X, W)),
        (lambda x, w: x.softmax(0) * w, (X, W)),
        (lambda x: x.softmax(0), (X,)),
        (lambda x: x.softmax(-1) + 1, (X,)),
        (lambda x: x.softmax(-1).sum(), (X,)),
        (lambda x: x.abs().softmax(-1), (X,)),
        (lambda dy, x, w: gradients(dy, x.abs(), w), (X, Y, W)),
        (lambda dy, x, w: gradients(dy, x, w)[0], (X, Y, W)),
        (lambda dy, x, w: gradients(dy, x, w)[::-1], (X, Y, W)),
    ],
)
def test_what_no_sample_computes_is_not_matched(function, values):
    assert found(function, *values) == []


def test_a_reference_without_a_trace_has_no_samples():
    assert fits(untraceable("why"), SAMPLES) == ()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_sample_matches_its_own_patterns(sample):
    """The first pattern as a reference of its own, on the example's inputs: sentinels are its constants."""
    from kevolve.evaluate.materialise import materialise
    from kevolve.spec.spec import Draw

    described = SimpleNamespace(describe=lambda: sample.example(), reference=SimpleNamespace(inputs=()), mutates=())
    values = materialise(described, Draw(values={}, seed=3))
    for pattern in sample.patterns:
        names = [fit.sample.name for fit in fits(trace_function(pattern, values), SAMPLES)]
        assert sample.name in names, pattern.__name__


def context(trace: Trace, nodes: tuple[Node, ...] = (), language: str = "cpp", allow: tuple[str, ...] = ()) -> Context:
    spec = SimpleNamespace(name="my_norm", allow=allow, grad=(), reference=SimpleNamespace(inputs=trace.inputs))
    return Context(spec=spec, trace=trace, target="cpu", language=language, graph=Graph(nodes), sources={}, random=random.Random(0))


def backward(weight, x, dy):
    return gradients(dy, x, weight)


def norm_trace() -> Trace:
    return trace_function(backward, (W, Y, X), names=("layer.weight", "x", "dy"))


def test_a_reference_that_keeps_an_axis_is_not_served_by_a_sample_that_drops_it():
    """The graphs do not tell a keepdim; in one process, so that neither is remembered for the other."""

    def kept(weight, x, dy):
        dx, dweight = gradients(dy, x, weight)
        return dx, dweight[None]

    def summed(weight, x, dy):
        normalised = x * torch.rsqrt((x * x).mean(1, True) + EPS)
        return gradients(dy, x, weight)[0], (normalised * dy).sum(0, keepdim=True)

    for function, served in ((backward, ["rms_norm_backward"]), (summed, []), (kept, [])):
        trace = trace_function(function, (W, Y, X), names=("layer.weight", "x", "dy"))
        assert list(families(context(trace))) == served


def test_a_sample_that_calls_the_library_serves_only_specs_that_allow_it():
    sample = next(sample for sample in SAMPLES if sample.name == "sdpa_mlp")
    trace = trace_function(sample.patterns[0], tuple(torch.randn(described.shape) for described in sample.example()))
    assert [list(families(context(trace, language="triton", allow=allow))) for allow in ((), ("aten::mm",))] == [[], ["sdpa_mlp"]]


def test_samples_drafts_the_default_first_and_then_settings_far_from_it():
    given = context(norm_trace())
    drafts = Samples().propose(given, Step(parents=()), 9)
    knobs = families(given)["rms_norm_backward"].knobs
    assert [draft.knobs for draft in drafts] == list(settings(knobs, 2))
    assert drafts[0].knobs == {name: values[0] for name, values in knobs.items()}
    assert all(drafts[1].knobs[name] != drafts[0].knobs[name] for name in knobs)
    assert {(draft.family, draft.operator, draft.language, draft.parents) for draft in drafts} == {
        ("rms_norm_backward", "samples", "cpp", ())
    }
    assert "my_norm" in drafts[0].source
    assert "layer_weight" in drafts[0].source
    assert len({draft.source for draft in drafts}) == 3


def test_samples_says_nothing_twice_and_nothing_for_an_expansion():
    trace = norm_trace()
    first, *rest = Samples().propose(context(trace), Step(parents=()), 9)
    node = SimpleNamespace(proposal=first, works=True)
    assert Samples().propose(context(trace, (node,)), Step(parents=()), 9) == rest
    older = SimpleNamespace(proposal=replace(first, source="// the template as it was"), works=True)
    assert Samples().propose(context(trace, (older,)), Step(parents=()), 9) == [first, *rest]
    assert Samples().propose(context(trace), Step(parents=(1,)), 9) == []
    assert len(Samples().propose(context(trace), Step(parents=()), 1)) == 1


def test_a_language_without_a_template_has_no_drafts():
    trace = norm_trace()
    assert Samples().propose(context(trace, language="fortran"), Step(parents=()), 9) == []


def test_a_sample_with_several_constants_binds_each():
    def affine(x):
        return x.exp() * 0.3125 + 0.4375

    sample = Sample(
        name="affine",
        idea="",
        patterns=(affine,),
        example=lambda: (Tensor(4, 6),),
        constants={"scale": 0.3125, "shift": 0.4375},
        templates={"cpp": "none"},
    )
    (fit,) = fits(trace_function(lambda x: 0.75 + x.exp() * 2.5, [X]), (sample,))
    assert (fit.constants, fit.exact) == ({"scale": 2.5, "shift": 0.75}, True)


def test_a_proposal_is_a_plain_value():
    trace = norm_trace()
    (draft,) = Samples().propose(context(trace), Step(parents=(), memory="restart"), 1)
    assert isinstance(draft, Proposal)
    assert draft.memory == "restart"
    assert Path("my_norm").name in draft.source


def test_where_a_build_is_dear_the_default_alone_is_drafted():
    given = context(norm_trace(), language="triton")
    (draft,) = Samples().propose(given, Step(parents=()), 9)
    assert draft.knobs == families(given)["rms_norm_backward"].defaults()


def test_where_the_default_fails_two_settings_far_from_it_are_drafted():
    trace = norm_trace()
    (draft,) = Samples().propose(context(trace, language="triton"), Step(parents=()), 9)
    right, wrong = (SimpleNamespace(proposal=draft, works=works) for works in (True, False))
    assert Samples().propose(context(trace, (right,), "triton"), Step(parents=()), 9) == []
    others = Samples().propose(context(trace, (wrong,), "triton"), Step(parents=()), 9)
    assert len(others) == 2
    changed = [name for name, values in families(context(trace, language="triton"))["rms_norm_backward"].knobs.items() if len(values) > 1]
    assert all(other.knobs[name] != draft.knobs[name] for other in others[:1] for name in changed)
