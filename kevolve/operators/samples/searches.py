"""Sorted search: MapIdTransform and MergeBucketizedDenseTransform of recommendation models (arXiv 2512.23236)."""

from __future__ import annotations

from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _map_id(values: Any, ids: Any) -> Any:
    import torch

    index = torch.bucketize(values, ids).clamp(max=ids.shape[0] - 1)
    return torch.where(ids[index] == values, index + 1, 0)


def _map_id_zeros(values: Any, ids: Any) -> Any:
    import torch

    index = torch.searchsorted(ids, values).clamp(max=ids.shape[0] - 1)
    return torch.where(ids[index] == values, index + 1, torch.zeros_like(index))


def _mbdt(x: Any, borders: Any) -> Any:
    import torch

    bins = borders.shape[1] + 1
    rows = [torch.bucketize(x[feature], borders[feature]) + feature * bins for feature in range(x.shape[0])]
    return torch.stack(rows)


def _mbdt_searchsorted(x: Any, borders: Any) -> Any:
    import torch

    offsets = torch.arange(x.shape[0]) * (borders.shape[1] + 1)
    return torch.searchsorted(borders, x) + offsets[:, None]


SAMPLES = (
    Sample(
        name="map_id",
        idea="branchless binary searches, several at once in step, so that their cache misses overlap",
        patterns=(_map_id, _map_id_zeros),
        example=lambda: (Tensor(12, dtype="int64", low=0, high=14), Tensor(7, dtype="int64", low=0, high=14, sorted=True, unique=True)),
        templates={"cpp": "map_id.cpp.jinja", "triton": "map_id.py.jinja"},
        knobs={
            "cpp": {"lanes": (16, 8, 32), "grain": (2048, 512, 8192)},
            "triton": {"block": (128, 256, 512), "num_warps": (1, 2, 4), "ids_per_range": (2, 1), "lookups": (1 << 16,)},
        },
    ),
    Sample(
        name="mbdt",
        idea="few borders: count those below each value, all values of a vector at once; many: binary searches in step",
        patterns=(_mbdt, _mbdt_searchsorted),
        example=lambda: (Tensor(3, 10), Tensor(3, 4, sorted=True)),
        templates={"cpp": "mbdt.cpp.jinja", "triton": "mbdt.py.jinja"},
        knobs={
            "cpp": {"count_up_to": (256, 32, 1024), "lanes": (16, 8, 32), "grain": (4096, 1024, 16384)},
            "triton": {"count_up_to": (16, 8), "block": (512, 1024, 2048), "num_warps": (4, 8, 2)},
        },
    ),
)
