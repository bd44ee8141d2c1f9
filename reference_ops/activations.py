"""Activations."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``, the gate of Llama's MLP.

    ``gate``, ``up``: floating [rows, cols], one dtype. Returns the same dtype and shape.
    Source: Shazeer 2020, arXiv 2002.05202, section 2.
    """
    return functional.silu(gate) * up
