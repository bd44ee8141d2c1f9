"""The drawings of the page: axes, speedups, speed of light, heat map, history, search tree."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.synthetic_record import synthetic
from kevolve.report.html.axis import LogAxis, around, clock, short, time
from kevolve.report.html.heat import STEPS, heat_map
from kevolve.report.html.history import history
from kevolve.report.html.kernels import Case, kernels
from kevolve.report.html.roofline import distance, rooflines
from kevolve.report.html.scatter import Plane, Point
from kevolve.report.html.speedups import DETAILED, panels
from kevolve.report.html.state import PASSED
from kevolve.report.html.tree import lineage, tree
from kevolve.report.record import Environment, NodeRow, Record, Result, SearchRow, Speedup, Times

POSITIVE = st.floats(1e-6, 1e9)


def case(name="1", *, us=10.0, over=2.0, values=None, earlier=()):
    row = Result(
        spec="s",
        case=name,
        target="cpu",
        language="cpp",
        status="PASSED",
        time_us=Times(launched=us),
        speedup={"eager": Speedup(estimate=over, low=0.9 * over, high=1.1 * over)},
        extra={"values": values} if values else {},
    )
    return Case(
        row=row, date="2026-03-01", state=PASSED, earlier=tuple((when, replace(row, time_us=Times(launched=t))) for when, t in earlier)
    )


@given(st.lists(POSITIVE, min_size=1), POSITIVE)
def test_an_axis_holds_its_values_in_order_and_spans_at_least_a_factor_of_two(values, other):
    axis = around(values)
    assert axis.high / axis.low >= 2 * (1 - 1e-9)
    shares = [axis.share(value) for value in sorted(values)]
    assert shares == sorted(shares)
    assert all(0 < share < 1 for share in shares)
    assert 0 <= axis.share(other) <= 1


@given(POSITIVE, st.floats(2, 1e6), st.integers(4, 10))
def test_ticks_lie_on_the_axis_and_are_neither_none_nor_many(low, ratio, most):
    axis = LogAxis(low=low, high=low * ratio)
    ticks = axis.ticks(most)
    assert 1 <= len(ticks) <= most
    assert all(low * 0.99 <= tick <= axis.high * 1.01 for tick in ticks)


def test_an_axis_of_nothing_positive_is_none():
    assert around([0.0, -1.0, math.inf, math.nan]) is None


def test_ticks_are_written_in_readable_units():
    assert [time(us) for us in (0.3, 5, 20_000, 3e6)] == ["0.3 µs", "5 µs", "20 ms", "3 s"]
    assert [short(value) for value in (0.5, 1.0, 1000)] == ["0.5", "1", "1,000"]
    assert clock(18.234) == "18.2 µs"


def test_the_speedup_plot_has_a_panel_a_device_and_a_line_a_kernel():
    record = synthetic(7)
    found = panels(kernels(record))
    assert sorted(panel.title for panel in found) == ["Accelerator One · cpu", "Accelerator One · cuda"]
    assert sum(len(panel.lines) for panel in found) == 7
    strip = found[0].lines[0].strip
    timed = [case for case in found[0].lines[0].kernel.cases if case.over]
    assert strip.count('class="th"') == len(timed)  # a threshold
    assert strip.count('class="i"') == len(timed)  # an interval
    assert strip.count("asked for 1.20x") == len(timed)


def test_many_kernels_get_one_line_each_with_the_case_nearest_to_its_threshold():
    found = panels(kernels(synthetic(3 * DETAILED)))
    crowded = max(found, key=lambda panel: len(panel.lines))
    assert len(crowded.lines) > DETAILED
    assert all(line.strip.count('class="th"') == 1 for line in crowded.lines)


def test_points_of_a_speedup_lie_where_the_axis_says():
    place = Environment(device="d", arch="a", date="2026-01-01")
    rows = tuple(replace(case(str(over), over=over).row, extra={"min_speedup": 1.0}) for over in (1.0, 10.0))
    (panel,) = panels(kernels(Record(environment=place, results=rows)))
    first, second = (float(x) for x in re.findall(r'class="p" cx="([\d.]+)%"', panel.lines[0].strip))
    tick = {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)%"[^>]*>([\d.]+)×', panel.scale)}
    assert first == pytest.approx(tick["1"], abs=0.2)
    assert second == pytest.approx(tick["10"], abs=0.2)


def test_every_case_with_a_floor_is_on_the_plot_of_distances():
    found = kernels(synthetic(5))
    plot = distance(found)
    with_floor = [case for kernel in found for case in kernel.cases if case.row.floor_us]
    assert plot.shown == len(with_floor)
    assert len(re.findall(r'<circle class="p', plot.drawing)) == len(with_floor)
    assert plot.shown + plot.missing == sum(len(kernel.cases) for kernel in found)
    assert distance([]) is None


def test_a_roofline_needs_peaks_and_counted_operations():
    record = synthetic(4)
    (plot,) = rooflines(kernels(record))
    assert plot.title == "Accelerator One"
    assert "float32 60 Top/s" in plot.drawing
    assert plot.note == ", memory at 4.1 TB/s"
    unknown = replace(record, environment=replace(record.environment, extra={}))
    assert rooflines(kernels(unknown)) == []


def test_labels_never_lie_on_another_point_or_label():
    plane = Plane(x=LogAxis(low=1, high=100), y=LogAxis(low=1, high=100), height=300, x_text=short, y_text=short)
    same = [Point(x=10, y=10, state="passed", title="", label="a" * 30) for _ in range(5)]
    apart = [Point(x=10, y=y, state="passed", title="", label="a" * 30) for y in (2, 10, 50)]
    assert len(plane.labels(apart, 10)) == 3
    assert len(plane.labels(same, 10)) == 2  # one on either side
    assert len(plane.labels(apart, 2)) == 2


def test_a_heat_map_puts_dtypes_in_columns_and_shapes_in_rows():
    grid = [case(f"{rows}-{dtype}", over=over, values={"dtype": dtype, "rows": rows, "cols": 8}) for rows, dtype, over in
            ((1, "float32", 0.7), (1, "bfloat16", 1.1), (2, "float32", 9.0))]  # fmt: skip
    found = heat_map(grid)
    assert found.columns == ("float32", "bfloat16")
    assert [label for label, _ in found.rows] == ["1 × 8", "2 × 8"]
    assert [[cell and (cell.text, cell.step) for cell in cells] for _, cells in found.rows] == [
        [("0.70×", 0), ("1.10×", 2)],
        [("9.00×", STEPS - 1), None],
    ]
    assert found.corner == "; rows × cols / dtype"


def test_a_heat_map_without_values_takes_the_parts_of_the_ids():
    found = heat_map([case("8-float32"), case("16-float32"), case("8-bfloat16")])
    assert (found.columns, found.corner) == (("float32", "bfloat16"), "")
    assert [label for label, _ in found.rows] == ["8", "16"]


def test_a_heat_map_that_would_be_mostly_holes_is_a_list_and_one_case_has_none():
    found = heat_map([case(str(n), values={"rows": n, "cols": 100 - n}) for n in range(5)])
    assert found.columns == ("speedup",)
    assert heat_map([case()]) is None


def test_latency_over_time_has_a_line_a_case_and_none_for_one_date():
    drawn = history([case("a", us=10, earlier=[("2026-01-01", 14), ("2026-02-01", 12)]), case("b")])
    assert drawn.count('class="h"') == 2
    assert "2026-01-01: 14.0 µs" in drawn
    assert "a 10.0 µs" in drawn
    assert history([case("a")]) is None


def search(*nodes, best=None):
    return SearchRow(spec="s", target="cpu", best=best, nodes=nodes)


def node(id, fitness, parents=()):
    return NodeRow(id=id, step=id, parents=parents, fitness=fitness, status="PASSED" if fitness else "TIMEOUT")


def test_a_search_is_a_tree_with_fitness_over_steps():
    drawn = tree(search(node(1, 1.5), node(2, 0.0, (1,)), node(3, 3.0, (1,)), node(4, 2.0, (3, 1)), best=3))
    assert drawn.count('class="e b"') == 1  # 1 to 3
    assert drawn.count('class="e"') == 3
    assert drawn.count("✕") == 1
    assert drawn.count('class="p best"') == 1
    assert "step 2: timeout" in drawn
    heights = [float(y) for y in re.findall(r'class="p(?: best)?" cx="[\d.]+%" cy="([\d.]+)"', drawn)]
    assert heights[1] < heights[2] < heights[0]  # 3.0 above 2.0 above 1.5
    assert tree(search()) is None


def test_a_lineage_has_every_ancestor_once_even_where_parents_form_a_ring():
    assert lineage(search(node(1, 1.0, (2,)), node(2, 2.0, (1, 9)), node(3, 1.0), best=2)) == {1, 2}
    assert lineage(search(node(1, 0.0))) == set()
    assert lineage(search(node(1, 1.0), best=7)) == set()
