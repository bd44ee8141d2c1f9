"""To few bits and back."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-30


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric quantisation to 8 bits, a scale for each row (token).

    ``x``: floating [rows, cols]. Returns the values, int8 [rows, cols], and the scales, float32 [rows].
    Source: Dettmers et al. 2022, arXiv 2208.07339, section 2.1 (absmax), by row as in its section 3.1.
    """
    wide = x.float()
    scale = (wide.abs().amax(-1) / 127).clamp(min=SMALLEST_SCALE)
    return torch.round(wide / scale[:, None]).clamp(-127, 127).to(torch.int8), scale


def dequantise_int4(packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """Weights from 4 bits, two in a byte (the low ones first), with a scale and a zero point for each group of a row.

    ``packed``: uint8 [rows, groups * bytes]. ``scales``: floating [rows, groups]. ``zeros``: uint8 [rows, groups], each below 16.
    Returns the dtype of scales [rows, groups * bytes * 2]. Source: GPTQ, Frantar et al. 2022, arXiv 2210.17323, section 4 (grouping).
    """
    nibbles = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)
    grouped = nibbles.unflatten(1, (scales.shape[1], -1)).float()
    return ((grouped - zeros.float()[:, :, None]) * scales.float()[:, :, None]).flatten(1).to(scales.dtype)
