"""Attention with grouped queries, as [batch, heads, places, dim]: a whole prompt, and one token with caches that are written."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _causal(q: Any, k: Any, v: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def _decode(q: Any, k: Any, v: Any, k_cache: Any, v_cache: Any, position: int) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    k_cache[:, :, position] = k
    v_cache[:, :, position] = v
    keys, values = k_cache[:, :, : position + 1], v_cache[:, :, : position + 1]
    return scaled_dot_product_attention(q[:, :, None], keys, values, enable_gqa=True)[:, :, 0]


SAMPLES = (
    Sample(
        name="attention_causal",
        idea="a block of queries at a time, so that no matrix of scores is written; what is masked is skipped",
        patterns=(_causal,),
        example=lambda: (Tensor(2, 4, 5, 3), Tensor(2, 2, 5, 3), Tensor(2, 2, 5, 3)),
        templates={"cpp": "attention_causal.cpp.jinja", "triton": "attention_causal.py.jinja"},
        knobs={
            "cpp": {"high": (6, 8, 4), "wide": (3, 2, 4), "grain": (16384, 4096, 65536)},
            "triton": {
                "block_q": (128, 64),
                "block_k": (128, 64),
                "num_warps": (8, 4),
                "num_stages": (2, 3, 4),
            },
        },
    ),
    Sample(
        name="attention_decode",
        idea="caches are read once for all heads that share them, in parts side by side; a second pass adds these up",
        patterns=(_decode,),
        example=lambda: (Tensor(2, 4, 3), Tensor(2, 2, 3), Tensor(2, 2, 3), Tensor(2, 2, 5, 3), Tensor(2, 2, 5, 3), 3),
        templates={"cpp": "attention_decode.cpp.jinja", "triton": "attention_decode.py.jinja"},
        knobs={
            "cpp": {"places": (256, 64, 1024), "grain": (16384, 4096, 65536)},
            "triton": {
                "block": (64, 128),
                "programs": (528, 264, 1056),
                "num_warps": (4, 8),
                "num_stages": (3, 2, 4),
            },
        },
    ),
)
