"""Mixtures of experts: to the experts and back."""

from __future__ import annotations

from torch import Tensor


def top1_gating(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each token's expert, the probability it is weighted by, and each expert's mean probability.

    ``logits``: floating [tokens, experts]. Returns the gate, float32 [tokens]; the expert, int64 [tokens]; the mean, float32 [experts].
    Source: Switch Transformers, Fedus, Zoph and Shazeer 2021, arXiv 2101.03961, equations 1, 2 and 6.
    """
    probabilities = logits.float().softmax(-1)
    gate, expert = probabilities.max(-1)
    return gate, expert, probabilities.mean(0)


def moe_combine(outputs: Tensor, rows: Tensor, gates: Tensor) -> Tensor:
    """The weighted sum of what a token's experts gave for it, gathered from where they left it.

    ``outputs``: floating [slots, dim]. ``rows``: int64 [tokens, experts], each in [0, slots). ``gates``: float32 [tokens, experts].
    Returns the dtype of outputs [tokens, dim]. Source: Shazeer et al. 2017, arXiv 1701.06538, equation 1.
    """
    return (outputs[rows].float() * gates[:, :, None]).sum(1).to(outputs.dtype)
