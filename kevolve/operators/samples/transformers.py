"""Attention followed by a SwiGLU MLP, as in Llama: whole prompts, and one token with caches that are written."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _mlp(x: Any, gate: Any, up: Any, down: Any) -> Any:
    from torch.nn.functional import linear, silu

    return linear(silu(linear(x, gate)) * linear(x, up), down)


def _prompt(q: Any, k: Any, v: Any, gate: Any, up: Any, down: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    attended = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return _mlp(attended.transpose(1, 2).flatten(2), gate, up, down)


def _prompt_example() -> tuple[Any, ...]:
    shared, wide = Tensor(2, 2, 5, 3), Tensor(7, 12)
    return Tensor(2, 4, 5, 3), shared, shared, wide, wide, Tensor(12, 7)


def _decode(q: Any, k: Any, v: Any, k_cache: Any, v_cache: Any, position: int, gate: Any, up: Any, down: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    k_cache[:, :, position] = k
    v_cache[:, :, position] = v
    keys, values = k_cache[:, :, : position + 1], v_cache[:, :, : position + 1]
    return _mlp(scaled_dot_product_attention(q[:, :, None], keys, values, enable_gqa=True).flatten(1), gate, up, down)


def _decode_example() -> tuple[Any, ...]:
    token, cache, wide = Tensor(2, 2, 3), Tensor(2, 2, 5, 3), Tensor(7, 12)
    return Tensor(2, 4, 3), token, token, cache, cache, 3, wide, wide, Tensor(12, 7)


SAMPLES = (
    Sample(
        name="sdpa_mlp",
        idea="attention writes the heads of a place side by side, as the products read them; silu and the gate's product are one pass",
        patterns=(_prompt,),
        example=_prompt_example,
        calls={"triton": ("aten::mm",)},
        templates={"cpp": "sdpa_mlp.cpp.jinja", "triton": "sdpa_mlp.py.jinja"},
        knobs={
            "cpp": {"high": (6, 4, 8), "wide": (4, 3, 2), "outs": (6, 4, 8), "grain": (16384, 4096, 65536)},
            "triton": {
                "block_q": (128, 64),
                "block_k": (128, 64),
                "num_warps": (8, 4),
                "num_stages": (2, 3, 4),
                "elements": (2048, 1024, 4096),
            },
        },
    ),
    Sample(
        name="sdpa_mlp_decode",
        idea="caches and weights are read once for all that share them; the gate's product is made where both factors are",
        patterns=(_decode,),
        example=_decode_example,
        templates={"cpp": "sdpa_mlp_decode.cpp.jinja", "triton": "sdpa_mlp_decode.py.jinja"},
        knobs={
            "cpp": {"places": (256, 64, 1024), "grain": (16384, 4096, 65536)},
            "triton": {
                "block": (64, 128),
                "programs": (528, 264, 1056),
                "outs": (8, 4, 16),
                "depth": (1024, 512, 2048),
                "dot_depth": (128, 64),
                "splits": (8, 4, 16),
                "num_warps": (4, 8),
                "num_stages": (3, 2, 4),
            },
        },
    ),
)
