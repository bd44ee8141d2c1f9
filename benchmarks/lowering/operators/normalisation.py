"""Norms of all kinds: over rows, groups of channels, channels that are no last axis, the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RMS_EPS = 1e-6
EPS = 1e-5


def residual_rms_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Add to the residual stream and normalise the sum, computed in float32: between two blocks of Llama.

    ``x``, ``residual``: floating [rows, cols]. ``weight``: the same dtype [cols].
    Returns the normalised sum and the sum, both [rows, cols] in the dtype of x.
    Source: Zhang and Sennrich 2019, arXiv 1910.07467, equation 4.
    """
    total = x.float() + residual.float()
    normalised = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + RMS_EPS)
    return (normalised * weight.float()).to(x.dtype), total.to(x.dtype)


def layer_norm_gelu_dropout(x: Tensor, weight: Tensor, bias: Tensor, keep: Tensor, rate: float) -> Tensor:
    """Layer normalisation, GELU and dropout with a mask that is given.

    ``x``: floating [rows, cols]. ``weight``, ``bias``: the same dtype [cols]. ``keep``: bool [rows, cols]. ``rate``: in [0, 1).
    Returns the dtype of x [rows, cols]. Source: arXiv 1607.06450; arXiv 1606.08415; inverted dropout, Srivastava et al. 2014.
    """
    normalised = functional.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), EPS)
    return torch.where(keep, functional.gelu(normalised) / (1 - rate), 0.0).to(x.dtype)


def group_norm_silu(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Group normalisation and SiLU, channels first: what stands before every convolution of a diffusion model's U-Net.

    ``x``: floating [batch, channels, height, width]. ``weight``, ``bias``: the same dtype [channels]. ``groups`` divides channels.
    Returns the dtype of x and its shape. Source: Wu and He 2018, arXiv 1803.08494, equations 1 and 7.
    """
    grouped = x.float().unflatten(1, (groups, -1))
    mean = grouped.mean((2, 3, 4), keepdim=True)
    variance = (grouped - mean).square().mean((2, 3, 4), keepdim=True)
    normalised = ((grouped - mean) * torch.rsqrt(variance + EPS)).flatten(1, 2)
    scaled = normalised * weight.float()[:, None, None] + bias.float()[:, None, None]
    return functional.silu(scaled).to(x.dtype)


def channel_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer normalisation over the channels of an image that has them first.

    ``x``: float32 [batch, channels, height, width]. ``weight``, ``bias``: float32 [channels]. Returns float32, the shape of x.
    Source: ConvNeXt, Liu et al. 2022, arXiv 2201.03545, its LayerNorm with ``data_format="channels_first"``.
    """
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + RMS_EPS) * weight[:, None, None] + bias[:, None, None]


def batch_norm_relu(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation as in training, then ReLU: statistics of each channel over the batch and the image.

    ``x``: float32 [batch, channels, height, width]. ``weight``, ``bias``: float32 [channels].
    Returns the result [batch, channels, height, width], the means and the inverse deviations [channels], which its backward needs.
    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1.
    """
    mean = x.mean((0, 2, 3))
    variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
    inverse = torch.rsqrt(variance + EPS)
    shifted = (x - mean[:, None, None]) * (weight * inverse)[:, None, None] + bias[:, None, None]
    return shifted.relu(), mean, inverse


def global_response_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Global response normalisation, channels last: each channel by its norm over the image, relative to the other channels' norms.

    ``x``: floating [batch, height, width, channels]. ``gamma``, ``beta``: the same dtype [channels]. Returns the dtype of x and its shape.
    Source: ConvNeXt V2, Woo et al. 2023, arXiv 2301.00808, algorithm 1.
    """
    wide = x.float()
    norm = torch.linalg.vector_norm(wide, dim=(1, 2), keepdim=True)
    relative = norm / (norm.mean(-1, keepdim=True) + RMS_EPS)
    return (gamma.float() * (wide * relative) + beta.float() + wide).to(x.dtype)
