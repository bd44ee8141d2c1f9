"""Replaying a landscape counts evaluations as a search would make them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.search import replay
from benchmarks.search.landscape import FOLDER, Landscape, stored
from benchmarks.search.replay import RANDOM, RANDOM_FROM_DEFAULT, compare, evaluations, rows, verdict

BEST = {(8, 4): 10.0, (8, 2): 10.4, (4, 4): 30.0}
TOY = Landscape(
    name="toy",
    about={},
    knobs={"block": (1, 2, 4, 8), "warps": (1, 2, 4)},
    times_us={(b, w): None if (b, w) == (1, 4) else BEST.get((b, w), 80.0 / b + 5.0 / w) for b in (1, 2, 4, 8) for w in (1, 2, 4)},
)


def test_random_search_counts_until_a_setting_within_five_percent() -> None:
    counts = [evaluations(TOY, RANDOM, "default", seed) for seed in range(300)]
    assert (min(counts), max(counts)) == (1, 11)
    assert statistics.mean(counts) == pytest.approx(13 / 3, abs=0.4)  # two good ones of twelve
    assert min(evaluations(TOY, RANDOM_FROM_DEFAULT, "default", seed) for seed in range(50)) == 2  # the default first, which is not good


def test_a_policy_begins_with_the_default_and_tunes_it() -> None:
    times = list(replay.policy_search(TOY, "best-first", replay.order_of(TOY, "default", 0), 0))
    assert times[0] == 85.0
    assert 10.0 in times
    assert evaluations(TOY, "best-first", "default", 0) <= 8


def test_a_search_that_begins_anywhere_drafts_until_something_works() -> None:
    failing, *others = sorted(TOY.times_us, key=lambda setting: TOY.times_us[setting] is not None)
    times = list(replay.policy_search(TOY, "best-first", [failing, *others], 0))
    assert times[0] is None
    assert times[1] == TOY.times_us[others[0]]
    assert 10.0 in times


def test_equal_seeds_give_equal_counts() -> None:
    assert evaluations(TOY, "best-first", "random", 3) == evaluations(TOY, "best-first", "random", 3)


def test_the_table_says_what_part_of_random_search_was_needed(capsys: pytest.CaptureFixture[str]) -> None:
    results = compare([TOY], ["best-first", RANDOM], "default", 4, 1)
    assert [(row["landscape"], row["method"]) for row in rows(results)] == [("toy", "best-first"), ("toy", "random")]
    assert rows(results)[1]["of random's"] == "100%"
    assert verdict(results)["toy"] == results[0]["median"] / results[1]["median"]
    assert "toy: random: " in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_stored_landscapes_are_whole(path: Path) -> None:
    landscape = next(each for each in stored() if each.name == path.stem)
    assert len(landscape.times_us) >= 500
    assert len(landscape.times_us) == len(json.loads(path.read_text())["settings"])
    assert all(
        value in landscape.knobs[name] for setting in landscape.times_us for name, value in zip(landscape.knobs, setting, strict=True)
    )
    assert {"device", "torch", "triton", "clock", "shapes", "dtype"} <= set(landscape.about)
