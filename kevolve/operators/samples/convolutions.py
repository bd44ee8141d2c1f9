"""Convolutions over one axis with a bias, stride 1 and a padding of 1: [batch, channels, length], or channels last in two dimensions."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _conv1d(x: Any, weight: Any, bias: Any) -> Any:
    from torch.nn.functional import conv1d

    return conv1d(x, weight, bias, stride=1, padding=1)


def _conv2d_lines(x: Any, weight: Any, bias: Any) -> Any:
    from torch.nn.functional import conv2d

    return conv2d(x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2), bias, stride=1, padding=(0, 1)).permute(0, 2, 3, 1)


SAMPLES = (
    Sample(
        name="conv1d_padded",
        idea="an implicit matrix product: for each tap a product of channels by channels with the input moved along by one",
        patterns=(_conv1d,),
        example=lambda: (Tensor(2, 5, 11), Tensor(7, 5, 3), Tensor(7)),
        templates={"cpp": "conv1d_padded.cpp.jinja", "triton": "conv1d_padded.py.jinja"},
        knobs={
            "cpp": {"high": (8, 10, 6), "wide": (2, 3, 4), "grain": (16384, 4096, 65536)},
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
    Sample(
        name="conv2d_lines",
        idea="an implicit matrix product of places by channels: for each tap the lines moved along by one, read where they lie",
        patterns=(_conv2d_lines,),
        example=lambda: (Tensor(2, 3, 11, 5), Tensor(7, 1, 3, 5), Tensor(7)),
        templates={"cpp": "conv2d_lines.cpp.jinja", "triton": "conv2d_lines.py.jinja"},
        knobs={
            "cpp": {"high": (8, 10, 6), "wide": (2, 3, 4), "grain": (16384, 4096, 65536)},
            "triton": {
                "places": (128, 64, 256),
                "out_channels": (128, 64),
                "in_channels": (32, 64, 128),
                "num_warps": (4, 8),
                "num_stages": (3, 4, 2),
            },
        },
    ),
)
