from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve.evaluate import contents
from kevolve.evaluate.contents import REFRESH_BYTES, STRIDE, Contents, Pool, case_pool
from kevolve.evaluate.materialise import materialise
from kevolve.spec.inputs import Jagged, Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Draw, Spec

SEED = 12345


def _spec(describe: Callable[..., Any], *inputs: str, **more: Any) -> Spec:
    reference = Reference(module="m", qualname="f", file=Path("m.py"), inputs=inputs)
    return Spec(
        name="f", nodeid="n", folder=Path(), describe=describe, reference=reference, cases=(), vary={}, choices={}, hash="h", **more
    )


def _pool(spec: Spec, **values: Any) -> Pool:
    return case_pool(spec, Case(id="c", values=values), seed=7)


def _sequence(pool: Pool, count: int) -> Iterator[tuple[Any, ...]]:
    contents = Contents(pool.fd, pool.layout, SEED)
    for number in range(count):
        yield tuple(value.clone() if isinstance(value, torch.Tensor) else value for value in contents.inputs(number))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("layout", [None, "strided", "transposed", "broadcast"])
def test_no_two_calls_get_the_same_contents(dtype: str, layout: str | None) -> None:
    with _pool(_spec(lambda: (Tensor(8, 64, dtype=dtype, layout=layout),), "x")) as pool:
        seen = [inputs[0] for inputs in _sequence(pool, 40)]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(seen, 2))
    assert len({tensor.stride() for tensor in seen}) == 1


def test_the_judge_makes_the_contents_of_any_call_again() -> None:
    spec = _spec(lambda: (Tensor(3, REFRESH_BYTES // 8), Tensor(16, dtype="float16"), 2.5), "x", "y", "k")
    with _pool(spec) as pool:
        for number, inputs in enumerate(_sequence(pool, 9)):
            again = Contents(pool.fd, pool.layout, SEED).catch_up(number)
            assert torch.equal(again[0], inputs[0])
            assert torch.equal(again[1], inputs[1])
            assert again[2] == 2.5


def test_a_large_input_is_rewritten_in_pieces_and_every_piece_in_turn() -> None:
    with _pool(_spec(lambda: (Tensor(REFRESH_BYTES // 4 * 3 // 2),), "x")) as pool:
        one, other, third = (inputs[0] for inputs in _sequence(pool, 3))
    half = one.numel() // 2
    assert _changed(one[half:], other[half:]) > 0.99 * half
    assert _changed(other[:half], third[:half]) > 0.99 * half
    assert 0.9 * half // STRIDE < _changed(one[:half], other[:half]) <= half // STRIDE
    assert 0.9 * half // STRIDE < _changed(other[half:], third[half:]) <= half // STRIDE


def _changed(one: torch.Tensor, other: torch.Tensor) -> int:
    return int((one != other).sum())


def test_no_row_of_a_large_input_is_what_it_was_in_the_call_before() -> None:
    with _pool(_spec(lambda: (Tensor(4096, 2048),), "x")) as pool:
        before, after = (inputs[0] for inputs in _sequence(pool, 2))
    assert bool((before != after).any(dim=1).all())


def test_another_seed_gives_other_contents() -> None:
    with _pool(_spec(lambda: (Tensor(100),), "x")) as pool:
        one, other = (Contents(pool.fd, pool.layout, seed).inputs(0)[0] for seed in (1, 2))
    assert not torch.equal(one, other)


def test_sorted_unique_and_constant_inputs_stay_while_the_others_change() -> None:
    described = (Tensor(50, dtype="int64", low=0, high=10**6), Tensor(20, dtype="int64", low=0, high=10**6, sorted=True, unique=True))
    with _pool(_spec(lambda: (*described, Tensor(30)), "values", "ids", "weight", constant=("weight",))) as pool:
        one, other = _sequence(pool, 2)
    assert not torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[2], other[2])
    assert bool((one[1].diff() > 0).all())


def test_jagged_lengths_are_rotated_so_that_their_sum_stays() -> None:
    with _pool(_spec(lambda: (Jagged(rows=40, max_length=9),), "lengths", "values")) as pool:
        seen = list(_sequence(pool, 10))
    assert len({int(lengths.sum()) for lengths, _ in seen}) == 1
    assert all(int(lengths.sum()) == len(values) for lengths, values in seen)
    assert len({tuple(lengths.tolist()) for lengths, _ in seen}) > 3


def test_inputs_of_a_function_come_from_a_bank_of_whole_sets() -> None:
    def make(sizes: Any, generator: torch.Generator) -> Any:
        lengths = torch.randint(0, 5, (sizes["rows"],), generator=generator)
        return lengths, torch.randn(int(lengths.sum()), generator=generator), int(lengths[0])

    with _pool(_spec(lambda rows: make, "lengths", "values", "first"), rows=6) as pool:
        assert pool.sets == len(pool.layout) == 2048
        seen = list(_sequence(pool, 8))
    assert all(int(lengths.sum()) == len(values) and first == int(lengths[0]) for lengths, values, first in seen)
    assert len({tuple(lengths.tolist()) for lengths, _, _ in seen}) == 8


def test_processes_begin_at_other_places_of_a_bank_and_the_judge_knows_where() -> None:
    def make(sizes: Any, generator: torch.Generator) -> Any:
        return (torch.randn(4, generator=generator),)

    spec = _spec(lambda: make, "x")
    with _pool(spec) as pool:
        one, other = (Contents(pool.fd, pool.layout, seed).inputs(0)[0] for seed in (1, 2))
        (drawn,) = materialise(spec, Draw(values={}, seed=pool.draw_seed(0, 2)))
        assert not torch.equal(one, other)
        assert torch.equal(drawn, other)


def test_where_every_call_is_written_anew_there_is_no_end_of_sets() -> None:
    with _pool(_spec(lambda: (Tensor(64), Tensor(8, sorted=True)), "x", "y")) as pool:
        assert pool.sets is None


def test_mutated_inputs_are_written_anew_before_every_call() -> None:
    spec = _spec(
        lambda: (Tensor(4, 4), Tensor(9, dtype="int64", low=0, high=99, sorted=True)), "cache", "order", mutates=("cache", "order")
    )
    with _pool(spec) as pool:
        contents = Contents(pool.fd, pool.layout, SEED)
        before = contents.inputs(0)[1].clone()
        contents.inputs(1)[1].zero_()
        assert torch.equal(contents.inputs(2)[1], before)


def test_a_process_that_writes_to_the_pool_changes_only_its_own_view() -> None:
    with _pool(_spec(lambda: (Tensor(64),), "x")) as pool:
        mine, theirs = Contents(pool.fd, pool.layout, SEED), Contents(pool.fd, pool.layout, SEED)
        flat = mine._flats[0][0]
        assert flat is not None
        flat.fill_(float("nan"))
        assert not bool(theirs.inputs(0)[0].isnan().any())


def test_gradients_of_the_outputs_follow_the_inputs_and_stay() -> None:
    spec = _spec(lambda: (Tensor(8),), "x", grad=("x",))
    with case_pool(spec, Case(id="c", values={}), seed=7, grad_outputs=lambda draw, inputs: (torch.ones(3),)) as pool:
        assert pool.grad_outputs == 1
        one, other = _sequence(pool, 2)
    assert not torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_empty_inputs_are_no_trouble() -> None:
    with _pool(_spec(lambda: (Tensor(0, 5), Tensor(3)), "x", "y")) as pool:
        (inputs,) = _sequence(pool, 1)
    assert inputs[0].shape == (0, 5)


def test_memory_that_the_system_holds_for_a_moment_is_sealed_when_it_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals, tried = [errno.EBUSY, errno.EBUSY], []

    def add(fd: int, command: int, seals: int) -> int:
        tried.append(seals)
        if refusals:
            raise OSError(refusals.pop(), "busy")
        return 0

    monkeypatch.setattr(contents.fcntl, "fcntl", add)
    contents._seal(7, 3)
    assert tried == [3, 3, 3]
    refusals.append(errno.EPERM)
    with pytest.raises(OSError, match="busy"):
        contents._seal(7, 3)
