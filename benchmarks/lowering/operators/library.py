"""What no skeleton covers, with work around it that one does: large products, convolution, sorting, Fourier transforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-5
LEAST_POWER = 1e-6


def gated_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """A gated MLP: three large matrix products with an activation between them.

    ``x``: float32 [tokens, dim]. ``gate``, ``up``: float32 [hidden, dim]. ``down``: float32 [dim, hidden]. Returns float32 [tokens, dim].
    Source: Shazeer 2020, arXiv 2002.05202, equation 6 (FFN SwiGLU).
    """
    return (functional.silu(x @ gate.T) * (x @ up.T)) @ down.T


def conv_norm_relu(x: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """A convolution of 3 by 3, batch normalisation by kept statistics, ReLU.

    ``x``: float32 [batch, channels, height, width]. ``weight``: float32 [outputs, channels, 3, 3]. The others: float32 [outputs],
    variance positive. Returns float32 [batch, outputs, height, width]. Source: He et al. 2015, arXiv 1512.03385, section 3.4.
    """
    convolved = functional.conv2d(x, weight, padding=1)
    scale = gamma * torch.rsqrt(variance + EPS)
    shift = beta - mean * scale
    return (convolved * scale[:, None, None] + shift[:, None, None]).relu()


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """The squared sliced Wasserstein distance of two samples of equal size, by direction: project, sort, compare.

    ``x``, ``y``: float32 [count, dim]. ``directions``: float32 [dim, slices]. Returns float32 [slices].
    Source: Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51, section 3.
    """
    unit = directions / directions.norm(dim=0, keepdim=True).clamp(min=EPS)
    first = (x @ unit).sort(dim=0).values
    second = (y @ unit).sort(dim=0).values
    return (first - second).square().mean(0)


def log_power_spectrogram(signal: Tensor, window: Tensor, hop: int) -> Tensor:
    """The logarithm of the power spectrum of overlapping frames.

    ``signal``: float32 [batch, samples], samples >= frame. ``window``: float32 [frame].
    Returns float32 [batch, (samples - frame) // hop + 1, frame // 2 + 1]. Source: the front end of Whisper, arXiv 2212.04356, section 2.2.
    """
    frames = signal.unfold(-1, len(window), hop) * window
    power = torch.fft.rfft(frames).abs().square()
    return power.clamp(min=LEAST_POWER).log()


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in which no token sees a later one.

    ``query``, ``key``, ``value``: float32 [heads, time, dim]. Returns float32 [heads, time, dim]. Source: arXiv 1706.03762, equation 1.
    """
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1) @ value
