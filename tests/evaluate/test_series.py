"""What a series believes of its clocks, and which forms it compares."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kevolve.evaluate.pairs import Pair
from kevolve.evaluate.runner import Answer, Block, Bound, Delivered, PairPlan
from kevolve.evaluate.scatter import Scatter
from kevolve.evaluate.series import Series
from kevolve.targets import BlockPolicy


def _block(launched: float, replayed: float | None) -> Block:
    return Block(launched_us=launched, replayed_us=replayed, calls=5, warm=1, wall_us=1e4)


def _series(
    *,
    bound_us: float = 10.0,
    pairs: int = 3,
    host: Any = (None, None),
    waited: float | None = None,
    used: float | None = None,
    **sides: tuple[float, float | None],
) -> Series:
    policy = BlockPolicy(min_us=1.0, min_calls=1, max_calls=1, warm_calls=0, cache="none", bound_us=bound_us)
    plan = PairPlan(
        policy=policy,
        pool=SimpleNamespace(sets=None),  # type: ignore[arg-type]
        mutates=(),
        budget_s=1.0,
        deadline_s=1.0,
        exact=False,
        clock=lambda: 0.0,
    )
    series = Series({name: lambda: None for name in sides}, plan, random.Random(1))  # type: ignore[misc,return-value]
    blocks = {name: (_block(*times), _block(*times)) for name, times in sides.items()}
    launched_us, replayed_us = host
    bound, replayed_bound = (
        None if host_us is None else Bound(host_us=host_us, waited_us=None if waited is None else waited * host_us, used_us=used)
        for host_us in (launched_us, replayed_us)
    )
    series.pairs = [Pair(blocks=blocks, answer=None, bound=bound, replayed_bound=replayed_bound) for _ in range(pairs)]
    return series


def test_eager_is_compared_as_launched_and_others_in_their_faster_forms() -> None:
    series = _series(candidate=(40.0, 20.0), eager=(80.0, 10.0), compile=(60.0, 30.0))
    assert series.log_ratios("eager") == pytest.approx([0.6931] * 3, abs=1e-4)
    assert series.log_ratios("compile") == pytest.approx([0.4055] * 3, abs=1e-4)


def test_large_outputs_are_asked_for_in_some_pairs_only_and_small_ones_in_all() -> None:
    asked = {}
    for name, elements in {"small": 1 << 10, "large": 1 << 23}.items():
        series = _series(pairs=1, candidate=(40.0, None), eager=(80.0, None))
        outputs = (torch.empty(elements, device="meta"),)
        series.pairs = [replace(series.pairs[0], answer=Answer(number=0, seed=0, outputs=outputs))]
        asked[name] = sum(series._next_plan().answers for _ in range(400))
    assert asked["small"] == 400
    assert 50 < asked["large"] < 150


def test_a_side_that_cannot_be_captured_is_compared_as_launched() -> None:
    series = _series(candidate=(40.0, None), compile=(60.0, 30.0))
    assert series.log_ratios("compile") == pytest.approx([-0.2877] * 3, abs=1e-4)


def test_the_scatter_between_processes_widens_an_interval_by_the_forms_that_are_compared() -> None:
    series = _series(candidate=(40.0, 20.0), eager=(80.0, 10.0), compile=(60.0, 30.0))
    scatter = Scatter(launched_us=0.4, replayed_us=0.0, processes=16)
    assert series.speedup("eager").low == pytest.approx(2.0)
    wider = series.speedup("eager", scatter)
    assert wider.estimate == pytest.approx(2.0)
    assert math.log(wider.high / wider.estimate) == pytest.approx(2.947 * math.hypot(0.4 / 40, 0.4 / 80), rel=1e-3)
    assert series.speedup("compile", scatter).low == pytest.approx(1.5)  # both replayed


def test_one_form_of_both_sides_is_compared_where_it_is_named() -> None:
    series = _series(candidate=(40.0, 41.0), compile=(60.0, 30.0))
    assert series.speedup("compile").estimate == pytest.approx(30 / 40)  # the faster form of each
    assert series.speedup_in("compile", replayed=True).estimate == pytest.approx(30 / 41)
    scatter = Scatter(launched_us=0.4, replayed_us=0.0, processes=16)
    launched = series.speedup_in("compile", scatter, replayed=False)
    assert launched.estimate == pytest.approx(1.5)
    assert math.log(launched.high / launched.estimate) == pytest.approx(2.947 * math.hypot(0.4 / 40, 0.4 / 60), rel=1e-3)


def test_a_host_that_takes_a_launchs_time_longer_proves_nothing_but_far_more_does() -> None:
    honest = {"candidate": (5.0, 4.0), "eager": (9.0, 8.0)}
    assert _series(bound_us=150.0, host=(60.0, 5.0), **honest).overclaimed() is None
    assert _series(bound_us=10.0, host=(60.0, 5.0), **honest).overclaimed() == (
        "takes 12.0 times what its process claims by the judge's clock, in every pair: 60 us a call, one after another"
    )


def test_replays_are_held_to_the_judges_clock_more_closely() -> None:
    claims = _series(bound_us=150.0, host=(100.0, 100.0), candidate=(60.0, 50.0), eager=(99.0, 99.0)).overclaimed()
    assert claims == "takes 2.0 times what its process claims by the judge's clock, in every pair: 100 us a call, replayed"


def test_a_launch_cannot_be_much_quicker_than_a_replay() -> None:
    claims = _series(bound_us=150.0, host=(100.0, 100.0), candidate=(50.0, 100.0), eager=(99.0, 99.0)).overclaimed()
    assert claims == "claims calls 2.0 times as quick launched as replayed, in every pair"


def test_a_host_that_is_busy_longer_than_the_device_is_no_lie_where_replays_take_what_is_claimed() -> None:
    wrapper = _series(bound_us=10.0, host=(300.0, 41.0), candidate=(40.0, 39.0), eager=(99.0, 99.0))
    assert wrapper.overclaimed() is not None
    assert wrapper.host_bound() == "the host is busy for 300 us a call by the judge's clock, the device for 40 us"


@pytest.mark.parametrize(
    "host, candidate", [((300.0, None), (40.0, None)), ((300.0, 300.0), (40.0, 39.0)), ((300.0, 110.0), (40.0, 100.0))]
)
def test_without_replays_that_take_what_is_claimed_a_slow_call_is_not_put_down_to_the_host(host: Any, candidate: Any) -> None:
    assert _series(bound_us=10.0, host=host, candidate=candidate, eager=(99.0, 99.0)).host_bound() is None


CLAIMS = {"candidate": (5.0, None), "eager": (9.0, None)}


def test_a_process_that_had_no_core_for_what_is_missing_is_no_liar() -> None:
    busy = _series(host=(100.0, None), waited=0.95, **CLAIMS)
    assert str(busy.overclaimed()).startswith("takes 20.0 times what its process claims by the judge's clock, in every pair")
    assert busy.starved() == "other load: its process waited for a core 95% of the time by the judge's clock"


@pytest.mark.parametrize("waited", [0.0, 0.5, 0.8])
def test_a_real_overclaim_is_one_on_a_busy_machine_too(waited: float) -> None:
    liar = _series(host=(100.0, None), waited=waited, **CLAIMS)
    assert liar.overclaimed() is not None
    assert liar.starved() is None


@pytest.mark.parametrize("stalled, beyond", [(0.08, True), (0.20, True), (0.24, False), (0.9, False)])
def test_a_machine_that_stood_still_explains_four_times_its_share_and_no_more(stalled: float, beyond: bool) -> None:
    assert _series(host=(100.0, None), waited=0.0, **CLAIMS).beyond(stalled) is beyond


def test_a_system_that_does_not_say_how_long_a_process_waited_excuses_nothing_by_it() -> None:
    unknown = _series(host=(100.0, None), **CLAIMS)
    assert (unknown.waits_known, unknown.starved()) == (False, None)
    assert _series(host=(100.0, None), waited=0.0, **CLAIMS).waits_known


@pytest.mark.parametrize(("used", "vindicated"), [(6.0, True), (17.0, True), (40.0, False), (None, False)])
def test_a_starved_process_did_no_more_than_it_claims_only_where_all_its_threads_used_no_more(used: float | None, vindicated: bool) -> None:
    """Threads of its own that made it wait would have used cores."""
    busy = _series(host=(100.0, None), waited=0.95, used=used, **CLAIMS)
    assert busy.starved() is not None
    assert busy.vindicated is vindicated


def test_one_pair_in_which_more_was_done_than_is_claimed_is_enough_to_doubt() -> None:
    busy = _series(host=(100.0, None), waited=0.95, used=6.0, **CLAIMS)
    bound = busy.pairs[1].bound
    assert bound is not None
    busy.pairs[1] = replace(busy.pairs[1], bound=replace(bound, used_us=60.0))
    assert not busy.vindicated


def _delivering(least_us: float, idle_us: float, claimed_us: float, host_us: float | None = None) -> Series:
    series = _series(host=(host_us or claimed_us, None), candidate=(claimed_us, None), eager=(99.0, None))
    answer = Answer(number=0, seed=0, outputs=())
    series.pairs = [replace(pair, delivered=Delivered(least_us=least_us, answer=answer), idle_us=idle_us) for pair in series.pairs]
    return series


def test_calls_whose_outputs_are_handed_over_bound_what_is_claimed() -> None:
    assert _delivering(150.0, 100.0, 20.0).overclaimed() is None  # a quarter more than stands beside the calls is allowed
    assert _delivering(170.0, 100.0, 20.0).overclaimed() is None  # nor is it held against a call that it finds its caches cold
    assert _delivering(1725.0, 100.0, 1000.0).overclaimed() is not None, "which is little of a long call"
    assert str(_delivering(400.0, 100.0, 20.0).overclaimed()).startswith(
        "takes 13.8 times what its process claims by the judge's clock, in every pair"
    )
    assert len(_series(candidate=(1.0, None), eager=(2.0, None)).answers) == 0


def test_threads_spun_only_where_no_other_clock_contradicts_the_claim_and_that_not_by_much() -> None:
    assert _delivering(230.0, 100.0, 20.0).spun
    assert not _delivering(230.0, 100.0, 20.0, host_us=400.0).spun
    assert not _delivering(400.0, 100.0, 20.0).spun, "so much that no waiting explains it"
    assert not _delivering(150.0, 100.0, 20.0).spun
