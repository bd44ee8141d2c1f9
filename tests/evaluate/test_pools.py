"""Pools of a spec's cases: made once, beside other work, and given back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kevolve.evaluate.contents import Pool
from kevolve.evaluate.oracle import ReferenceFailed
from kevolve.evaluate.pools import Pools
from kevolve.evaluate.quiet import Quiet
from kevolve.spec.spec import Case
from tests.evaluate.example_specs import spec_of

CASES = tuple(Case(id=str(count), values={"n": count}) for count in (3, 5, 7))


def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def spec(make: Callable[..., Any]) -> Any:
    return spec_of(square, lambda n: make)


def held(pool: Pool) -> bool:
    try:
        os.fstat(pool.fd)
    except OSError:
        return False
    return True


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


def test_pools_are_made_side_by_side_once_each_and_told_of(quiet: Quiet) -> None:
    together = threading.Barrier(len(CASES), timeout=20)  # broken where one waits for another
    told: list[str] = []

    def make(values: Any, generator: torch.Generator) -> torch.Tensor:
        if values["n"] not in begun:
            begun.add(values["n"])
            together.wait()
        return torch.rand(values["n"], generator=generator)

    begun: set[int] = set()
    pools = Pools(spec(make), seed=3, quiet=quiet, made=lambda case, pool: told.append(case.id))
    pools.begin(CASES)
    found = [pools.of(case) for case in CASES]
    assert [pool.layout[0][0]["shape"] for pool in found] == [[3], [5], [7]]
    assert [pools.of(case) for case in CASES] == found
    assert sorted(told) == ["3", "5", "7"]
    assert all(map(held, found))
    pools.close()
    assert not any(map(held, found))


def test_inputs_that_cannot_be_made_are_said_to_whoever_asks_each_time(quiet: Quiet) -> None:
    def make(values: Any, generator: torch.Generator) -> torch.Tensor:
        raise ValueError("no such case")

    pools = Pools(spec(make), seed=3, quiet=quiet)
    pools.begin(CASES[:1])
    for _ in range(2):
        with pytest.raises(ReferenceFailed, match="no such case"):
            pools.of(CASES[0])
    pools.close()


def test_a_pool_in_the_making_is_given_back_when_it_is_made(quiet: Quiet) -> None:
    goes_on, made = threading.Event(), threading.Event()

    def make(values: Any, generator: torch.Generator) -> torch.Tensor:
        assert goes_on.wait(20)
        return torch.rand(values["n"], generator=generator)

    kept: list[Pool] = []
    pools = Pools(spec(make), seed=3, quiet=quiet, made=lambda case, pool: (kept.append(pool), made.set())[0])
    pools.begin(CASES[:1])
    future = pools._future(CASES[0])
    pools.close()
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())  # behind the one that closes it
    goes_on.set()
    assert ended.wait(20)
    assert made.is_set()
    assert not held(kept[0])


def test_nothing_is_made_while_something_is_timed(quiet: Quiet) -> None:
    begun = threading.Event()

    def make(values: Any, generator: torch.Generator) -> torch.Tensor:
        begun.set()
        return torch.rand(values["n"], generator=generator)

    pools = Pools(spec(make), seed=3, quiet=quiet)
    with quiet.during(()):
        pools.begin(CASES[:1])
        assert not begun.wait(0.3)
    pools.of(CASES[0])
    pools.close()
