"""Points on two logarithmic axes whose text keeps its size at any width: positions across are shares of the width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from markupsafe import Markup

from kevolve.report.html.axis import LogAxis
from kevolve.report.html.markup import percent, tag

_LABEL_HEIGHT = 14
_LETTER = 0.0058  # a letter's share of the width of a page on a desk; narrow pages hide labels
_GAP = 0.006  # between a point and its label


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One case. ``shape`` counts devices: the first is a circle, the next a square, then triangles."""

    x: float
    y: float
    state: str
    title: str
    label: str = ""
    shape: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A drawing's axes and height in pixels. ``x_text`` and ``y_text`` write a tick."""

    x: LogAxis
    y: LogAxis
    height: int
    x_text: Callable[[float], str]
    y_text: Callable[[float], str]

    def across(self, value: float) -> str:
        """Where a value lies from the left, in percent."""
        return percent(self.x.share(value))

    def down(self, value: float) -> float:
        """Where a value lies from the top, in pixels."""
        return round((1 - self.y.share(value)) * self.height, 1)

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> Markup:
        """A straight line between two values."""
        return tag("line", class_=kind, x1=self.across(start[0]), y1=self.down(start[1]), x2=self.across(end[0]), y2=self.down(end[1]))

    def draw(self, *parts: Markup, label: str) -> Markup:
        """The drawing: grid and ticks, then ``parts``."""
        across = [tag("line", class_="g", x1=self.across(tick), x2=self.across(tick), y1=0, y2=self.height) for tick in self.x.ticks(7)]
        below = [
            tag("text", self.x_text(tick), class_="alt" if odd else None, x=self.across(tick), y=self.height + 18, text_anchor="middle")
            for tick, odd in zip(self.x.ticks(7), cycle((False, True)), strict=False)
        ]
        down = [tag("line", class_="g", x1="0", x2="100%", y1=self.down(tick), y2=self.down(tick)) for tick in self.y.ticks()]
        beside = [tag("text", self.y_text(tick), x=-8, y=self.down(tick) + 4, text_anchor="end") for tick in self.y.ticks()]
        attributes = {"class_": "plane", "height": self.height + 26, "role": "img", "aria_label": label}
        return tag("svg", *across, *down, *below, *beside, *parts, **attributes)

    def mark(self, point: Point) -> Markup:
        """A point with its words."""
        x, y, kind = self.across(point.x), self.down(point.y), f"p {point.state}"
        title = tag("title", point.title) if point.title else ""
        if point.shape == 0:
            return tag("circle", title, class_=kind, cx=x, cy=y, r=4)
        corners = "M-4-4h8v8h-8z" if point.shape == 1 else "M0-5l5 9h-10z"
        # A path has no position in percent: an svg of its own has.
        return tag("svg", tag("path", title, class_=kind, d=corners), x=x, y=y, overflow="visible")

    def labels(self, points: Sequence[Point], most: int) -> list[Markup]:
        """The labels of the first ``most`` points that have room for theirs, beside no other point and no other label."""
        taken = [(self.x.share(point.x), self.x.share(point.x), self.down(point.y)) for point in points]
        drawn: list[Markup] = []
        for point in points:
            share, y, width = self.x.share(point.x), self.down(point.y), _LETTER * len(point.label)
            sides = ((share + _GAP, share + _GAP + width, 9), (share - _GAP - width, share - _GAP, -9))
            free = next((side for side in sides if _free(side[0], side[1], y, taken)), None)
            if free is None:
                continue
            taken.append((free[0], free[1], y))
            anchor = "end" if free[2] < 0 else None
            drawn.append(tag("text", point.label, class_="label", x=percent(share), y=y + 4, dx=free[2], text_anchor=anchor))
            if len(drawn) >= most:
                break
        return drawn


def _free(start: float, end: float, y: float, taken: Sequence[tuple[float, float, float]]) -> bool:
    """Whether nothing lies where a label from ``start`` to ``end`` (shares of the width) would."""
    inside = start >= 0 and end <= 1
    return inside and not any(abs(y - other) < _LABEL_HEIGHT and start < to + _GAP and end > since - _GAP for since, to, other in taken)


def shapes(devices: Sequence[str]) -> dict[str, int]:
    """A shape a device, in order of appearance."""
    return {device: number for number, device in enumerate(dict.fromkeys(devices))}
