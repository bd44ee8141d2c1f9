"""Normalisations over the last axis: RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016)."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor

EPS = 0.0078125  # stands for the reference's epsilon

_TRITON_KNOBS = {
    "programs": (1 << 20, 1056, 528),
    "tile": (1024, 2048, 4096),
    "longest": (16384, 8192, 32768),
    "block": (4096, 8192, 2048),
    "elements_per_thread": (16, 32, 8),
    "num_stages": (1, 2, 3),
    "wide": (4096, 2048),
}
# One row a step: its weights stay in registers, and the rows to come are under way.
_TRITON_LAYER_KNOBS = _TRITON_KNOBS | {"programs": (528, 264, 1056), "elements_per_thread": (32, 16, 8), "num_stages": (3, 2, 1)}
_CPP_KNOBS = {"grain": (16384, 4096, 65536), "lanes": (64, 32, 128), "long_row": (2048, 512, 256)}


def _rms(x: Any) -> Any:
    return x * (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()


def _rms_by_root(x: Any) -> Any:
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt()


def _rms_function(x: Any) -> Any:
    from torch.nn.functional import rms_norm

    return rms_norm(x, (x.shape[-1],), eps=EPS)


def _rms_weighted(x: Any, weight: Any) -> Any:
    return _rms(x) * weight


def _rms_by_root_weighted(x: Any, weight: Any) -> Any:
    return _rms_by_root(x) * weight


def _rms_function_weighted(x: Any, weight: Any) -> Any:
    from torch.nn.functional import rms_norm

    return rms_norm(x, (x.shape[-1],), weight, EPS)


def _layer(x: Any) -> Any:
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()


def _layer_by_variance(x: Any) -> Any:
    return (x - x.mean(-1, keepdim=True)) * (x.var(-1, keepdim=True, unbiased=False) + EPS).rsqrt()


def _layer_by_root(x: Any) -> Any:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + EPS).sqrt()


def _layer_function(x: Any) -> Any:
    from torch.nn.functional import layer_norm

    return layer_norm(x, (x.shape[-1],), eps=EPS)


def _layer_affine(x: Any, weight: Any, bias: Any) -> Any:
    return _layer(x) * weight + bias


def _layer_by_variance_affine(x: Any, weight: Any, bias: Any) -> Any:
    return _layer_by_variance(x) * weight + bias


def _layer_by_root_affine(x: Any, weight: Any, bias: Any) -> Any:
    return _layer_by_root(x) * weight + bias


def _layer_function_affine(x: Any, weight: Any, bias: Any) -> Any:
    from torch.nn.functional import layer_norm

    return layer_norm(x, (x.shape[-1],), weight, bias, EPS)


_RMS_IDEA = "one pass over a row for its sum of squares, a second over the row, now in cache, to scale it"
_LAYER_IDEA = "mean, then centred sum of squares (no cancellation), then scale: three passes over a row, the last two in cache"

SAMPLES = (
    Sample(
        name="rms_norm",
        idea=_RMS_IDEA,
        patterns=(_rms_weighted, _rms_by_root_weighted, _rms_function_weighted),
        example=lambda: (Tensor(6, 10), Tensor(10)),
        constants={"eps": EPS},
        templates={"cpp": "rms_norm.cpp.jinja", "triton": "rms_norm.py.jinja"},
        knobs={"cpp": _CPP_KNOBS, "triton": _TRITON_KNOBS},
    ),
    Sample(
        name="rms_norm_plain",
        idea=_RMS_IDEA,
        patterns=(_rms, _rms_by_root, _rms_function),
        example=lambda: (Tensor(6, 10),),
        constants={"eps": EPS},
        templates={"cpp": "rms_norm.cpp.jinja", "triton": "rms_norm.py.jinja"},
        knobs={"cpp": _CPP_KNOBS, "triton": _TRITON_KNOBS},
    ),
    Sample(
        name="layer_norm",
        idea=_LAYER_IDEA,
        patterns=(_layer_function_affine, _layer_affine, _layer_by_variance_affine, _layer_by_root_affine),
        example=lambda: (Tensor(6, 10), Tensor(10), Tensor(10)),
        constants={"eps": EPS},
        templates={"cpp": "layer_norm.cpp.jinja", "triton": "layer_norm.py.jinja"},
        knobs={"cpp": _CPP_KNOBS, "triton": _TRITON_LAYER_KNOBS},
    ),
    Sample(
        name="layer_norm_plain",
        idea=_LAYER_IDEA,
        patterns=(_layer_function, _layer, _layer_by_variance, _layer_by_root),
        example=lambda: (Tensor(6, 10),),
        constants={"eps": EPS},
        templates={"cpp": "layer_norm.cpp.jinja", "triton": "layer_norm.py.jinja"},
        knobs={"cpp": _CPP_KNOBS, "triton": _TRITON_LAYER_KNOBS},
    ),
)
