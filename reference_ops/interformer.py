"""Operators of InterFormer (Zeng et al. 2024, arXiv 2411.09852), as KernelEvolve (arXiv 2512.23236) measures them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from reference_ops.norms import rms_norm


def pffn(x: Tensor, w1: Tensor, b1: Tensor, norm1: Tensor, w2: Tensor, b2: Tensor, norm2: Tensor) -> Tensor:
    """Personalised feed-forward network: two layers whose weights each of the batch has for itself, a norm behind either.

    ``x``: floating [batch, rows, dim]. The same dtype: ``w1`` [batch, dim, hidden], ``b1`` [batch, hidden], ``w2`` [batch, hidden, dim],
    ``b2`` [batch, dim]; the gains of the norms, which all share, ``norm1`` [hidden] and ``norm2`` [dim].
    Returns the same dtype [batch, rows, dim].
    Source: arXiv 2411.09852, section 4.2 (PFFN); arXiv 2512.23236 (bmm and bias, GELU, RMSNorm, bmm and bias, RMSNorm).
    """
    hidden = rms_norm(functional.gelu(torch.bmm(x, w1) + b1[:, None]), norm1)
    return rms_norm(torch.bmm(hidden, w2) + b2[:, None], norm2)
