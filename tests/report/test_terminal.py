import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevolve.report.merge import merge
from kevolve.report.terminal import attention_first, geometric_mean, markdown, mean_line, summary, table

AT_80 = """\
EPYC 7B13 (x86-64-v3), cpu/cpp, 7 process pairs

spec                 case                status      time  eager  compile  light
-------------------  ------------------  -------  -------  -----  -------  -----
rms_norm             float32-1           slow     2.34 us  0.90x    0.80x    10%
softmax              float32-1           untimed
softmax              float32-2           untimed
rms_norm             bfloat16-8192-4096  passed   18.4 ms  5.10x    2.31x    61%
batch_eve…_truncate  int64-1024-200-9    passed    184 us  50.1x    12.3x    31%

TOO SLOW: 0.90x over eager, expected at least 1.20x (rms_norm[float32-1])
NOT MEASURED: two workers share the cores (-n2): run with -n0 to time kernels
  here (2 cases, softmax[float32-1] first)

INCORRECT NUMERICAL: 3 of 64 elements differ (softmax[properties])
properties: 1 of 2 specs passed, 4,624 draws compared, 6 excluded

geometric mean: 6.13x over eager (3 cases), 2.83x over torch.compile (3 cases)"""

# ruff: noqa: E501 - the table is as wide as it is
TABLE_AT_160 = """\
spec                  target  language  case                status           time  over eager          over torch.compile  of light  evals
--------------------  ------  --------  ------------------  ------------  -------  ------------------  ------------------  --------  -----
rms_norm              cpu     cpp       float32-1           too slow      2.34 us  0.90x [0.87, 0.93]  0.80x [0.78, 0.82]       10%     12
softmax               cpu     cpp       float32-1           not measured                                                                12
softmax               cpu     cpp       float32-2           not measured                                                                12
rms_norm              cpu     cpp       bfloat16-8192-4096  passed        18.4 ms  5.10x [4.95, 5.25]  2.31x [2.24, 2.38]       61%     12
batch_event_truncate  cpu     cpp       int64-1024-200-9    passed         184 us  50.1x [48.6, 51.6]  12.3x [11.9, 12.7]       31%     12"""


def test_the_summary_at_80_columns(record):
    assert summary(record, 80) == AT_80


def test_the_table_at_160_columns(record):
    assert TABLE_AT_160 in summary(record, 160)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 132, 160, 200])
def test_no_line_is_wider_than_the_terminal(record, width):
    assert max(len(line) for line in summary(record, width).splitlines()) <= width


def test_between_both_the_names_come_back_whole(record):
    text = summary(record, 100)
    assert "batch_event_truncate  int64-1024-200-9" in text
    assert "evals" in text


def test_a_record_without_rows_says_nothing(record):
    assert summary(dataclasses.replace(record, results=(), properties=()), 80) == ""


def test_property_plans_alone_are_told(record):
    text = summary(dataclasses.replace(record, results=()), 80)
    assert text.endswith("properties: 1 of 2 specs passed, 4,624 draws compared, 6 excluded")


def test_what_needs_a_person_comes_first_and_the_rest_keeps_its_order(record):
    rows = attention_first(record.results)
    assert [(row.spec, row.status) for row in rows] == [
        ("rms_norm", "TOO_SLOW"),
        ("softmax", "NOT_MEASURED"),
        ("softmax", "NOT_MEASURED"),
        ("rms_norm", "PASSED"),
        ("batch_event_truncate", "PASSED"),
    ]


def test_rows_of_two_targets_are_told_apart_at_every_width(record):
    other = dataclasses.replace(record.results[0], target="model")
    for width in (80, 100, 160):
        assert "target" in table([record.results[0], other], width).splitlines()[0].split()


def test_the_mean_counts_only_correct_and_timed_cases(record):
    wrong = dataclasses.replace(record.results[0], status="INCORRECT_NUMERICAL")
    assert mean_line([wrong]) == ""
    assert mean_line([wrong, record.results[1]]) == "geometric mean: 50.1x over eager (1 case), 12.3x over torch.compile (1 case)"


def test_a_reason_is_said_once_however_many_cases_it_has(record):
    assert summary(record, 160).count("two workers share the cores") == 1


def test_the_table_in_markdown(record):
    lines = markdown(record.results[:1]).splitlines()
    assert lines[0].startswith("| spec ")
    assert lines[1].startswith("|:")
    assert "5.10x [4.95, 5.25]" in lines[2]
    assert len(lines) == 3


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_the_geometric_mean_lies_between_the_values_and_scales_with_them(values):
    mean = geometric_mean(values)
    assert min(values) * (1 - 1e-9) <= mean <= max(values) * (1 + 1e-9)
    assert math.isclose(geometric_mean([2 * value for value in values]), 2 * mean)


def test_the_geometric_mean_of_nothing_is_nothing():
    assert geometric_mean([]) is None


def test_columns_that_say_nothing_leave_their_room_to_the_names(record):
    silent = [dataclasses.replace(row, speedup={}, evaluations=None) for row in record.results]
    assert table(silent, 80).splitlines()[0].split() == ["spec", "case", "status", "time", "of", "light"]
    assert "batch_event_truncate  int64-1024-200-9" in table(silent, 80)


def test_machines_of_a_merged_record_are_summed_up_one_by_one(record):
    other = dataclasses.replace(record, environment=dataclasses.replace(record.environment, device="H200", date="2026-02-01"))
    shown = summary(merge([record, other]), 160)
    assert shown.count("geometric mean: ") == 2
    assert 0 <= shown.index("H200 (x86-64-v3)") < shown.index("EPYC 7B13 (x86-64-v3)")
