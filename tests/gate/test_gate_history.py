from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kevolve.gate.history import History, Stored, differences, paths
from kevolve.report import gate as table
from kevolve.report.record import Environment, Record, Result, Side, Speedup, Times, Verdict, write

HERE = Environment(
    device="A GPU",
    arch="x1",
    date="2026-03-01T00:00:00+00:00",
    versions={"driver": "1.2", "torch": "2.11.0"},
    toolchain={"triton": {"triton": "3.6.0"}},
    commit="0123456789abcdef",
)
ROW = Result(spec="scale", case="8-9", target="gpu", language="triton", status="PASSED", time_us=Times(launched=40.0, replayed=38.0))


def kept(folder: Path, name: str, environment: Environment = HERE, row: Result = ROW) -> Path:
    write(Record(environment=environment, results=(row,)), folder / name)
    return folder / name


def asked(history: History, *, form: str = "replayed", language: str = "triton") -> Stored | None:
    return history.of("scale", "8-9", "gpu", language, form, HERE)


def test_a_time_stored_under_the_same_conditions_may_be_compared(tmp_path: Path) -> None:
    found = asked(History([kept(tmp_path, "a.json")]))
    assert found is not None
    assert found.differs == ()
    assert found.line(39.9) == "38.0 us on 2026-03-01 (012345678), same device, driver and toolchain; now 5% slower"
    assert found.line(38.1) == "38.0 us on 2026-03-01 (012345678), same device, driver and toolchain; now the same"
    assert not found.apart(39.9)
    assert found.apart(42.0)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (replace(HERE, device="Another"), "device Another there, A GPU here"),
        (replace(HERE, versions={"torch": "2.11.0"}), "driver unknown there, 1.2 here"),
        (replace(HERE, versions={"driver": "1.2", "torch": "2.12.0"}), "torch 2.12.0 there, 2.11.0 here"),
        (replace(HERE, toolchain={"triton": {"triton": "3.5.0"}}), "triton 3.5.0 there, 3.6.0 here"),
        (replace(HERE, toolchain={}), "triton's toolchain unknown there, triton 3.6.0 here"),
    ],
)
def test_what_differs_makes_a_stored_time_advice_only_and_is_named(tmp_path: Path, there: Environment, said: str) -> None:
    found = asked(History([kept(tmp_path, "a.json", there)]))
    assert found is not None
    assert found.differs == (said,) == differences(there, HERE, "triton")
    assert found.line(380.0).endswith(f"; advisory only: {said}")
    assert not found.apart(380.0)


def test_a_time_that_may_be_compared_goes_before_a_newer_one_that_may_not_and_a_newer_before_an_older(tmp_path: Path) -> None:
    older = kept(tmp_path, "a.json", replace(HERE, date="2026-02-01T00:00:00+00:00"), replace(ROW, time_us=Times(replayed=30.0)))
    newer = kept(tmp_path, "b.json")
    other = kept(tmp_path, "c.json", replace(HERE, device="Another", date="2026-04-01T00:00:00+00:00"))
    found = asked(History([other, newer, older]))
    assert found is not None
    assert (found.us, found.date[:10]) == (38.0, "2026-03-01")


def test_forms_and_languages_are_kept_apart_and_what_is_no_record_is_a_problem_told(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{}")
    history = History([kept(tmp_path, "a.json"), tmp_path / "b.json", tmp_path / "missing.json"])
    launched = asked(history, form="launched")
    assert launched is not None
    assert launched.us == 40.0
    assert asked(history, language="cpp") is None
    assert len(history.problems) == 2
    assert "b.json: record: expected a field 'version'" in history.problems[0]


def test_patterns_are_below_the_rootdir(tmp_path: Path) -> None:
    kept(tmp_path, "a.json")
    assert paths(tmp_path, ["*.json", "a.*", "none/*.json"]) == [tmp_path / "a.json"]
    with pytest.raises(ValueError, match="expected patterns below the rootdir"):
        paths(tmp_path, [str(tmp_path / "*.json")])


def test_the_table_shows_stored_times_stars_those_of_other_conditions_and_tells_of_what_is_slower_than_before(tmp_path: Path) -> None:
    same, other = asked(History([kept(tmp_path, "a.json")])), asked(History([kept(tmp_path, "b.json", replace(HERE, device="Another"))]))
    assert same is not None
    assert other is not None
    side, ratio = Side(path="kernels/scale/gpu.py", hash="1", time_us=50.0), Speedup(estimate=1.0, low=0.99, high=1.01)
    rows = [
        Verdict(
            spec="scale",
            case=case,
            target="gpu",
            language="triton",
            verdict="same",
            old=side,
            new=side,
            ratio=ratio,
            extra={"history": stored.to_json(50.0)},
        )
        for case, stored in (("8-9", same), ("9-9", other))
    ]
    said = table.summary(rows, 160)
    assert "38.0 us*" in said
    assert "stored: scale[8-9]: 38.0 us on 2026-03-01 (012345678), same device, driver and toolchain; now 32% slower" in said
    assert "* stored under other conditions, advisory only: device Another there, A GPU here" in said
    assert max(map(len, table.summary(rows, 80).splitlines())) <= 80
