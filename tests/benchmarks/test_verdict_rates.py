"""Resampling recorded pairs: blocks stay together, rates follow the rules, and what is asked is told from what is not."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.documents import put
from benchmarks.verdicts import Recorded, Simulated, at_most, estimated, load, main, rate
from kevolve.evaluate.statistics import Shared


def recorded(deviation: float, *, between: float = 0.0, us: float = 130.0, blocks: int = 12, shared: float = 0.0) -> Recorded:
    rng = random.Random(1)
    made = []
    for _ in range(blocks):
        mean = rng.gauss(0.0, between)
        made.append([{"launched": mean + rng.gauss(0.0, deviation)} for _ in range(7)])
    known = {"launched": Shared(deviation=shared, count=16)} if shared else {}
    return Recorded(part="unchanged", us={"launched": us}, blocks=made, shared=known, verdicts={"same": blocks}, wanted=0.0)


def test_a_simulated_look_takes_all_its_pairs_from_one_block() -> None:
    blocks = [[{"launched": 10.0 * number + place} for place in range(7)] for number in range(3)]
    simulated = Simulated(Recorded(part="", us={"launched": 1.0}, blocks=blocks, shared={}, verdicts={}, wanted=0.0), random.Random(1))
    for _ in range(50):
        values = [pair["launched"] for pair in simulated.seven()]
        assert max(values) - min(values) < 8  # 3 * sqrt(7/6) to either side of one block's middle


def test_forms_of_a_pair_stay_together() -> None:
    blocks = [[{"launched": float(place), "replayed": -float(place)} for place in range(7)]]
    simulated = Simulated(Recorded(part="", us={"launched": 1.0}, blocks=blocks, shared={}, verdicts={}, wanted=0.0), random.Random(1))
    assert all(pair["launched"] == pytest.approx(-pair["replayed"]) for pair in simulated.seven())


def test_quiet_pairs_give_no_false_alarm_and_find_three_percent() -> None:
    quiet = recorded(0.002, between=0.001)
    assert rate(quiet, "x", "gate", slowdown=0.0, verdicts=400).slower == 0
    found = rate(quiet, "x", "gate", slowdown=0.03, verdicts=200)
    assert (found.slower, found.asked, found.right) == (200, True, True)


def test_what_is_not_found_where_it_is_asked_fails_and_elsewhere_is_only_counted() -> None:
    noisy = rate(recorded(0.05), "x", "gate", slowdown=0.03, verdicts=100)
    assert (noisy.asked, noisy.right) == (True, False)
    small = rate(recorded(0.05, us=5.0), "x", "gate", slowdown=0.03, verdicts=100)
    assert (small.asked, small.right) == (False, True)


def test_processes_further_apart_than_their_scatter_says_give_false_alarms() -> None:
    """The simulation can find a rule wrong: blocks put apart, and no scatter term."""
    apart = recorded(0.001, between=0.03, blocks=40)
    assert rate(apart, "x", "gate", slowdown=0.0, verdicts=300).slower > 3
    known = recorded(0.001, between=0.03, blocks=40, shared=0.03)
    assert rate(known, "x", "gate", slowdown=0.0, verdicts=300).slower == 0


def test_what_seven_pairs_scatter_by_themselves_is_not_taken_for_processes_that_lie_apart() -> None:
    assert estimated(recorded(0.01, blocks=400).blocks, "launched") < 0.4
    assert estimated(recorded(0.01, between=0.05, blocks=400).blocks, "launched") > 0.95


def test_a_run_against_min_speedup_needs_two_looks_too() -> None:
    equal = recorded(0.01)
    assert rate(equal, "x", "min_speedup", slowdown=0.0, verdicts=1000).slower <= 1
    assert rate(equal, "x", "min_speedup", slowdown=0.10, verdicts=100).slower == 100


@pytest.mark.parametrize(("count", "runs", "bound"), [(0, 1000, 0.002991), (1, 1000, 0.004735), (5, 5, 1.0)])
def test_the_bound_is_clopper_and_pearson_s(count: int, runs: int, bound: float) -> None:
    assert at_most(count, runs) == pytest.approx(bound, rel=1e-3)


def verdict(**more: Any) -> dict[str, Any]:
    ratio = {"estimate": 1.0, "low": 0.99, "high": 1 / 0.99}
    given = {"verdict": "same", "ratio": ratio, "ratios": {"launched": ratio}, "first": None, "old_us": {"launched": 130.0}, "pairs": 7}
    return given | more


def file(path: Path, verdicts: list[dict[str, Any]]) -> Path:
    row = {"part": "unchanged-130", "wanted": 0.0, "verdicts": verdicts}
    environment = {"name": "a device", "torch": "2.11.0"}
    path.write_text(json.dumps({"environment": environment, "scatter": None, "results": [row]}))
    return path


def test_recorded_looks_are_read_in_whole_blocks_first_looks_too(tmp_path: Path) -> None:
    pairs = {"launched": [0.001 * number for number in range(14)]}
    given = [verdict(log_ratios=pairs, first_log_ratios={"launched": [0.0] * 7}, pairs=14), {"verdict": "untimed", "message": "x"}]
    device, (part,) = load(file(tmp_path / "a.json", given))
    assert device == "a device, torch 2.11.0"
    assert [len(block) for block in part.blocks] == [7, 7, 7]
    assert part.blocks[1][0]["launched"] == pytest.approx(0.007)
    assert (part.rebuilt, part.verdicts) == (False, {"same": 1, "untimed": 1})


def test_pairs_of_a_file_that_kept_none_have_its_intervals_mean_and_width(tmp_path: Path) -> None:
    _, (part,) = load(file(tmp_path / "a.json", [verdict()]))
    values = [pair["launched"] for pair in part.blocks[0]]
    mean = math.fsum(values) / 7
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 6)
    assert part.rebuilt
    assert mean == pytest.approx(0.0, abs=1e-12)
    assert 3.7074 * deviation / math.sqrt(7) == pytest.approx(-math.log(0.99), rel=1e-3)


def test_the_document_s_tables_are_written_between_its_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "statistics.md"
    document.write_text("before\n<!-- statistics: begin -->\nstale\n<!-- statistics: end -->\nafter\n")
    rng = random.Random(2)
    looks = [verdict(log_ratios={"launched": [rng.gauss(0, 0.002) for _ in range(7)]}) for _ in range(9)]
    given = [str(file(tmp_path / "a.json", looks)), "--verdicts", "50", "--out", str(document), "--json", str(tmp_path / "b.json")]
    monkeypatch.setattr("sys.argv", ["verdicts", "resample", *given])
    assert main() == 0
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text  # noqa: PT018  # one thing
    assert "| a device | unchanged-130, a | gate" in text
    assert json.loads((tmp_path / "b.json").read_text())["recorded"][0]["pairs"] == 63
    assert "Slowdowns found:" in capsys.readouterr().out


def test_a_document_without_markers_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("nothing")
    with pytest.raises(ValueError, match="found them 0 times"):
        put(tmp_path / "a.md", "tolerances", "text")
