from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kevolve.evaluate.pairs import Sizes, fitted
from kevolve.targets import BlockPolicy

POLICY = BlockPolicy(min_us=5_000.0, min_calls=1, max_calls=1_000, warm_calls=3, cache="warm")


def _most_calls(sizes: Sizes, blocks: int) -> int:
    """By hand: an eighth more calls at the most, one at the least, and one for the judge's own clock."""
    longest = max(calls + max(1, calls // 8) + sizes.warm[side] for side, calls in sizes.calls.items())
    return (2 * sizes.rounds + blocks) * longest + 1


def test_sizes_stay_where_every_call_is_made_anew() -> None:
    sizes = Sizes(calls={"candidate": 400, "eager": 100}, warm={"candidate": 40, "eager": 10}, rounds=5)
    assert fitted(sizes, POLICY, float("inf"), blocks=1) == sizes


def test_rounds_go_before_blocks_get_shorter() -> None:
    sizes = Sizes(calls={"candidate": 80, "eager": 40}, warm={"candidate": 8, "eager": 4}, rounds=3)
    assert fitted(sizes, POLICY, 200, blocks=0) == Sizes(calls=sizes.calls, warm=sizes.warm, rounds=1)


@given(
    candidate=st.integers(1, 1000),
    eager=st.integers(1, 1000),
    rounds=st.integers(1, 5),
    left=st.integers(10, 3000),
    blocks=st.integers(0, 1),
)
def test_a_process_never_makes_more_calls_than_it_has_sets_left(candidate: int, eager: int, rounds: int, left: int, blocks: int) -> None:
    sizes = Sizes(calls={"candidate": candidate, "eager": eager}, warm={"candidate": 3, "eager": 100}, rounds=rounds)
    found = fitted(sizes, POLICY, left, blocks=blocks)
    assert _most_calls(found, blocks) <= left
    assert min(*found.calls.values(), *found.warm.values(), found.rounds) >= 1


def test_the_shortest_blocks_are_kept_even_where_sets_must_repeat() -> None:
    sizes = Sizes(calls={"candidate": 50, "eager": 7}, warm={"candidate": 5, "eager": 0}, rounds=2)
    assert fitted(sizes, POLICY, 2) == Sizes(calls={"candidate": 1, "eager": 1}, warm={"candidate": 1, "eager": 0}, rounds=1)
