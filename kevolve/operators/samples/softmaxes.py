"""Softmax and log-softmax over the last axis."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _softmax(x: Any) -> Any:
    return x.softmax(-1)


def _softmax_by_exp(x: Any) -> Any:
    weights = (x - x.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def _softmax_by_max(x: Any) -> Any:
    weights = (x - x.max(-1, keepdim=True).values).exp()
    return weights / weights.sum(-1, keepdim=True)


def _log_softmax(x: Any) -> Any:
    return x.log_softmax(-1)


def _log_softmax_by_logsumexp(x: Any) -> Any:
    return x - x.logsumexp(-1, keepdim=True)


_TRITON_KNOBS = {
    "programs": (1 << 20, 1056, 528),
    "tile": (1024, 2048, 4096),
    "longest": (32768, 8192, 16384),
    "block": (4096, 8192, 2048),
    "elements_per_thread": (32, 16, 8),
    "num_stages": (1, 2, 3),
}
_GRAIN = (8192, 2048, 32768)

SAMPLES = (
    Sample(
        name="softmax",
        idea="row maximum, exponentials and their sum, scale; the row stays in cache; a polynomial exponential that vectorises",
        patterns=(_softmax, _softmax_by_exp, _softmax_by_max),
        example=lambda: (Tensor(6, 10),),
        templates={"cpp": "softmax.cpp.jinja", "triton": "softmax.py.jinja"},
        knobs={"cpp": {"grain": _GRAIN, "width": (16, 8, 32)}, "triton": _TRITON_KNOBS},
    ),
    Sample(
        name="log_softmax",
        idea="row maximum, sum of exponentials, subtract; the row stays in cache; a polynomial exponential that vectorises",
        patterns=(_log_softmax, _log_softmax_by_logsumexp),
        example=lambda: (Tensor(6, 10),),
        templates={"cpp": "log_softmax.cpp.jinja", "triton": "log_softmax.py.jinja"},
        knobs={"cpp": {"grain": _GRAIN}, "triton": _TRITON_KNOBS},
    ),
)
