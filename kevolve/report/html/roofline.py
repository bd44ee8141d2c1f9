"""How near to the speed of light every kernel is, and the roofline of those whose operations the record counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from kevolve.report import text
from kevolve.report.html.axis import around, clock, short, time
from kevolve.report.html.kernels import Case, Kernel, mapping, number, when
from kevolve.report.html.markup import tag, visible
from kevolve.report.html.scatter import Plane, Point, shapes
from kevolve.report.html.state import PASSED
from kevolve.report.record import Environment

_LABELS = 10
_TITLED = 400  # cases whose points all have words; of more only those that did not pass
_ROOFS = 4  # types whose peaks are drawn, the fastest ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawing, what it shows, the devices by shape, and how many cases it cannot show."""

    drawing: Markup
    title: str
    devices: tuple[str, ...]
    shown: int
    missing: int
    note: str = ""


def distance(kernels: Sequence[Kernel]) -> Plot | None:
    """Every case with a floor: the least time its work can take against the share of that speed it reaches."""
    shape = shapes([kernel.environment.device for kernel in kernels])
    found = [(kernel, case) for kernel in kernels for case in kernel.cases]
    few = len(found) <= _TITLED
    points = [
        Point(
            x=case.row.floor_us,
            y=case.row.speed_of_light,
            state=case.state.key,
            title=_words(kernel, case) if few or case.state.rank < PASSED.rank else "",
            label=text.shorten(f"{kernel.spec} {visible(case.row.case, 40)}", 34),
            shape=shape[kernel.environment.device],
        )
        for kernel, case in found
        if case.row.floor_us and case.row.speed_of_light
    ]
    x, y = around([point.x for point in points], room=1.5), around([point.y for point in points] + [1.0], room=1.15)
    if x is None or y is None:
        return None
    plane = Plane(x=x, y=y, height=340, x_text=time, y_text=_percent)
    points.sort(key=lambda point: point.y)
    light = plane.line((x.low, 1.0), (x.high, 1.0), "light")
    drawing = plane.draw(
        light,
        *map(plane.mark, reversed(points)),
        *plane.labels(points, _LABELS),
        label=f"Share of the speed of light against the least time possible, {text.plural(len(points), 'case')}; the table has the figures",
    )
    shown_devices = {kernel.environment.device for kernel, case in found if case.row.floor_us and case.row.speed_of_light}
    devices = tuple(device for device in shape if device in shown_devices)
    return Plot(drawing=drawing, title="", devices=devices, shown=len(points), missing=len(found) - len(points))


def rooflines(kernels: Sequence[Kernel]) -> list[Plot]:
    """A roofline for each device whose peaks the record has and on which some case's bytes and operations are known."""
    groups: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(kernel.environment.device, []).append(kernel)
    drawn = (_roofline(device, found) for device, found in groups.items())
    return [plot for plot in drawn if plot is not None]


def _roofline(device: str, kernels: Sequence[Kernel]) -> Plot | None:
    bandwidth, operations = _peaks(max((kernel.environment for kernel in kernels), key=when))
    cases = [(kernel, case) for kernel in kernels for case in kernel.cases]
    few = len(cases) <= _TITLED
    points = [point for point in (_point(kernel, case, few=few) for kernel, case in cases) if point is not None]
    x = around([point.x for point in points], room=3.0, least=100.0)
    if not points or x is None or bandwidth is None or not operations:
        return None
    roofs = {name: peak for name, peak in sorted(operations.items(), key=lambda one: -one[1])[:_ROOFS] if peak > 0}
    y = around([point.y for point in points] + [min(peak, bandwidth * x.high) for peak in roofs.values()], room=2.0)
    assert y is not None  # the points have positive rates
    plane = Plane(x=x, y=y, height=340, x_text=short, y_text=_rate)
    points.sort(key=lambda point: point.y / (bandwidth * point.x))
    lines = [part for name, peak in roofs.items() for part in _roof(plane, bandwidth, name, peak)]
    label = f"Roofline of {device}: operations a second against operations a byte, {text.plural(len(points), 'case')}"
    marks = [*map(plane.mark, reversed(points)), *plane.labels(points, _LABELS)]
    return Plot(
        drawing=plane.draw(*lines, *marks, label=label),
        title=device,
        devices=(device,),
        shown=len(points),
        missing=len(cases) - len(points),
        note=f", memory at {bandwidth / 1e12:.3g} TB/s",
    )


def _roof(plane: Plane, bandwidth: float, name: str, peak: float) -> list[Markup]:
    """The slope that memory allows up to the ridge, then the peak of one type, named where it is on the plane."""
    low, high = max(plane.x.low, plane.y.low / bandwidth), plane.x.high
    ridge = min(max(peak / bandwidth, low), high)
    slope = plane.line((low, bandwidth * low), (ridge, bandwidth * ridge), "light")
    if ridge >= high:
        return [slope]
    words = tag("text", f"{text.shorten(name, 20)} {_rate(peak)}", class_="label", x="100%", y=plane.down(peak) - 6, text_anchor="end")
    return [slope, plane.line((ridge, peak), (high, peak), "light"), words]


def _point(kernel: Kernel, case: Case, *, few: bool) -> Point | None:
    work, us = mapping(case.row.extra, "work"), text.best_time(case.row.time_us)
    moved, operations = number(work.get("bytes")), number(work.get("flops"))
    if not moved or not operations or not us:
        return None
    label = text.shorten(f"{kernel.spec} {visible(case.row.case, 40)}", 34)
    title = _words(kernel, case) if few or case.state.rank < PASSED.rank else ""
    return Point(x=operations / moved, y=operations / us * 1e6, state=case.state.key, title=title, label=label)


def _peaks(environment: Environment) -> tuple[float | None, dict[str, float]]:
    """The greatest measured bandwidth (bytes a second) of the largest footprint, and operations a second by dtype."""
    peaks = mapping(environment.extra, "peaks")
    curve = peaks.get("bandwidth")
    pairs = [pair for pair in curve if isinstance(pair, list | tuple) and len(pair) == 2] if isinstance(curve, list | tuple) else []
    bandwidth = number(pairs[-1][1]) if pairs else None
    named: dict[str, Any] = dict(mapping(peaks, "operations"))
    return bandwidth, {name: rate for name, value in named.items() if (rate := number(value)) is not None}


def _words(kernel: Kernel, case: Case) -> str:
    row = case.row
    parts = [clock(text.best_time(row.time_us)), f"floor {clock(row.floor_us)}" if row.floor_us else "", text.percent(row.speed_of_light)]
    return f"{text.shorten(kernel.spec, 60)} {text.shorten(row.case, 60)} ({kernel.target}): {', '.join(filter(None, parts))} of light"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.9999 else f"{100 * share:.0f}%"


def _rate(value: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{short(value / size)} {unit}op/s"
    return f"{short(value)} op/s"
