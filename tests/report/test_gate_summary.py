from __future__ import annotations

from dataclasses import replace

import pytest

from kevolve.report.attention import VERDICT_ORDER as ORDER
from kevolve.report.attention import verdicts_worst_first as worst_first
from kevolve.report.gate import summary, table
from kevolve.report.record import Side, Speedup, Verdict
from kevolve.report.values import VERDICTS

OLD = Side(path="kernels/rms_norm/gpu.py", hash="1", revision="abc", time_us=38.0)
NEW = Side(path="kernels/rms_norm/gpu.py", hash="2", time_us=40.1, extra={"form_us": 40.2})
SLOWER = Verdict(
    spec="rms_norm",
    case="8192-4096-bfloat16",
    target="gpu",
    language="triton",
    verdict="slower",
    message="rms_norm[…] is slower\nmore",
    old=OLD,
    new=NEW,
    ratio=Speedup(estimate=0.949, low=0.944, high=0.954),
)
SAME = replace(SLOWER, case="131072-256-bfloat16", verdict="same", message="", ratio=Speedup(estimate=1.001, low=0.99, high=1.01))
NEWER = Verdict(spec="swiglu", case="", target="gpu", language="triton", verdict="new", message="x is new", new=NEW)


def test_the_worst_comes_first_and_of_timed_rows_the_slowest() -> None:
    slower_still = replace(SLOWER, case="1", ratio=Speedup(estimate=0.5, low=0.4, high=0.6))
    rows = [SAME, NEWER, SLOWER, slower_still, replace(NEWER, verdict="wrong")]
    assert [(row.verdict, row.case) for row in worst_first(rows)] == [
        ("wrong", ""),
        ("slower", "1"),
        ("slower", "8192-4096-bfloat16"),
        ("new", ""),
        ("same", "131072-256-bfloat16"),
    ]
    assert set(ORDER) == set(VERDICTS)


def test_the_summary_is_whole() -> None:
    assert summary([SAME, SLOWER, NEWER], 100, against="kernels against abc", idle=2) == (
        "kernels against abc; 1 slower, 1 new, 1 same, 2 tests of unchanged kernels not run\n"
        "\n"
        "spec      case                 verdict      old      new  speedup\n"
        "--------  -------------------  -------  -------  -------  ---------------------\n"
        "rms_norm  8192-4096-bfloat16   slower   38.0 us  40.2 us  0.949x [0.944, 0.954]\n"
        "swiglu                         new               40.2 us\n"
        "rms_norm  131072-256-bfloat16  same     38.0 us  40.2 us  1.001x [0.990, 1.010]\n"
        "\n"
        "new: x is new (swiglu)"
    )


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits(width: int) -> None:
    long = replace(SLOWER, spec="a_spec_of_some_length", case="131072-4096-bfloat16-contiguous-and-more")
    lines = table([SAME, long], width).splitlines()
    assert max(map(len, lines)) <= width
    assert ("kernels/rms_norm/gpu.py" in lines[2]) is (width == 160)


def test_no_verdict_is_said_in_words() -> None:
    assert summary([], 80, against="kernels against abc") == "kernels against abc; no kernel changed"
