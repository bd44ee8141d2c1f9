"""Normalisations over the last axis."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RMS_EPS = 1e-6
LAYER_EPS = 1e-5


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Root-mean-square normalisation, computed in float32 as in Llama.

    ``x``: floating [rows, cols]. ``weight``: the same dtype [cols]. Returns the dtype of x [rows, cols].
    Source: Zhang and Sennrich 2019, arXiv 1910.07467, equation 4.
    """
    wide = x.float()
    normalised = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + RMS_EPS)
    return (normalised * weight.float()).to(x.dtype)


def rms_norm_backward(dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of ``rms_norm`` for its input and its weight, computed in float32.

    ``dy``, ``x``: floating [rows, cols]. ``weight``: the same dtype [cols].
    Returns ``dx`` [rows, cols] in the dtype of x and ``dweight`` [cols] in the dtype of weight.
    Source: the derivative of arXiv 1910.07467, equation 4.
    """
    wide = x.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + RMS_EPS)
    normalised = wide * scale
    gradient = dy.float() * weight.float()
    dx = scale * (gradient - normalised * (gradient * normalised).mean(-1, keepdim=True))
    dweight = (dy.float() * normalised).sum(0)
    return dx.to(x.dtype), dweight.to(weight.dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer normalisation.

    ``x``: floating [rows, cols]. ``weight``, ``bias``: the same dtype [cols]. Returns the dtype of x [rows, cols].
    Source: Ba, Kiros and Hinton 2016, arXiv 1607.06450.
    """
    return functional.layer_norm(x, (x.shape[-1],), weight, bias, LAYER_EPS)
