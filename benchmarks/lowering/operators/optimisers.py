"""Steps of optimisers."""

from __future__ import annotations

import torch
from torch import Tensor

RATE, DECAY = 1e-3, 0.01
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
FACTORED_BETA, FACTORED_EPS = 0.99, 1e-30


def adamw_step(parameter: Tensor, gradient: Tensor, mean: Tensor, variance: Tensor, step: int) -> None:
    """One step of AdamW; ``parameter``, ``mean`` and ``variance`` are changed.

    All float32 [count], variance not negative. ``step``: from 1. Returns nothing.
    Source: Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2.
    """
    mean.mul_(BETA1).add_(gradient, alpha=1 - BETA1)
    variance.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    corrected = mean / (1 - BETA1**step)
    spread = (variance / (1 - BETA2**step)).sqrt() + EPS
    parameter.mul_(1 - RATE * DECAY).sub_(RATE * corrected / spread)


def adafactor_step(parameter: Tensor, gradient: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adafactor without momentum: the second moment factored into rows and columns, the update clipped at a mean square of 1.

    ``parameter``, ``gradient``: float32 [rows, cols]. ``row``: float32 [rows], ``column``: float32 [cols], both positive.
    Returns the new parameter, row and column moments. Source: Shazeer and Stern 2018, arXiv 1804.04235, algorithm 4.
    """
    square = gradient.square() + FACTORED_EPS
    row = FACTORED_BETA * row + (1 - FACTORED_BETA) * square.mean(1)
    column = FACTORED_BETA * column + (1 - FACTORED_BETA) * square.mean(0)
    update = gradient * torch.rsqrt(row / row.mean())[:, None] * torch.rsqrt(column)
    update = update / update.square().mean().sqrt().clamp(min=1.0)
    return parameter - RATE * update, row, column


def clip_by_global_norm(weight: Tensor, bias: Tensor, largest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Two gradients scaled down together where their common norm is too large; and that norm.

    ``weight``: float32 [rows, cols]. ``bias``: float32 [rows]. ``largest``: positive. Returns both gradients and the norm [].
    Source: Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063, algorithm 1.
    """
    norm = torch.sqrt(weight.square().sum() + bias.square().sum())
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    return weight * factor, bias * factor, norm
