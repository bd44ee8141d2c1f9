"""Contents that stay on a device: rewritten whole, in several sets of buffers, and made again by the judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve.evaluate.contents import Pool, case_pool
from kevolve.evaluate.resident import (
    REPLAYED_FROM,
    Resident,
    batch_size,
    captured_numbers,
    replayed_numbers,
    set_count,
)
from kevolve.spec.inputs import Jagged, Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec

SEED = 77


def _pool(describe: Callable[..., Any], *inputs: str, **more: Any) -> Pool:
    reference = Reference(module="m", qualname="f", file=Path("m.py"), inputs=inputs)
    spec = Spec(
        name="f", nodeid="n", folder=Path(), describe=describe, reference=reference, cases=(), vary={}, choices={}, hash="h", **more
    )
    return case_pool(spec, Case(id="c", values={}), seed=7)


def _make(sizes: Any, generator: torch.Generator) -> Any:
    count = int(torch.randint(1, 9, (), generator=generator))
    return torch.randn(count, generator=generator), count


def test_contents_follow_from_the_number_alone_whichever_buffers_hold_them() -> None:
    with _pool(lambda: (Tensor(3, 50), Tensor(9, dtype="int64", low=0, high=99), 2.5), "x", "y", "k") as pool:
        one, other = Resident(pool.fd, pool.layout, SEED, sets=3), Resident(pool.fd, pool.layout, SEED)
        for number in (0, 5, 4, REPLAYED_FROM + 3):
            for mine, theirs in zip(one.inputs(number, 1), other.inputs(number), strict=True):
                assert torch.equal(torch.as_tensor(mine), torch.as_tensor(theirs))


def test_a_large_input_is_rewritten_whole_before_every_call() -> None:
    with _pool(lambda: (Tensor(3 << 20),), "x") as pool:
        contents = Resident(pool.fd, pool.layout, SEED)
        (x,) = contents.inputs(0)
        before = x.clone()
        contents.inputs(1)
        assert float((x != before).float().mean()) > 0.999


def test_calls_take_their_sets_in_turn_and_a_release_gives_others() -> None:
    with _pool(lambda: (Tensor(64),), "x") as pool:
        contents = Resident(pool.fd, pool.layout, SEED, sets=2)
        held = [contents.inputs(number)[0] for number in range(4)]
        assert [tensor.data_ptr() for tensor in held[:2]] == [tensor.data_ptr() for tensor in held[2:]]
        assert held[0].data_ptr() != held[1].data_ptr()
        contents.release(SEED + 1)
        assert contents.inputs(0)[0].data_ptr() not in {tensor.data_ptr() for tensor in held}


def test_mutated_inputs_are_written_anew_and_jagged_lengths_keep_their_sum() -> None:
    with _pool(lambda: (Jagged(rows=9, max_length=5), Tensor(4)), "lengths", "values", "state", mutates=("state",)) as pool:
        contents = Resident(pool.fd, pool.layout, SEED)
        lengths, values, state = contents.inputs(0)
        state.fill_(99.0)
        assert int(contents.inputs(1)[0].sum()) == len(values) == int(lengths.sum())
        assert not bool((contents.inputs(2)[2] == 99.0).any())


def test_a_banks_rows_keep_buffers_of_their_own_shapes() -> None:
    with _pool(lambda: _make, "x", "count") as pool:
        contents = Resident(pool.fd, pool.layout, SEED)
        rows = len(pool.layout)
        seen = [contents.inputs(number) for number in range(rows)]
        assert all(len(x) == count for x, count in seen)
        seen[0][0].fill_(7.0)
        again = contents.inputs(rows)
        assert again[0].data_ptr() == seen[0][0].data_ptr()
        assert not bool((again[0] == 7.0).all())


def test_as_many_sets_as_memory_holds_and_two_at_least() -> None:
    with _pool(lambda: (Tensor(1024),), "x") as pool:
        assert set_count(pool.layout, 16, 1 << 20) == 16
        assert set_count(pool.layout, 16, 5 * 8192) == 5
        assert set_count(pool.layout, 16, 1) == 2
        assert set_count(pool.layout, 1, 1 << 20) == 1
        assert batch_size(pool.layout, 16) == 16
    with _pool(lambda: (Tensor(5 << 20),), "x") as pool:
        assert batch_size(pool.layout, 16) == 1


def test_replays_go_through_new_contents_group_after_group() -> None:
    with _pool(lambda: (Tensor(8),), "x") as pool:
        assert captured_numbers(pool.layout, SEED, 100, 4) == [100, 101, 102, 103]
        assert replayed_numbers(pool.layout, SEED, 104, count=2, sets=4, batch=2) == [[104, 105], [106, 107]]


@pytest.mark.parametrize("batch", [1, 4])
def test_replays_of_a_bank_use_the_rows_that_were_captured(batch: int) -> None:
    with _pool(lambda: _make, "x", "count") as pool:
        contents = Resident(pool.fd, pool.layout, SEED, sets=4)
        captured = captured_numbers(pool.layout, SEED, REPLAYED_FROM, 4)
        shapes = [contents.inputs(number, into)[0].shape for into, number in enumerate(captured)]
        numbers = replayed_numbers(pool.layout, SEED, captured[-1] + 1, count=5, sets=4, batch=batch)
        for replay, group in enumerate(numbers):
            first = replay % (4 // batch) * batch
            assert [contents.inputs(number)[0].shape for number in group] == shapes[first : first + batch]
        flat = [number for group in numbers for number in group]
        assert flat == sorted(set(flat))


def test_a_banks_large_buffers_are_made_before_the_first_call() -> None:
    def large(sizes: Any, generator: torch.Generator) -> tuple[Any, ...]:
        return (torch.randn(1 << 19, generator=generator), 3)

    with _pool(lambda: large, "x", "count") as pool:
        contents = Resident(pool.fd, pool.layout, SEED, sets=2)
        first = contents.inputs(0)[0].data_ptr()
        held = {buffer.data_ptr() for buffer in contents._banked.values()}
        assert len(held) == len(pool.layout) > 1
        assert first in held
        assert {contents.inputs(number)[0].data_ptr() for number in range(40)} <= held
