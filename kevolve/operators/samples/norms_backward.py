"""The gradients of RMSNorm and LayerNorm over the last axis, for their inputs and parameters."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor

EPS = 0.0078125  # stands for the reference's epsilon


def _by_normalised(dy: Any, x: Any, weight: Any) -> tuple[Any, Any]:
    scale = (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()
    normalised = x * scale
    gradient = dy * weight
    dx = scale * (gradient - normalised * (gradient * normalised).mean(-1, keepdim=True))
    return dx, (dy * normalised).sum(0)


def _by_cube(dy: Any, x: Any, weight: Any) -> tuple[Any, Any]:
    scale = (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()
    gradient = dy * weight
    dx = scale * gradient - x * scale.pow(3) * (gradient * x).mean(-1, keepdim=True)
    return dx, (dy * x * scale).sum(0)


def _layer_by_centred(dy: Any, x: Any, weight: Any) -> tuple[Any, Any, Any]:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()
    return _layer_gradients(dy, weight, centred * scale, scale)


def _layer_by_variance(dy: Any, x: Any, weight: Any) -> tuple[Any, Any, Any]:
    scale = (x.var(-1, keepdim=True, unbiased=False) + EPS).rsqrt()
    return _layer_gradients(dy, weight, (x - x.mean(-1, keepdim=True)) * scale, scale)


def _layer_gradients(dy: Any, weight: Any, normalised: Any, scale: Any) -> tuple[Any, Any, Any]:
    gradient = dy * weight
    along = normalised * (gradient * normalised).mean(-1, keepdim=True)
    return scale * (gradient - gradient.mean(-1, keepdim=True) - along), (dy * normalised).sum(0), dy.sum(0)


_KNOBS: dict[str, dict[str, tuple[Any, ...]]] = {
    "cpp": {"grain": (16384, 4096, 65536), "block_rows": (64, 32, 128)},
    "triton": {
        "programs": (264, 132, 528, 1056),
        "tile": (4096, 2048, 1024),
        "longest": (8192, 4096, 16384),
        "block": (1024, 512, 2048),
        "elements_per_thread": (16, 8, 32),
        "num_stages": (4, 3, 1),
    },
}
_RMS_KNOBS = _KNOBS | {
    "triton": _KNOBS["triton"]
    | {
        "programs": (264, 132, 396, 528, 1056),
        "elements_per_thread": (16, 4, 8, 32),
        "num_stages": (3, 2, 1, 4),
        "weights": ("held", "reread"),  # in registers from row to row, or from the cache for each
        "stream": ("once", "plain"),  # whether the caches are told that rows are not read again
        "add_cols": (32, 128),
    },
}

SAMPLES = (
    Sample(
        name="rms_norm_backward",
        idea="the row sums with the row in cache; dweight summed in blocks of rows, by thread, so that float32 rounding does not build up",
        patterns=(_by_normalised, _by_cube),
        example=lambda: (Tensor(6, 10), Tensor(6, 10), Tensor(10)),
        constants={"eps": EPS},
        templates={"cpp": "rms_norm_backward.cpp.jinja", "triton": "rms_norm_backward.py.jinja"},
        knobs=_RMS_KNOBS,
    ),
    Sample(
        name="layer_norm_backward",
        idea="the row sums with the row in cache; dweight and dbias summed in blocks of rows, by thread: float32 rounding does not build up",
        patterns=(_layer_by_centred, _layer_by_variance),
        example=lambda: (Tensor(6, 10), Tensor(6, 10), Tensor(10)),
        constants={"eps": EPS},
        templates={"cpp": "layer_norm_backward.cpp.jinja", "triton": "layer_norm_backward.py.jinja"},
        knobs=_KNOBS,
    ),
)
