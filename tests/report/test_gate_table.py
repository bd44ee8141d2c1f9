from dataclasses import replace

import pytest

from kevolve.report.gate_table import gate_table
from kevolve.report.record import Figure
from kevolve.report.terminal import summary

LONG = "a_kernel_with_a_name_that_somebody_thought_would_say_everything_about_what_it_computes_and_how"


def test_the_table_names_kernel_case_times_interval_and_the_figure_that_grew(full):
    assert gate_table(full.gate, 120).splitlines() == [
        "gate     kernel    case           old      new  old/new",
        "-------  --------  ---------  -------  -------  ------------------",
        "slower   rms_norm  float32-1  38.1 us  42.7 us  0.89x [0.88, 0.90]",
        "grown    softmax   (whole)                      registers 32→255",
        "new      swiglu    (whole)",
        "removed  gelu      (whole)",
        "",
        "slower: 1.12x slower (rms_norm[float32-1])",
        "grown: registers 32 to 255 (softmax)",
    ]


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("names", [("softmax", "1"), (LONG, "1"), ("softmax", LONG), (LONG, LONG)])
def test_no_line_is_wider_than_the_terminal(full, width, names):
    figure = Figure(name="shared_bytes_of_all_blocks", where="sm90", old=123456, new=1234567, allowed=1)
    spec, case = names
    message = "1.12x slower than c0ffee [1.10, 1.14] over 7 process pairs, " * 4
    verdicts = [replace(one, spec=spec, case=case, message=message) for one in full.gate]
    verdicts.append(replace(verdicts[1], figures=(figure,)))
    shown = gate_table(verdicts, width)
    assert max(map(len, shown.splitlines())) <= width
    assert "slower" in shown


@pytest.mark.parametrize("width", [80, 160])
def test_the_whole_summary_with_a_gate_and_long_names_fits(full, width):
    rows = tuple(replace(row, spec=LONG, case=LONG) for row in full.results)
    gate = tuple(replace(one, spec=LONG, case=LONG) for one in full.gate)
    shown = summary(replace(full, results=rows, gate=gate), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "old/new" in shown


@pytest.mark.parametrize("attack", ["\x1b[2J", "a\nb", "\u202ex", "::error::x"])
def test_names_and_messages_move_no_cursor_and_begin_no_line(full, attack):
    gate = tuple(replace(one, spec=attack, case=attack, message=attack) for one in full.gate)
    rows = tuple(replace(row, spec=attack, case=attack, message=attack) for row in full.results)
    shown = summary(replace(full, results=rows, gate=gate), 160)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\nb" not in shown


def test_no_verdicts_are_no_table():
    assert gate_table((), 80) == ""
