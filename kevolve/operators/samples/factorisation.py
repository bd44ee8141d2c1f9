"""WuKong's optimised factorisation machine (Zhang et al. 2024, arXiv 2403.02545): ``X (X^T Y)`` for each of a batch."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _by_interactions(x: Any, y: Any) -> Any:
    return x @ (x.transpose(1, 2) @ y)


def _by_gram_matrix(x: Any, y: Any) -> Any:
    return (x @ x.transpose(1, 2)) @ y


SAMPLES = (
    Sample(
        name="factorisation_machine",
        idea="X X^T is small where features are fewer than their dimensions: once a batch, then times Y in one pass; no matrix between",
        patterns=(_by_interactions, _by_gram_matrix),
        example=lambda: (Tensor(2, 3, 5), Tensor(2, 3, 7)),
        templates={"cpp": "factorisation_machine.cpp.jinja", "triton": "factorisation_machine.py.jinja"},
        knobs={
            "cpp": {"high": (6, 4, 8), "wide": (2, 3, 4), "grain": (16384, 4096, 65536)},
            "triton": {
                "form": ("gram", "interactions"),
                "cols": (64, 32, 128, 256),
                "depth": (64, 32, 256),
                "span": (16, 2, 1),
                "num_warps": (4, 2, 8),
                "num_stages": (3, 2, 1),
            },
        },
    ),
)
