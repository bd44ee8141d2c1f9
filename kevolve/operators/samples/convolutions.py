"""Convolutions over one axis with a bias, stride 1 and a padding of 1, as PyTorch lays them out: [batch, channels, length]."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _conv1d(x: Any, weight: Any, bias: Any) -> Any:
    from torch.nn.functional import conv1d

    return conv1d(x, weight, bias, stride=1, padding=1)


SAMPLES = (
    Sample(
        name="conv1d_padded",
        idea="an implicit matrix product: for each tap a product of channels by channels with the input moved along by one",
        patterns=(_conv1d,),
        example=lambda: (Tensor(2, 5, 11), Tensor(7, 5, 3), Tensor(7)),
        templates={"cpp": "conv1d_padded.cpp.jinja", "triton": "conv1d_padded.py.jinja"},
        knobs={
            "cpp": {"high": (6, 8, 4), "wide": (3, 2, 4), "grain": (16384, 4096, 65536)},
            "triton": {
                "layout": ("direct", "packed"),
                "taps": ("inner", "flat"),
                "cols": (128, 64, 256),
                "out_channels": (128, 64, 32),
                "in_channels": (32, 16, 64),
                "num_warps": (4, 8),
                "num_stages": (3, 2, 4),
            },
        },
    ),
)
