"""Recommendation models: sorted search, jagged truncation, quantised embedding bags.

Where inputs depend on one another, a function makes them.
"""

from __future__ import annotations

import math

import pytest

import kevolve
from kevolve import Tensor, Work, choices, on, sizes
from reference_ops import recommendation

INT64 = 8  # bytes


def map_id_work(unique, batch, keys):
    """Every value is read, looked up somewhere among the ids and answered; of the ids, at most one path of the search a value is read."""
    looked_at = min(unique, batch * (1 + math.ceil(math.log2(max(unique, 2)))))
    return Work(bytes=INT64 * (2 * batch + looked_at), random_accesses=batch, random_bytes=INT64 * unique)


@kevolve.kernel(recommendation.map_id, min_speedup=1.2, vary=dict(unique=sizes(1, 20000), batch=sizes(0, 100_000)), work=map_id_work)
@pytest.mark.parametrize(
    "unique, batch, keys",
    [
        (100, 10_000, "dense"),
        (10_000, 10_000, "dense"),
        (10_000, 50_000, "dense"),
        pytest.param(1_000_000, 4_000_000, "random", marks=on("cuda")),
        pytest.param(1_000_000, 4_000_000, "clustered", marks=on("cuda")),
    ],
)
def test_map_id(unique, batch, keys):
    """The paper's sizes, every second number known, and a production batch with ids of 40 bits; about half the values known."""
    if keys != "dense":
        return map_id_inputs
    high = 2 * unique + 1
    return Tensor(batch, dtype="int64", low=0, high=high), Tensor(unique, dtype="int64", low=0, high=high, sorted=True, unique=True)


def map_id_inputs(arguments, generator):
    """Ascending ids, and values of which half were drawn from them and half beside them."""
    import torch

    ids = known_ids(arguments["unique"], arguments["keys"], generator)
    known = ids[torch.randint(0, len(ids), (arguments["batch"],), generator=generator)]
    others = torch.randint(0, 1 << 40, known.shape, generator=generator)
    if arguments["keys"] == "clustered":
        others = known + torch.randint(-900, 901, known.shape, generator=generator)
    return torch.where(torch.rand(known.shape, generator=generator) < 0.5, known, others), ids


def known_ids(count, keys, generator):
    """``count`` ascending ids of 40 bits, anywhere (``random``) or in runs of 500 with every third number known (``clustered``)."""
    import torch

    if keys == "random":
        drawn = torch.randint(0, 1 << 40, (count + count // 64 + 8,), generator=generator).unique()
    else:
        starts = torch.randint(0, 1 << 40, (count // 450 + 2, 1), generator=generator)
        drawn = (starts + torch.randint(1, 6, (len(starts), 500), generator=generator).cumsum(1)).unique()
    return drawn[torch.randperm(len(drawn), generator=generator)[:count].sort().values]


@kevolve.kernel(recommendation.mbdt, min_speedup=1.5, vary=dict(features=sizes(1, 64), batch=sizes(0, 4096), borders=sizes(0, 200)))
@pytest.mark.parametrize(
    "features, batch, borders",
    [
        (2, 2048, 4),
        pytest.param(32, 16384, 20, marks=on("cpu")),
        pytest.param(16, 8192, 200, marks=on("cpu")),
        pytest.param(64, 65536, 8, marks=on("cuda")),
        pytest.param(16, 65536, 200, marks=on("cuda")),
    ],
)
def test_mbdt(features, batch, borders):
    """The paper's size, production batches, and borders enough that counting them no longer pays."""
    return Tensor(features, batch), Tensor(features, borders, sorted=True)


def truncate_work(features, users, max_length, max_events):
    """Bytes expected from uniform lengths: all lengths are read; of the values, the kept ones are read and written."""
    kept = sum(min(length, max_events) for length in range(max_length + 1)) / (max_length + 1)
    users_bytes, events_bytes = 2 * INT64 * features * users, INT64 * features * users * max_length / 2
    return Work(bytes=0.8 * (users_bytes + events_bytes + features * users * kept * (INT64 + 2 * 4)))


@kevolve.kernel(
    recommendation.batch_event_truncate,
    min_speedup=1.5,
    vary=dict(features=sizes(1, 32), users=sizes(0, 64), max_length=sizes(0, 400), max_events=choices(0, 1, 2, 100, 200)),
    work=truncate_work,
)
@pytest.mark.parametrize(
    "features, users, max_length, max_events",
    [
        (9, 16, 200, 200),
        (32, 16, 200, 100),
        pytest.param(9, 512, 200, 100, marks=on("cpu")),
        pytest.param(32, 2048, 200, 100, marks=on("cuda")),
    ],
)
def test_batch_event_truncate(features, users, max_length, max_events):
    """The paper's sizes for a batch of 16 users, and a production batch; an event holds none to two values."""
    return truncate_inputs


def truncate_inputs(arguments, generator):
    """Lengths drawn uniformly; as many events and values as they say."""
    import torch

    features, users = arguments["features"], arguments["users"]
    outer = torch.randint(0, arguments["max_length"] + 1, (features, users), generator=generator)
    inner = torch.randint(0, 3, (int(outer.sum()),), generator=generator)
    values = torch.randn(int(inner.sum()), generator=generator)
    return outer, inner, values, arguments["max_events"]


def embedding_bag_work(vocabulary, dim, bags, pooling):
    """Each lookup reads a row, its scale and its index (three quarters of the rows expected, at the least); each bag is written."""
    rows = min(vocabulary, 0.75 * bags * pooling)
    return Work(bytes=rows * (dim + 4) + 0.75 * bags * pooling * INT64 + bags * (4 * dim + INT64))


@kevolve.kernel(
    recommendation.embedding_bag,
    min_speedup=1.5,
    vary=dict(vocabulary=sizes(1, 10000), dim=sizes(1, 512), bags=sizes(0, 512), pooling=sizes(0, 64)),
    work=embedding_bag_work,
)
@pytest.mark.parametrize(
    "vocabulary, dim, bags, pooling",
    [
        pytest.param(100_000, 128, 1024, 20, marks=on("cpu")),
        pytest.param(200_000, 64, 512, 50, marks=on("cpu")),
        pytest.param(1_000_000, 128, 65536, 20, marks=on("cuda")),
        pytest.param(2_000_000, 64, 16384, 50, marks=on("cuda")),
    ],
)
def test_embedding_bag(vocabulary, dim, bags, pooling):
    """Tables larger than the cache; bags of 0 to twice ``pooling`` rows."""
    return embedding_bag_inputs


def embedding_bag_inputs(arguments, generator):
    """A random table and scales; bag lengths drawn uniformly from 0 to twice the mean."""
    import torch

    vocabulary, dim, bags, pooling = (arguments[name] for name in ("vocabulary", "dim", "bags", "pooling"))
    table = torch.randint(-128, 128, (vocabulary, dim), dtype=torch.int8, generator=generator)
    scale = torch.rand(vocabulary, generator=generator) * 0.01
    offsets = torch.zeros(bags + 1, dtype=torch.int64)
    offsets[1:] = torch.randint(0, 2 * pooling + 1, (bags,), generator=generator).cumsum(0)
    indices = torch.randint(0, vocabulary, (int(offsets[-1]),), generator=generator)
    return table, scale, indices, offsets


@kevolve.kernel(
    recommendation.wukong_fm,
    min_speedup=1.5,
    vary=dict(batch=sizes(0, 16), features=sizes(1, 80), dim=sizes(1, 256), rank=sizes(1, 512)),
)
@pytest.mark.parametrize(
    "batch, features, dim, rank, dtype",
    [
        pytest.param(64, 24, 224, 448, "float32", marks=on("cpu")),
        pytest.param(16, 40, 224, 448, "float16", marks=on("cpu")),
        pytest.param(1024, 24, 224, 2198, "float16", marks=on("cuda")),
        pytest.param(1024, 40, 224, 448, "float16", marks=on("cuda")),
        pytest.param(1024, 48, 224, 448, "float16", marks=on("cuda")),
    ],
)
def test_wukong_fm(batch, features, dim, rank, dtype):
    """The paper's sizes; on the CPU a few of a batch."""
    return Tensor(batch, features, dim, dtype=dtype), Tensor(batch, features, rank, dtype=dtype)
