"""Every element by itself, with operands broadcast along some axes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def bias_gelu_layer_scale(x: Tensor, bias: Tensor, scale: Tensor, residual: Tensor) -> Tensor:
    """The end of a vision transformer's MLP: bias, GELU, LayerScale and the residual, computed in float32.

    ``x``, ``residual``: floating [rows, cols]. ``bias``, ``scale``: the same dtype [cols]. Returns the dtype of x [rows, cols].
    Source: Touvron et al. 2021, arXiv 2103.17239, equation 4; GELU with erf: arXiv 1606.08415.
    """
    branch = functional.gelu(x.float() + bias.float())
    return (residual.float() + scale.float() * branch).to(x.dtype)


def rotary_embedding(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, the two halves of a head rotated against each other as in Llama.

    ``x``: floating [batch, time, heads, 2 * half]. ``cos``, ``sin``: float32 [time, half]. Returns the dtype of x and its shape.
    Source: Su et al. 2021, arXiv 2104.09864, equation 34.
    """
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """The periodic activation of neural vocoders, a frequency for each channel: x + sin²(αx) / α.

    ``x``: floating [batch, channels, time]. ``alpha``: float32 [channels], positive. Returns the dtype of x and its shape.
    Source: Ziyin et al. 2020, arXiv 2006.08195, equation 3; by channel in BigVGAN, arXiv 2206.04658.
    """
    alpha = alpha[:, None]
    wide = x.float()
    return (wide + torch.sin(alpha * wide).square() / alpha).to(x.dtype)


def fourier_features(time: Tensor, frequencies: Tensor) -> Tensor:
    """The time of a diffusion model as random Fourier features: sines, then cosines.

    ``time``: float32 [batch]. ``frequencies``: float32 [half]. Returns float32 [batch, 2 * half].
    Source: Tancik et al. 2020, arXiv 2006.10739, equation 5; of time in Song et al. 2021, arXiv 2011.13456.
    """
    angle = 2 * math.pi * time[:, None] * frequencies
    return torch.cat((angle.sin(), angle.cos()), dim=-1)
