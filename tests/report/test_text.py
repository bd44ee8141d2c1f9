import pytest

from kevolve.report import text
from kevolve.report.record import Speedup, Times


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (None, ""),
        (0.0, "0.00 us"),
        (1.6, "1.60 us"),
        (18.44, "18.4 us"),
        (999.4, "999 us"),
        (999.6, "1.00 ms"),
        (18400.0, "18.4 ms"),
        (999_600.0, "1.00 s"),
        (7_800_000.0, "7.80 s"),
    ],
)
def test_times_have_three_digits_and_a_readable_unit(us, shown):
    assert text.time(us) == shown


def test_a_speedup_is_shown_with_its_interval_or_without():
    speedup = Speedup(estimate=2.314, low=2.25, high=2.381)
    assert text.ratio(speedup) == "2.31x [2.25, 2.38]"
    assert text.ratio(speedup, interval=False) == "2.31x"
    assert text.ratio(None) == ""


@pytest.mark.parametrize(("value", "shown"), [(9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"), (1234.5, "1234")])
def test_three_digits_hold_at_the_borders(value, shown):
    assert text.digits(value) == shown


@pytest.mark.parametrize(
    ("width", "shown"), [(20, "batch_event_truncate"), (11, "batch…ncate"), (10, "batch…cate"), (2, "b…"), (1, "…"), (0, "")]
)
def test_a_long_name_is_cut_in_its_middle(width, shown):
    assert text.shorten("batch_event_truncate", width) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(None, "no limit"), (-3, "0 s"), (41.4, "41 s"), (200, "3 min 20 s"), (3840, "1 h 04 min")])
def test_durations_are_readable(seconds, shown):
    assert text.duration(seconds) == shown


def test_the_launched_time_is_shown_before_the_replayed():
    assert text.best_time(Times(launched=3.0, replayed=2.0)) == 3.0
    assert text.best_time(Times(replayed=2.0)) == 2.0
    assert text.best_time(Times()) is None


def test_counts_have_their_plural():
    assert [text.plural(count, "draw") for count in (0, 1, 2312)] == ["0 draws", "1 draw", "2,312 draws"]


def test_a_fraction_is_shown_in_percent():
    assert [text.percent(value) for value in (0.614, 0.004, 0.0, None)] == ["61%", "<1%", "0%", ""]
