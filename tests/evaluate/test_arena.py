"""Tensors laid out for another process, and outputs that nobody trusts."""

from __future__ import annotations

import mmap
import os
from typing import Any

import pytest
import torch

from kevolve.evaluate import arena as arenas
from kevolve.evaluate.arena import ALIGNMENT, Arena, BadMeta, Filler, Outputs, lay_out, pack, read_outputs, unpack
from kevolve.spec.dtypes import DTYPES

TENSORS = {
    "contiguous": torch.arange(12.0).view(3, 4),
    "transposed": torch.arange(12.0).view(3, 4).t(),
    "row pitch": torch.arange(40.0).view(4, 10)[:, :7],
    "offset": torch.arange(20.0)[3:].view(17),
    "broadcast": torch.arange(4.0).expand(3, 4),
    "every second": torch.arange(20.0)[1::2],
    "scalar": torch.tensor(2.5),
    "no rows": torch.empty(0, 5),
    "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
}


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    a_bytes, b_bytes = (tensor.reshape(-1).contiguous().view(torch.uint8) for tensor in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a_bytes, b_bytes)


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_keeps_its_values_strides_and_offset(name: str) -> None:
    tensor = TENSORS[name]
    with pack([[tensor]]) as arena:
        ((got,),) = unpack(arena.fd, arena.layout)
    assert isinstance(got, torch.Tensor)
    assert got.stride() == tensor.stride()
    assert got.storage_offset() == (tensor.storage_offset() if tensor.numel() else 0)
    assert same(got, tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_a_spec_goes_through(dtype: str) -> None:
    tensor = torch.tensor([0, 1, 1, 0, 1]).to(getattr(torch, dtype))
    with pack([[tensor]]) as arena:
        ((got,),) = unpack(arena.fd, arena.layout)
    assert isinstance(got, torch.Tensor)
    assert got.dtype == tensor.dtype
    assert torch.equal(got, tensor)


def test_numbers_and_none_go_through_unchanged() -> None:
    with pack([[1, 2.5, True, None]]) as arena:
        assert unpack(arena.fd, arena.layout) == [[1, 2.5, True, None]]


def test_each_tensor_has_an_aligned_storage_of_its_own() -> None:
    with pack([[torch.ones(3), torch.ones(5)]]) as arena:
        ((one, other),) = unpack(arena.fd, arena.layout)
        assert isinstance(one, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert (one.untyped_storage().nbytes(), other.untyped_storage().nbytes()) == (12, 20)
        assert one.data_ptr() % ALIGNMENT == other.data_ptr() % ALIGNMENT == 0


def test_an_untouched_arena_is_undisturbed() -> None:
    with pack([[torch.ones(3), 4], [torch.empty(0), torch.ones(2, 2)]]) as arena:
        unpack(arena.fd, arena.layout)
        assert arena.disturbed() == []


def test_a_written_input_and_both_guards_are_named() -> None:
    with pack([[torch.ones(3)], [torch.ones(3), torch.ones(5)]]) as arena:
        start = arena.layout[1][1][4]
        with mmap.mmap(arena.fd, os.fstat(arena.fd).st_size) as shared:
            shared[start - 1] = 0
            shared[start + 4] = 7
            shared[start + 20] = 0
        found = arena.disturbed()
    assert found == [
        "item 1: beyond the end of input 0",  # the guard between two inputs belongs to both
        "item 1: input 1",
        "item 1: before the start of input 1",
        "item 1: beyond the end of input 1",
    ]


def test_of_an_image_that_is_kept_any_written_byte_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arenas, "_PART_BYTES", 256)  # several parts of a file
    image = lay_out([[torch.ones(3)], [torch.ones(70), torch.arange(5) % 2 == 0]], keep=True)
    with Arena(image) as arena, mmap.mmap(arena.fd, image.size) as shared:
        assert arena.disturbed() == []
        assert shared[:] == bytes(image.kept.numpy())  # type: ignore[union-attr]
        places = [
            (slot[4] + byte, f"item {number}: input {at}")
            for number, slots in enumerate(image.layout)
            for at, slot in enumerate(slots)
            for byte in range(slot[5])
        ]
        for place, name in places:
            before = shared[place]
            shared[place] = before ^ 0x40
            assert arena.disturbed() == [name]
            shared[place] = before
        shared[image.size - 1] = 0
        assert arena.disturbed() == ["item 1: beyond the end of input 1"]


def test_an_input_that_may_change_is_not_named() -> None:
    with pack([[torch.ones(3)]]) as arena:
        ((shared,),) = unpack(arena.fd, arena.layout)
        assert isinstance(shared, torch.Tensor)
        shared.zero_()
        assert arena.disturbed(mutable=[0]) == []
        assert arena.disturbed(item=0) == ["item 0: input 0"]


def test_an_arena_cannot_be_resized() -> None:
    with pack([[torch.ones(3)]]) as arena:
        for size in (0, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(arena.fd, size)


def filled(outputs: Outputs, tensors: list[torch.Tensor]) -> list[list[Any]]:
    filler = Filler(outputs.fd, lambda size: os.ftruncate(outputs.fd, size))
    return [filler.put(tensor) for tensor in tensors]


@pytest.mark.parametrize("name", TENSORS)
def test_outputs_come_back_with_their_strides(name: str) -> None:
    tensor = TENSORS[name]
    with Outputs() as outputs:
        ((got,),) = read_outputs(outputs, [filled(outputs, [tensor])])
    assert same(got, tensor)
    assert name == "broadcast" or got.stride() == tensor.stride()


def test_the_output_arena_grows_as_asked() -> None:
    tensors = [torch.full((1000,), float(number)) for number in range(50)]
    with Outputs(bytes=64) as outputs:
        (got,) = read_outputs(outputs, [filled(outputs, tensors)])
        assert [tensor[0].item() for tensor in got] == list(range(50))


def test_outputs_are_copies() -> None:
    with Outputs() as outputs:
        ((got,),) = read_outputs(outputs, [filled(outputs, [torch.ones(4)])])
        filled(outputs, [torch.zeros(4)])
        assert got.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "meta",
    [
        ["float32", [4], [1]],
        ["complex64", [4], [1], 0],
        [["float32"], [4], [1], 0],
        ["float32", [-4], [1], 0],
        ["float32", [4], [1], -4],
        ["float32", [4], [1, 1], 0],
        ["float32", [1 << 40], [1], 0],
        ["float32", [1 << 40, 1 << 40], [1, 1], 0],
        ["float32", [4], [1], (1 << 20) - 8],
        ["float32", [2.0], [1], 0],
        ["float32", "4", [1], 0],
        "float32",
        None,
    ],
)
def test_a_meta_that_does_not_fit_is_refused(meta: Any) -> None:
    with Outputs() as outputs, pytest.raises(BadMeta):
        read_outputs(outputs, [[meta]])


def test_strides_that_would_take_much_memory_are_dropped() -> None:
    with Outputs() as outputs:
        ((got,),) = read_outputs(outputs, [[["float32", [2, 2], [1 << 40, 1], 0]]])
        assert got.stride() == (2, 1)
