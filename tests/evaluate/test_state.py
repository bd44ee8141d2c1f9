"""What a child makes of what a kernel returns."""

from __future__ import annotations

from kevolve.evaluate.state import as_tuple


def test_none_is_no_output_and_nested_tuples_are_flattened() -> None:
    assert as_tuple(None) == ()
    assert as_tuple(3) == (3,)
    assert as_tuple((1, [2, (3, None)], ())) == (1, 2, 3)
