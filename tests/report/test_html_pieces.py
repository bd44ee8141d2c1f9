"""What a kernel's section holds, which parts fit, and how rows become kernels."""

from dataclasses import replace

from markupsafe import Markup

from benchmarks.synthetic_record import synthetic
from kevolve.report.html import view
from kevolve.report.html.kernels import kernels
from kevolve.report.html.lineage import differences, steps
from kevolve.report.html.markup import anchor, lines, name, tag, visible
from kevolve.report.html.pieces import Piece, Section, cost, pack
from kevolve.report.html.state import PASSED, REGRESSED, WRONG, state
from kevolve.report.record import NodeRow, SearchRow, Usage


def section(*pieces):
    return Section(kernel=kernels(synthetic(1))[0], open=False, pieces=pieces)


def piece(title, rank, size, drawn=None):
    def draw():
        if drawn is not None:
            drawn.append(title)
        return Markup("x" * size)

    return Piece(title=title, rank=rank, draw=draw)


def test_pieces_of_low_rank_are_kept_first_and_the_rest_is_named():
    first, second = section(piece("a", 2, 500), piece("b", 1, 500)), section(piece("c", 1, 500), piece("d", 3, 100))
    pack([first, second], 1_500)
    assert [piece.title for piece, _ in first.shown] == ["b"]
    assert [piece.title for piece, _ in second.shown] == ["c", "d"]  # d fits where a did not
    assert first.left_out == ["a"]


def test_pieces_that_can_no_longer_fit_are_not_even_drawn():
    drawn = []
    pack([section(*(piece(f"{number}", 1, 500, drawn) for number in range(500)))], 2_000)
    assert len(drawn) < 40


def test_sections_keep_the_order_of_reading_whatever_was_drawn_first():
    one = section(piece("heat", 3, 10), piece("search", 1, 10), piece("source", 2, 10))
    pack([one], 10_000)
    assert [piece.title for piece, _ in one.shown] == ["heat", "search", "source"]


def test_differences_stand_side_by_side_with_their_line_numbers():
    found = list(differences("a\nb\nc\n", "a\nB\nc\nd\n"))
    assert [(line.kind, line.old_number, line.old, line.new_number, line.new) for line in found] == [
        ("same", 1, "a", 1, "a"),
        ("changed", 2, "b", 2, "B"),
        ("same", 3, "c", 3, "c"),
        ("changed", None, None, 4, "d"),
    ]
    assert list(differences("same\n", "same\n")) == []


def test_far_changes_have_a_gap_between_them():
    old = [str(number) for number in range(40)]
    found = list(differences("\n".join(old), "\n".join(["x", *old[1:39], "y"])))
    assert [line.kind for line in found].count("gap") == 1
    assert len(found) == 9


def test_a_lineage_tells_each_step_and_why_there_is_no_difference():
    nodes = (
        NodeRow(id=1, step=1, fitness=1.0, source="a"),
        NodeRow(id=2, step=2, parents=(1,), fitness=2.0, source="b"),
        NodeRow(id=3, step=3, parents=(2,), fitness=3.0, source="missing"),
    )
    found = steps(SearchRow(spec="s", target="t", best=3, nodes=nodes), {"a": "one\n", "b": "two\n"})
    assert [(step.node.id, step.parent and step.parent.id) for step in found] == [(1, None), (2, 1), (3, 2)]
    assert found[0].note == "the first of the lineage, 1 line"
    assert len(found[1].lines) == 1
    assert found[2].note == "the record holds no source of one of them"


def test_a_source_too_long_to_compare_in_time_is_said_to_be():
    nodes = (NodeRow(id=1, step=1, source="a"), NodeRow(id=2, step=2, parents=(1,), source="b"))
    found = steps(SearchRow(spec="s", target="t", best=2, nodes=nodes), {"a": "x\n" * 9_000, "b": "y\n" * 9_000})
    assert found[1].note == "9,000 lines and 9,000 lines: too long to compare here"


def test_the_cost_of_a_search_says_where_no_price_is_known():
    asked = NodeRow(id=1, step=1, seconds=70, usage=Usage(input=1200, cached=800, output=300))
    assert cost([asked]) == "1 step in 1 min 10 s; 1,200 tokens in and 800 from the cache, 300 out; no price known"
    priced = replace(asked, usage=replace(asked.usage, usd=0.125))
    assert cost([asked, priced]).endswith("; $0.12")
    assert cost([NodeRow(id=1, step=1)]) == "1 step in 0 s"


def test_kernels_come_in_the_order_of_attention_and_so_do_rows(full):
    found = kernels(full)
    assert [kernel.state.key for kernel in found][:2] == ["wrong", "regressed"]
    rows = view.rows(found)
    assert [row.state.rank for row in rows] == sorted(row.state.rank for row in rows)
    assert (rows[0].kernel.spec, rows[0].case) == ("softmax", "properties")
    slower = next(row for row in rows if row.state is REGRESSED and row.kernel.spec == "rms_norm")
    assert slower.said.endswith("gate: slower 0.89x [0.88, 0.90]")


def test_passed_cases_come_by_their_margin_over_the_threshold():
    margins = [row.result.speedup["eager"].estimate / 1.2 for row in view.rows(kernels(synthetic(9))) if row.state is PASSED]
    assert margins == sorted(margins)


def test_a_missing_kernel_is_a_failure(record):
    row = replace(record.results[3], extra={"kernel_missing": True})
    assert state(row) is WRONG
    assert view.rows(kernels(replace(record, results=(row,), properties=())))[0].said == "no kernel"


def test_the_headline_counts_tests_and_names_what_did_not_pass(full):
    counted = view.counts(kernels(full))
    assert view.headline(counted) == "1 failed, 2 regressed, 2 not measured; 3 of 8 tests passed"
    assert view.headline([]) == "Nothing was run"


def test_decimal_points_stand_below_one_another():
    written = [view.aligned(value) for value in (1.234, 12.34, 123.4, 1234.5, None)]
    assert written == ["1.23", "12.3\u2007", "123\u2008\u2007\u2007", "1,234\u2008\u2007\u2007", ""]


def test_the_commands_of_a_message_stand_alone():
    message = "3 of 37 differ\nreplay: pytest 'a[properties]'\nkept beside the test"
    assert view.replay_lines(message) == ["pytest 'a[properties]'"]
    assert view.without_replays(message) == "3 of 37 differ\nkept beside the test"


def test_methods_that_differ_in_figures_alone_stand_together(record):
    rows = tuple(replace(record.results[0], method=f"{number} pairs of 2.5 ms") for number in (7, 7, 9))
    (found,) = view.methods(replace(record, results=rows))
    assert (found.text, found.cases, found.others) == ("7 pairs of 2.5 ms", 3, (("9 pairs of 2.5 ms", 1),))


def test_dates_are_written_for_people_where_they_are_dates():
    assert view.date("2026-11-21T05:02:54+00:00") == "2026-11-21 05:02 UTC"
    assert view.date("yesterday") == "yesterday"


def test_ids_are_plain_and_never_taken_twice():
    taken = set()
    assert [anchor(text, taken) for text in ("RMS_norm cpu", "rms-norm:cpu", "<script>", "⟨⟩")] == [
        "k-rms-norm-cpu",
        "k-rms-norm-cpu-2",
        "k-script",
        "k-",
    ]


def test_an_element_escapes_its_children_and_its_attributes():
    made = tag("text", "<b>", tag("i", "&"), class_='"x', stroke_width=1.5, none=None)
    assert made == '<text class="&#34;x" stroke-width="1.5">&lt;b&gt;<i>&amp;</i></text>'


def test_texts_are_cut_and_say_so_and_lines_are_an_editors():
    assert visible("x" * 11, 10) == "x" * 10 + "… (1 more characters are in the record)"
    assert visible("a\r\nb\tc\x1b") == "a\nb\tc␛"
    assert lines("a\r\nb\x0cc\n") == ["a", "b\x0cc"]
    assert name("a_b/<c>") == "a_<wbr>b/<wbr>&lt;c&gt;"
