"""Places are polynomials: what views divide and multiply again disappears, and nothing else does."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevolve.operators.lowering.index import Axis, Index, Quotient, Remainder, Size, bounded, exactly, is_at_least

ROWS, COLS = Size("rows"), Size("cols")
ROW, COL = Axis("row", Index.of(ROWS)), Axis("col", Index.of(COLS))


def worked_out(index: Index, values: dict[object, int]) -> int:
    total = 0
    for monomial, factor in index.terms:
        product = factor
        for atom in monomial:
            if isinstance(atom, Quotient):
                product *= worked_out(atom.above, values) // worked_out(atom.below, values)
            elif isinstance(atom, Remainder):
                product *= worked_out(atom.above, values) % worked_out(atom.below, values)
            else:
                product *= values[atom]
        total += product
    return total


def test_a_flat_place_gives_its_row_and_its_column_back() -> None:
    place = Index.of(ROW) * COLS + COL
    assert (place // COLS, place % COLS) == (Index.of(ROW), Index.of(COL))


def test_an_axis_cut_in_two_and_joined_is_the_axis_again() -> None:
    each = Size("each")
    whole = Axis("c", Index.of(ROWS) * each)
    high, low = Axis("high", Index.of(ROWS)), Axis("low", Index.of(each))
    cut = (Index.of(whole) // each).replaced(lambda atom: Index.of(high) * each + low if atom is whole else None)
    assert cut == Index.of(high)


def test_a_divisor_of_several_terms_divides_a_whole_coefficient() -> None:
    longer = Index.of(COLS) + 1
    col = Axis("col", longer)
    place = Index.of(ROW) * longer + col
    assert (place // longer, place % longer) == (Index.of(ROW), Index.of(col))
    assert exactly(longer * longer, longer) == longer


def test_what_is_not_known_to_be_below_stays_a_quotient() -> None:
    assert (Index.of(ROW) // COLS).atoms > {Quotient(Index.of(ROW), Index.of(COLS))}
    assert not is_at_least(Index.of(COLS), Index.of(ROWS))
    assert is_at_least(Index.of(COLS) - 1, Index.of(COL))


def test_two_axes_of_one_name_are_two() -> None:
    assert Index.of(Axis("i", Index.of(ROWS))) != Index.of(Axis("i", Index.of(ROWS)))


def test_a_coefficient_is_what_a_place_grows_by_and_none_where_that_changes() -> None:
    place = Index.of(ROW) * COLS + COL
    assert (place.coefficient(ROW), place.coefficient(COL)) == (Index.of(COLS), Index.of(1))
    assert (Index.of(ROW) // 2).coefficient(ROW) is None


def test_the_larger_of_two_is_found_where_it_is_known() -> None:
    assert bounded(Index.of(3), Index.of(5), largest=True) == Index.of(5)
    assert bounded(Index.of(COLS), Index.of(COL), largest=False) == Index.of(COL)


def test_nothing_is_divided_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        Index.of(ROW) // 0


@given(
    st.lists(st.tuples(st.integers(-4, 9), st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)), max_size=4),
    st.sampled_from(["cols", "rows", "3", "cols+2", "2*cols"]),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_quotient_and_remainder_are_those_of_the_numbers(
    terms: list[tuple[int, int, int, int]], divisor: str, rows: int, cols: int
) -> None:
    below = {"cols": Index.of(COLS), "rows": Index.of(ROWS), "3": Index.of(3), "cols+2": Index.of(COLS) + 2, "2*cols": Index.of(COLS) * 2}[
        divisor
    ]
    above = Index.of(0)
    for factor, row, col, size in terms:
        product = Index.of(factor)
        for atom in [ROW] * row + [COL] * col + [COLS] * size:
            product = product * atom
        above = above + product
    quotient, rest = above // below, above % below
    for row, col in itertools.product(range(rows), range(cols)):
        values: dict[object, int] = {ROW: row, COL: col, ROWS: rows, COLS: cols}
        number, divided = worked_out(above, values), worked_out(below, values)
        assert (worked_out(quotient, values), worked_out(rest, values)) == (number // divided, number % divided)
