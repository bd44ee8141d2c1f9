import random
from dataclasses import replace

import pytest

from kevolve.report.merge import by_device, environment_of, history, latest, merge
from kevolve.report.record import Record, Times


@pytest.fixture
def later(record):
    """The same run a day on, faster in its first case, with a case more and without the others."""
    first = replace(record.results[0], time_us=Times(launched=17000))
    return replace(
        record,
        environment=replace(record.environment, date="2026-01-03T03:04:05+00:00", commit="d00d"),
        results=(first, replace(first, case="new")),
        properties=(),
        extra={"joules": 3},
    )


@pytest.fixture
def elsewhere(record):
    return replace(record, environment=replace(record.environment, device="H200", arch="sm90", date="2026-01-02T20:00:00Z"))


def test_rows_of_several_dates_become_a_history_and_the_newest_is_the_latest(record, later):
    merged = merge([record, later])
    times = [row.time_us.launched for row in history(merged)["rms_norm", "bfloat16-8192-4096", "cpu", "EPYC 7B13", "x86-64-v3"]]
    assert times == [18400, 17000]
    assert len(merged.results) == len(record.results) + 2
    found = [(row.case, row.time_us.launched) for row in latest(merged, merged.results)]
    assert found[:2] == [("bfloat16-8192-4096", 17000), ("new", 17000)]
    assert len(latest(merged, merged.results)) == len(record.results) + 1


def test_rows_of_another_machine_stand_beside_and_name_theirs(record, elsewhere):
    merged = merge([record, elsewhere])
    assert [place.device for place in merged.environments] == ["H200", "EPYC 7B13"]
    assert merged.environment == elsewhere.environment
    assert len(latest(merged, merged.results)) == 2 * len(record.results)
    assert {environment_of(merged, row).device for row in merged.results if row.extra.get("environment") == 1} == {"EPYC 7B13"}
    assert {environment_of(merged, row).device for row in merged.results if "environment" not in row.extra} == {"H200"}
    assert environment_of(merged, merged.properties[-1]).device == "EPYC 7B13"


def test_the_order_of_records_does_not_matter(record, later, elsewhere, full):
    records = [record, later, elsewhere, full]
    expected = merge(records)
    for seed in range(10):
        random.Random(seed).shuffle(records)
        assert merge(records) == expected


def test_a_record_merged_with_itself_or_merged_again_is_the_same(record, later, elsewhere):
    assert merge([record]) == record
    assert merge([record, record]) == record
    merged = merge([record, later, elsewhere])
    assert merge([merged, record]) == merged
    assert Record.from_json(merged.to_json()) == merged


def test_what_a_gate_and_a_search_added_is_kept(record, full, later):
    merged = merge([later, full])
    assert [row.verdict for row in merged.gate] == [row.verdict for row in full.gate]
    assert merged.sources == full.sources
    assert merged.prompts == full.prompts
    assert environment_of(merged, merged.searches[0]).date == record.environment.date
    assert merged.extra == {"joules": 3}


def test_a_date_that_is_none_never_hides_one(record, later):
    undated = replace(later, environment=replace(later.environment, date="yesterday"))
    merged = merge([undated, record])
    assert latest(merged, merged.results)[0].time_us.launched == 18400


def test_a_row_with_an_index_that_is_not_there_counts_as_the_first(record):
    odd = replace(record.results[0], extra={"environment": 7})
    assert environment_of(record, odd) == record.environment


def test_each_device_is_a_record_of_its_own_with_its_newest_rows(record, later, elsewhere):
    first, second = by_device(merge([record, later, elsewhere]))
    assert (first.environment, second.environment) == (later.environment, elsewhere.environment)
    assert [row.time_us.launched for row in first.results][:2] == [17000, 17000]
    assert len(first.results) == len(record.results) + 1
    assert second.results == elsewhere.results
    assert by_device(record) == [record]


def test_nothing_cannot_be_merged():
    with pytest.raises(ValueError, match="expected at least one record"):
        merge([])
