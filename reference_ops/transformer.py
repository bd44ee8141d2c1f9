"""Llama 3.1's attention and the MLP after it, as one operator."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def sdpa_mlp(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Causal attention of a prompt, then the SwiGLU MLP: ``down (silu(gate x) * up x)``, x the heads of a place side by side.

    ``q``: floating [batch, heads, length, dim]. ``k``, ``v``: the same dtype [batch, kv_heads, length, dim], ``heads`` a multiple of
    ``kv_heads``. ``gate``, ``up``: [inner, heads * dim]; ``down``: [heads * dim, inner]. Returns [batch, length, heads * dim].
    Source: KernelEvolve, arXiv 2512.23236 (SDPA-MLP); Shazeer 2020, arXiv 2002.05202, section 2.
    """
    attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return mlp(attended.transpose(1, 2).flatten(2), gate, up, down)


def sdpa_mlp_decode(
    q: Tensor, k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, position: int, gate: Tensor, up: Tensor, down: Tensor
) -> Tensor:
    """The same for one new token of every sequence, whose key and value go into the caches.

    ``q``: floating [batch, heads, dim]. ``k``, ``v``: the same dtype [batch, kv_heads, dim]. ``k_cache``, ``v_cache``: [batch, kv_heads,
    capacity, dim], written at ``position``, which is less than ``capacity``. Weights as in ``sdpa_mlp``. Returns [batch, heads * dim].
    """
    k_cache[:, :, position] = k
    v_cache[:, :, position] = v
    keys, values = k_cache[:, :, : position + 1], v_cache[:, :, : position + 1]
    attended = functional.scaled_dot_product_attention(q[:, :, None], keys, values, enable_gqa=True)
    return mlp(attended.flatten(1), gate, up, down)


def mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Llama's MLP, whose gate is SwiGLU."""
    return functional.linear(functional.silu(functional.linear(x, gate)) * functional.linear(x, up), down)
