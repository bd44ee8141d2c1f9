"""Operators that are dispatched, and writes beside what was allocated."""

from __future__ import annotations

import pytest
import torch

from kevolve.evaluate.watch import StrayWrite, Watch


def beside(tensor: torch.Tensor, bytes_away: int) -> None:
    """Write one byte before the tensor's start (negative) or after its end."""
    storage = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    start = tensor.storage_offset() * tensor.element_size()
    storage[start + bytes_away if bytes_away < 0 else start + tensor.nbytes + bytes_away] = 1


def test_operators_are_named_in_order() -> None:
    with (watch := Watch()):
        torch.ones(3) * 2
    assert list(watch.names) == ["aten::ones", "aten::mul"]


@pytest.mark.parametrize("make", [lambda: torch.empty(3, 5), lambda: torch.zeros(7), lambda: torch.empty_strided((2, 3), (1, 2))])
@pytest.mark.parametrize(("away", "side"), [(0, "beyond the end"), (4000, "beyond the end"), (-1, "before the start")])
def test_a_byte_beside_an_allocation_is_noticed(make: object, away: int, side: str) -> None:
    with (watch := Watch()):
        made = make()  # type: ignore[operator]
    watch.look()
    with watch:
        made = make()  # type: ignore[operator]
    beside(made, away)
    with pytest.raises(StrayWrite, match=f"wrote {side} of a tensor of {made.nbytes} bytes that it had allocated"):
        watch.look()


def test_guarded_tensors_are_what_was_asked_for() -> None:
    with (watch := Watch()):
        full, strided = torch.full((2, 3), 4.0, dtype=torch.bfloat16), torch.empty_strided((2, 3), (1, 2), dtype=torch.int64)
        empty = torch.empty(0, 5)
    assert full.tolist() == [[4.0] * 3] * 2
    assert (full.dtype, full.stride(), full.is_contiguous(), type(full)) == (torch.bfloat16, (3, 1), True, torch.Tensor)
    assert (strided.shape, strided.stride(), strided.data_ptr() % 64) == ((2, 3), (1, 2), 0)
    assert empty.shape == (0, 5)
    full.fill_(1), strided.fill_(1)
    watch.look()
