"""Jagged operations: Batch Event Truncate of recommendation models (arXiv 2512.23236)."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _truncate(outer_lengths: Any, inner_lengths: Any, values: Any, max_events: int) -> tuple[Any, Any, Any]:
    import torch

    inner_kept, values_kept = [], []
    inner_by_feature = inner_lengths.split(outer_lengths.sum(1).tolist())
    values_by_feature = values.split([int(inner.sum()) for inner in inner_by_feature])
    for outer, inner, held in zip(outer_lengths, inner_by_feature, values_by_feature, strict=True):
        first_event = (outer.cumsum(0) - outer).repeat_interleave(outer)
        keep = torch.arange(len(inner), device=inner.device) - first_event < max_events
        inner_kept.append(inner[keep])
        values_kept.append(held[keep.repeat_interleave(inner)])
    return outer_lengths.clamp(max=max_events), torch.cat(inner_kept), torch.cat(values_kept)


def _example() -> tuple[Any, ...]:
    """One value an event: 2 features, 3 users with 2 events each (every description is fixed, so lengths must agree)."""
    return (
        Tensor(2, 3, dtype="int64", low=2, high=3),
        Tensor(12, dtype="int64", low=1, high=2),
        Tensor(12),
        1,
    )


SAMPLES = (
    Sample(
        name="batch_event_truncate",
        idea="count what is kept, then copy each user's events and values, which lie in one piece, by memcpy",
        patterns=(_truncate,),
        example=_example,
        templates={"cpp": "batch_event_truncate.cpp.jinja", "triton": "batch_event_truncate.py.jinja"},
        knobs={
            "cpp": {"grain": (65536, 16384, 262144)},
            "triton": {"users": (64, 32), "block": (32, 64, 16), "sums": (1024,), "num_warps": (4, 8)},
        },
    ),
)
