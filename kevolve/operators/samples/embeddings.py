"""Embedding bags over tables quantised to 8 bits by row, as recommendation models keep them."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _by_index_add(table: Any, scale: Any, indices: Any, offsets: Any) -> Any:
    import torch

    rows = table[indices].float() * scale[indices][:, None]
    bags = torch.arange(offsets.shape[0] - 1, device=offsets.device).repeat_interleave(offsets.diff())
    return torch.zeros(offsets.shape[0] - 1, table.shape[1], device=table.device).index_add(0, bags, rows)


def _by_scatter_add(table: Any, scale: Any, indices: Any, offsets: Any) -> Any:
    import torch

    rows = table[indices].float() * scale[indices][:, None]
    bags = torch.arange(offsets.shape[0] - 1, device=offsets.device).repeat_interleave(offsets.diff())
    return torch.zeros(offsets.shape[0] - 1, table.shape[1], device=table.device).scatter_add(0, bags[:, None].expand_as(rows), rows)


def _example() -> tuple[Any, ...]:
    """Offsets hold one index a bag: the sorted, unique whole numbers from 0 to 4."""
    return (
        Tensor(9, 8, dtype="int8"),
        Tensor(9),
        Tensor(4, dtype="int64", low=0, high=9),
        Tensor(5, dtype="int64", low=0, high=5, sorted=True, unique=True),
    )


SAMPLES = (
    Sample(
        name="embedding_bag",
        idea="a bag's sum stays in registers or cache while its rows stream by; the rows to come are prefetched",
        patterns=(_by_index_add, _by_scatter_add),
        example=_example,
        templates={"cpp": "embedding_bag.cpp.jinja", "triton": "embedding_bag.py.jinja"},
        knobs={
            "cpp": {"columns": (64, 128, 32), "prefetch": (8, 4, 16, 0), "grain": (16384, 4096, 65536)},
            "triton": {"bags": (1, 2, 4), "elements": (1024, 2048, 512), "cols": (128, 256, 64), "num_warps": (1, 2, 4)},
        },
    ),
)
