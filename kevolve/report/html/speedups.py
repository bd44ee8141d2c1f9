"""The speedup plot: a line a kernel, its cases below one another, each with interval and threshold, on one logarithmic axis a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kevolve.report import text
from kevolve.report.html.axis import LogAxis, around, short
from kevolve.report.html.kernels import Case, Kernel
from kevolve.report.html.markup import join, percent, tag

_PITCH = 11  # pixels from one case to the next
_PAD = 7
DETAILED = 60  # kernels a panel that get every case with its interval; more get one line each


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A kernel's line: the drawing and, in words, the mean of its cases."""

    kernel: Kernel
    strip: Markup
    mean: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The kernels of one device on a shared axis. ``grid`` lies behind the lines, ``scale`` below them."""

    title: str
    grid: Markup
    scale: Markup
    lines: tuple[Line, ...]


def panels(kernels: Sequence[Kernel]) -> list[Panel]:
    """A panel for each device and target with a measured speedup, in the order given."""
    groups: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in kernels:
        if any(case.over for case in kernel.cases):
            groups.setdefault((kernel.environment.device, kernel.target), []).append(kernel)
    return [_panel(f"{device} · {target}", found) for (device, target), found in groups.items()]


def _panel(title: str, kernels: Sequence[Kernel]) -> Panel:
    values = [value for kernel in kernels for case in kernel.cases for value in _values(case)]
    axis = around([*values, 1.0], room=1.08)
    assert axis is not None  # 1.0 is on it
    ticks = axis.ticks(7)
    draw = _detailed if len(kernels) <= DETAILED else _brief
    lines = tuple(Line(kernel=kernel, strip=draw(kernel, axis), mean=times(kernel.mean)) for kernel in kernels)
    return Panel(title=title, grid=_grid(axis, ticks), scale=_scale(axis, ticks), lines=lines)


def _values(case: Case) -> list[float]:
    found = [value for over in case.row.speedup.values() for value in (over.low, over.high)]
    return found + ([case.threshold] if case.threshold and found else [])


def times(ratio: float | None) -> str:
    """``1.84×``; empty for None."""
    return "" if ratio is None else f"{text.digits(ratio)}×"


def _grid(axis: LogAxis, ticks: Sequence[float]) -> Markup:
    lines = [_vertical(axis, tick, "g") for tick in ticks if abs(tick - 1) > 1e-9]
    return tag("svg", *lines, _vertical(axis, 1.0, "one"), class_="grid", aria_hidden="true")


def _vertical(axis: LogAxis, value: float, kind: str) -> Markup:
    x = percent(axis.share(value))
    return tag("line", class_=kind, x1=x, x2=x, y1="0", y2="100%")


def _scale(axis: LogAxis, ticks: Sequence[float]) -> Markup:
    texts = [tag("text", f"{short(tick)}×", x=percent(axis.share(tick)), y=13, text_anchor="middle") for tick in ticks]
    return tag("svg", *texts, class_="scale", height=18, aria_hidden="true")


def _detailed(kernel: Kernel, axis: LogAxis) -> Markup:
    cases = [case for case in kernel.cases if case.over]
    marks = [_case(case, axis, _PAD + _PITCH * number) for number, case in enumerate(cases)]
    return tag("svg", *marks, class_="strip", height=2 * _PAD + _PITCH * (len(cases) - 1), aria_hidden="true")


def _case(case: Case, axis: LogAxis, y: int) -> Markup:
    parts = [tag("title", _words(case))]
    if case.threshold:
        x = percent(axis.share(case.threshold))
        parts.append(tag("line", class_="th", x1=x, x2=x, y1=y - 5, y2=y + 5))
    names = list(case.row.speedup.items())
    for name, over in reversed(names):  # the first lies on top
        first = name == names[0][0]
        ends = {"x1": percent(axis.share(over.low)), "x2": percent(axis.share(over.high))}
        parts.append(tag("line", class_="i" if first else "i o", y1=y, y2=y, **ends))
        parts.append(tag("circle", class_="p" if first else "p o", cx=percent(axis.share(over.estimate)), cy=y, r=3 if first else 2.5))
    return tag("g", *parts, class_=case.state.key)


def _words(case: Case) -> str:
    said = [f"{text.ratio(over)} over {text.baseline(name)}" for name, over in case.row.speedup.items()]
    asked = [f"asked for {text.digits(case.threshold)}x"] if case.threshold else []
    return f"{text.shorten(case.row.case, 60)}: {', '.join([*said, *asked])}"


def _brief(kernel: Kernel, axis: LogAxis) -> Markup:
    """One line for many kernels: every case a point, the interval and the threshold of the case nearest to its own."""
    cases = sorted((case for case in kernel.cases if case.over), key=lambda case: case.margin)
    points = [
        tag("circle", class_=f"p {case.state.key}", cx=percent(axis.share(case.over.estimate)), cy=8, r=3) for case in cases if case.over
    ]
    nearest = cases[0]
    assert nearest.over is not None  # only such cases are here
    ends = {"x1": percent(axis.share(nearest.over.low)), "x2": percent(axis.share(nearest.over.high))}
    threshold = percent(axis.share(nearest.threshold or 1.0))
    drawn = [tag("line", class_="th", x1=threshold, x2=threshold, y1=2, y2=14), tag("line", class_="i", y1=8, y2=8, **ends)]
    return tag("svg", join(drawn), join(points), class_="strip", height=16, aria_hidden="true")
