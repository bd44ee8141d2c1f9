"""Latency over time: a line a case over the dates of a merged record."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from kevolve.report import text
from kevolve.report.html.axis import around, clock, time
from kevolve.report.html.kernels import Case
from kevolve.report.html.markup import percent, tag

_HEIGHT = 180
_LINE = 15  # pixels between two labels


def history(cases: Sequence[Case]) -> Markup | None:
    """The drawing for cases measured on several dates; None where there is one date only."""
    lines = [(case, [*case.earlier, (case.date, case.row)]) for case in cases if case.earlier]
    times = [us for _, dated in lines for _, row in dated if (us := text.best_time(row.time_us))]
    axis = around(times, room=1.1, least=1.5)
    dates = sorted({when for _, dated in lines for when, _ in dated})
    if axis is None or len(dates) < 2:
        return None
    across = {when: 0.02 + 0.66 * number / (len(dates) - 1) for number, when in enumerate(dates)}

    def down(us: float) -> float:
        return round(8 + (1 - axis.share(us)) * (_HEIGHT - 16), 1)

    drawn, ends = [], []
    for case, dated in lines:
        known = [(when, us) for when, row in dated if (us := text.best_time(row.time_us))]
        places = [(percent(across[when]), down(us)) for when, us in known]
        drawn += [tag("line", class_="h", x1=a, y1=b, x2=c, y2=d) for (a, b), (c, d) in pairwise(places)]
        for (x, y), (when, us) in zip(places, known, strict=True):
            drawn.append(tag("circle", tag("title", f"{when[:10]}: {clock(us)}"), class_="p", cx=x, cy=y, r=3))
        if places:
            ends.append((places[-1][1], f"{text.shorten(case.row.case, 30)} {clock(known[-1][1])}"))
    shown = dates if len(dates) <= 5 else [dates[0], dates[-1]]
    below = [tag("text", when[:10], x=percent(across[when]), y=_HEIGHT + 18, text_anchor=_side(when, dates)) for when in shown]
    beside = [tag("text", time(tick), x=-8, y=down(tick) + 4, text_anchor="end") for tick in axis.ticks(5)]
    grid = [tag("line", class_="g", x1="0", x2="68%", y1=down(tick), y2=down(tick)) for tick in axis.ticks(5)]
    label = f"Latency of {text.plural(len(lines), 'case')} on {len(dates)} dates, {dates[0][:10]} to {dates[-1][:10]}"
    attributes = {"class_": "plane", "height": max(_HEIGHT, _LINE * len(ends)) + 26, "role": "img", "aria_label": label}
    return tag("svg", *grid, *drawn, *_labels(ends), *below, *beside, **attributes)


def _side(when: str, dates: Sequence[str]) -> str:
    return "start" if when == dates[0] else "end" if when == dates[-1] else "middle"


def _labels(ends: Sequence[tuple[float, str]]) -> list[Markup]:
    """A label beside the end of each line, pushed down where the one above is too near."""
    drawn, free = [], 0.0
    for y, label in sorted(ends):
        place = max(y, free)
        drawn.append(tag("text", label, class_="label", x="70%", y=place + 4))
        free = place + _LINE
    return drawn
