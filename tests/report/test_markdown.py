from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from kevolve.report.attention import banner, failed, worst_first
from kevolve.report.gitlab import MARK, note
from kevolve.report.markdown import render
from kevolve.report.merge import merge
from kevolve.report.record import Kernel, Verdict
from tests.report.test_escape import ATTACKS

PARSER = MarkdownIt("commonmark").enable("table")


def tokens(shown):
    """All tokens of a Markdown text, those inside of lines too."""
    for token in PARSER.parse(shown):
        yield token
        yield from token.children or ()


def cells_by_row(shown):
    counts, rows = [], []
    for token in PARSER.parse(shown):
        if token.type == "table_open":
            rows = []
            counts.append(rows)
        elif token.type == "tr_open":
            rows.append(0)
        elif token.type in ("td_open", "th_open"):
            rows[-1] += 1
    return counts


def hostile(full, attack):
    """The record with the attack in every field that others write."""
    kernel = Kernel(path=f"kernels/{attack}.cpp", hash="ab" * 32)
    rows = tuple(replace(row, spec=attack, case=attack, message=attack, kernel=kernel, method=attack) for row in full.results)
    plans = tuple(replace(row, spec=attack, message=attack, status="RUNTIME_ERROR") for row in full.properties)
    gate = tuple(replace(one, spec=attack, case=attack, message=attack) for one in full.gate)
    nodes = tuple(replace(node, idea=attack, model=attack, message=attack) for node in full.searches[0].nodes)
    environment = replace(full.environment, device=attack, versions={attack: attack}, isolation={"network": [attack]}, commit=attack)
    searches = (replace(full.searches[0], spec=attack, nodes=nodes),)
    return replace(full, results=rows, properties=plans, gate=gate, searches=searches, environment=environment, environments=(environment,))


def test_the_report_says_first_whether_something_failed(full):
    lines = render(full).splitlines()
    assert lines[0] == "# kevolve"
    assert lines[2] == "**Failed: 2 of 7 tests (1 too slow, 1 incorrect numerical); the gate fails: 1 slower, 1 grown**"


def test_a_run_without_failures_says_so_and_how_much_was_not_measured(record):
    fine = replace(record, results=tuple(row for row in record.results if row.status != "TOO_SLOW"), properties=())
    assert banner(fine) == "Nothing failed: 4 cases, 2 of them not measured here"


def test_a_kernel_that_is_not_there_is_a_failure_though_nothing_was_measured(record):
    missing = replace(record.results[3], kernel=None, extra={"kernel_missing": True})
    assert failed(missing)
    assert not failed(record.results[3])
    assert banner(replace(record, results=(missing,), properties=())) == "Failed: 1 of 1 test (1 no kernel)"


def test_the_worst_comes_first(record):
    order = worst_first([*record.results, replace(record.results[0], status="REWARD_HACK")])
    assert [row.status for row in order] == ["REWARD_HACK", "TOO_SLOW", "NOT_MEASURED", "NOT_MEASURED", "PASSED", "PASSED"]
    assert order[-1].spec == "batch_event_truncate", "the faster of equals is last"


def test_the_report_names_figures_times_intervals_and_where_it_was_measured(full):
    shown = render(full)
    for part in (
        "| `rms_norm` | `float32-1` | `cpu/cpp` | slower | 38.1 us (`c0ffee`) | 42.7 us (here) | 0.89x [0.88, 0.90] | `1.12x slower` |",
        "registers (sm90 softmax_kernel[fp16]): 32 before, 255 now, at most 40 allowed",
        "0.90x over eager, expected at least 1.20x",
        "| `rms_norm` | `cpu` | 2 | 1.50x | `one pass` | 2,300 | $0.0125 |",
        "`EPYC 7B13` (`x86-64-v3`), `2026-01-02T03:04:05Z`, commit `c0ffee`",
        "`H200` (`sm90`)",
        "process pairs",
    ):
        assert part in shown


def test_several_machines_have_a_column_and_a_mean_each(record):
    other = replace(record, environment=replace(record.environment, device="H200", date="2026-02-01"))
    shown = render(merge([record, other]))
    assert "| spec | case | target | device | status |" in shown
    assert "`H200`: geometric mean: " in shown
    assert "`EPYC 7B13`: geometric mean: " in shown


def test_only_the_newest_of_a_history_is_shown(record):
    again = replace(record, environment=replace(record.environment, date="2026-02-01"))
    assert render(merge([record, again])).count("`batch_event_truncate`") == 1


def test_what_is_left_out_is_counted(record):
    shown = render(record, most=2)
    assert "… 3 more of 5 left out, the worst are shown" in shown
    assert "`float32-1`" in shown
    assert "bfloat16-8192-4096" not in shown


@pytest.mark.parametrize("attack", ATTACKS)
def test_foreign_text_is_never_markup(full, attack):
    shown = render(hostile(full, attack))
    found = list(tokens(shown))
    assert {token.type for token in found} & {"link_open", "image", "html_block"} == set()
    assert {token.content for token in found if token.type == "html_inline"} <= {"<code>", "</code>"}
    assert {token.content for token in found if token.type == "text" and "alert" in token.content} == set() or "|" in attack
    assert all(len(set(rows)) == 1 for rows in cells_by_row(shown)), "no row has more cells than its heading"
    assert "\x1b" not in shown
    assert [token.content for token in found if token.type == "inline" and token.content == "kevolve"] == ["kevolve"]


@pytest.mark.parametrize("attack", ["/close", "/merge", "a\n/assign @someone"])
def test_a_note_runs_no_quick_action(full, attack):
    shown = note(hostile(full, attack))
    assert shown.startswith(f"{MARK}\n# kevolve\n")
    assert not [line for line in shown.splitlines() if line.startswith("/")]


def test_a_note_keeps_within_its_limit(full):
    many = replace(full, results=full.results * 200)
    assert len(note(many, limit=20_000).encode()) <= 20_000


def test_a_whole_kernel_of_the_gate_has_no_case(full):
    alone = replace(
        full, gate=(Verdict(spec="softmax", case="", target="cpu", language=None, verdict="baseline", message="no baseline yet"),)
    )
    assert "| `softmax` |  | `cpu` | baseline |  |  |  | `no baseline yet` |" in render(alone)
