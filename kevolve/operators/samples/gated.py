"""Gated activations: ``activation(gate) * up`` (Shazeer 2020)."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _swiglu(gate: Any, up: Any) -> Any:
    from torch.nn.functional import silu

    return silu(gate) * up


def _swiglu_by_sigmoid(gate: Any, up: Any) -> Any:
    return gate * gate.sigmoid() * up


def _swiglu_by_exp(gate: Any, up: Any) -> Any:
    return gate / (1 + (-gate).exp()) * up


def _geglu_tanh(gate: Any, up: Any) -> Any:
    from torch.nn.functional import gelu

    return gelu(gate, approximate="tanh") * up


_TRITON_KNOBS = {"tile": (4096, 2048, 8192), "elements_per_thread": (32, 16, 8)}
_KNOBS = {"chunk": (2048, 1024, 4096), "grain": (16384, 4096, 65536)}
_IDEA = "one pass in chunks that fit the first-level cache; a polynomial exponential that vectorises"

SAMPLES = (
    Sample(
        name="swiglu",
        idea=_IDEA,
        patterns=(_swiglu, _swiglu_by_sigmoid, _swiglu_by_exp),
        example=lambda: (Tensor(6, 10), Tensor(6, 10)),
        templates={"cpp": "swiglu.cpp.jinja", "triton": "swiglu.py.jinja"},
        knobs={"cpp": _KNOBS, "triton": _TRITON_KNOBS},
    ),
    Sample(
        name="geglu_tanh",
        idea=_IDEA,
        patterns=(_geglu_tanh,),
        example=lambda: (Tensor(6, 10), Tensor(6, 10)),
        templates={"cpp": "geglu_tanh.cpp.jinja", "triton": "geglu_tanh.py.jinja"},
        knobs={"cpp": _KNOBS, "triton": _TRITON_KNOBS},
    ),
)
