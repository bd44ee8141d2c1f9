"""Feed-forward networks whose weights each of a batch has for itself, a norm behind either layer (InterFormer, arXiv 2411.09852)."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor

EPS = 0.0078125  # stands for the reference's epsilon


def _rms(x: Any, gain: Any) -> Any:
    return x * (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt() * gain


def _rms_function(x: Any, gain: Any) -> Any:
    from torch.nn.functional import rms_norm

    return rms_norm(x, (x.shape[-1],), gain, EPS)


def _personalised(x: Any, w1: Any, b1: Any, norm1: Any, w2: Any, b2: Any, norm2: Any) -> Any:
    from torch.nn.functional import gelu

    return _rms(_rms(gelu(x @ w1 + b1[:, None]), norm1) @ w2 + b2[:, None], norm2)


def _personalised_by_function(x: Any, w1: Any, b1: Any, norm1: Any, w2: Any, b2: Any, norm2: Any) -> Any:
    from torch.nn.functional import gelu

    return _rms_function(_rms_function(gelu(x @ w1 + b1[:, None]), norm1) @ w2 + b2[:, None], norm2)


def _example() -> tuple[Any, ...]:
    return Tensor(2, 3, 5), Tensor(2, 5, 7), Tensor(2, 7), Tensor(7), Tensor(2, 7, 5), Tensor(2, 5), Tensor(5)


SAMPLES = (
    Sample(
        name="personalised_feed_forward",
        idea="a tile of rows goes through both layers at once: what lies between them is never written",
        patterns=(_personalised, _personalised_by_function),
        example=_example,
        constants={"eps": EPS},
        templates={"cpp": "personalised_feed_forward.cpp.jinja", "triton": "personalised_feed_forward.py.jinja"},
        knobs={
            "cpp": {"high": (8, 10, 6), "wide": (2, 3, 4), "grain": (16384, 4096, 65536)},
            "triton": {
                "rows": (64, 128, 32),
                "hidden": (64, 256, 128),
                "depth": (256, 64, 128),
                "exact_up_to": (64, 1 << 20),
                "shared": (160, 224, 96),
                "num_warps": (4, 8),
                "num_stages": (2, 1, 3),
            },
        },
    ),
)
