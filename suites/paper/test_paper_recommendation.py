"""Recommendation models' workloads of suites/ at the paper's sizes and at production sizes."""

from __future__ import annotations

import pytest

import kevolve
from kevolve import Tensor, choices, on, sizes
from reference_ops import recommendation
from suites.test_recommendation import map_id_inputs, map_id_work, truncate_inputs, truncate_work


@kevolve.kernel(recommendation.map_id, min_speedup=1.2, vary=dict(unique=sizes(1, 20000), batch=sizes(0, 100_000)), work=map_id_work)
@pytest.mark.parametrize(
    "unique, batch, keys",
    [
        (100, 10_000, "dense"),
        pytest.param(10_000, 2_000, "dense", marks=on("cuda")),
        pytest.param(10_000, 4_000, "dense", marks=on("cuda")),
        pytest.param(10_000, 8_000, "dense", marks=on("cuda")),
        pytest.param(10_000, 10_000, "dense", marks=on("cuda")),
        (10_000, 50_000, "dense"),
        pytest.param(1_000_000, 4_000_000, "random", marks=on("cuda")),
    ],
)
def test_map_id(unique, batch, keys):
    """The paper's sizes; a million random ids of 40 bits, looked up four million times, half of them in vain."""
    if keys != "dense":
        return map_id_inputs
    high = 2 * unique + 1
    return Tensor(batch, dtype="int64", low=0, high=high), Tensor(unique, dtype="int64", low=0, high=high, sorted=True, unique=True)


@kevolve.kernel(recommendation.mbdt, min_speedup=1.5, vary=dict(features=sizes(1, 64), batch=sizes(0, 4096), borders=sizes(0, 200)))
@pytest.mark.parametrize("features, batch, borders", [(2, 2048, 4), pytest.param(64, 65536, 8, marks=on("cuda"))])
def test_mbdt(features, batch, borders):
    """The paper's size, and 65,536 values of 64 features."""
    return Tensor(features, batch), Tensor(features, borders, sorted=True)


@kevolve.kernel(
    recommendation.batch_event_truncate,
    min_speedup=1.5,
    vary=dict(features=sizes(1, 32), users=sizes(0, 64), max_length=sizes(0, 400), max_events=choices(0, 1, 2, 100, 200)),
    work=truncate_work,
)
@pytest.mark.parametrize("max_events", [100, 200])
@pytest.mark.parametrize("features", [5, 9, 32])
@pytest.mark.parametrize("users, max_length", [(16, 200), pytest.param(2048, 200, marks=on("cuda"))])
def test_batch_event_truncate(features, users, max_length, max_events):
    """The paper's features and limits at up to 200 events a user: 16 users, and a production batch."""
    return truncate_inputs


FM_SIZES = dict(batch=sizes(0, 16), features=sizes(1, 80), dim=sizes(1, 256), rank=sizes(1, 512))
FM_CASES = [
    pytest.param(16, 24, 224, 448, "float16", marks=on("cpu")),
    pytest.param(256, 24, 224, 2198, "float16", marks=on("cuda")),
    pytest.param(1024, 24, 224, 2198, "float16", marks=on("cuda")),
    pytest.param(1024, 40, 224, 448, "float16", marks=on("cuda")),
    pytest.param(1024, 48, 224, 448, "float16", marks=on("cuda")),
]


@kevolve.kernel(recommendation.wukong_fm, min_speedup=1.5, vary=FM_SIZES)
@pytest.mark.parametrize("batch, features, dim, rank, dtype", FM_CASES)
def test_wukong_fm(batch, features, dim, rank, dtype):
    """The paper's three sizes, and the first with a quarter of the batch."""
    return Tensor(batch, features, dim, dtype=dtype), Tensor(batch, features, rank, dtype=dtype)


@kevolve.kernel(recommendation.wukong_fm, min_speedup=1.2, grad=("x", "y"), vary=FM_SIZES)
@pytest.mark.parametrize("batch, features, dim, rank, dtype", FM_CASES)
def test_wukong_fm_training(batch, features, dim, rank, dtype):
    """The same with the gradients of both inputs."""
    return Tensor(batch, features, dim, dtype=dtype), Tensor(batch, features, rank, dtype=dtype)
