"""A search as a tree with fitness over steps: a node where its step and its fitness lie, a line from each parent, failures below."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from kevolve.report import text
from kevolve.report.html.axis import LogAxis, around, short
from kevolve.report.html.markup import percent, tag
from kevolve.report.record import NodeRow, SearchRow

_HEIGHT = 200
_LANE = 26  # below the plot, where failures lie


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Where steps and fitnesses lie: shares of the width, pixels from the top."""

    axis: LogAxis
    first: int
    last: int

    def share(self, step: int) -> float:
        return (step - self.first + 0.5) / (self.last - self.first + 1)

    def x(self, step: int) -> str:
        return percent(self.share(step))

    def y(self, fitness: float) -> float:
        if fitness <= 0:
            return _HEIGHT + _LANE / 2
        return round(6 + (1 - self.axis.share(fitness)) * (_HEIGHT - 12), 1)

    def place(self, node: NodeRow) -> tuple[str, float]:
        return self.x(node.step), self.y(node.fitness)


def tree(search: SearchRow) -> Markup | None:
    """The drawing; None of a search without steps."""
    if not search.nodes:
        return None
    steps = [node.step for node in search.nodes]
    axis = around([*(node.fitness for node in search.nodes), 1.0], room=1.15)
    assert axis is not None  # 1.0 is on it
    field = _Field(axis=axis, first=min(steps), last=max(steps))
    marks = [_mark(node, field, best=node.id == search.best) for node in search.nodes]
    label = f"Search for {search.spec}: {text.plural(len(steps), 'step')}, fitness (speedup) against step; its steps as a table stand below"
    attributes = {"class_": "plane", "height": _HEIGHT + _LANE + 26, "role": "img", "aria_label": label}
    return tag("svg", *_scales(field), *_stairs(search, field), *_edges(search, field), *marks, **attributes)


def lineage(search: SearchRow) -> set[int]:
    """The best node's id and those of all it descends from; empty where nothing works."""
    by_id = {node.id: node for node in search.nodes}
    found: set[int] = set()
    wanted = [] if search.best is None else [search.best]
    while wanted:
        id = wanted.pop()
        if id in by_id and id not in found:
            found.add(id)
            wanted.extend(by_id[id].parents)
    return found


def _scales(field: _Field) -> list[Markup]:
    """Lines and texts of the fitnesses, texts of the first, the middle and the last step."""
    ticks = [(tick, field.y(tick)) for tick in field.axis.ticks(6)]
    lines = [tag("line", class_="g", x1="0", x2="100%", y1=y, y2=y) for _, y in ticks]
    beside = [tag("text", f"{short(tick)}×", x=-8, y=y + 4, text_anchor="end") for tick, y in ticks]
    lane = tag("text", "failed", x=-8, y=field.y(0) + 4, text_anchor="end")
    steps = sorted({field.first, (field.first + field.last) // 2, field.last})
    below = [tag("text", f"step {step}", x=field.x(step), y=_HEIGHT + _LANE + 18, text_anchor=_side(step, field)) for step in steps]
    return [*lines, *beside, lane, *below]


def _side(step: int, field: _Field) -> str:
    if field.first == field.last or field.first < step < field.last:
        return "middle"
    return "start" if step == field.first else "end"


def _edges(search: SearchRow, field: _Field) -> list[Markup]:
    """A line from each parent; bold where both are on the lineage of the best."""
    by_id, line = {node.id: node for node in search.nodes}, lineage(search)
    pairs = [(by_id[parent], node) for node in search.nodes for parent in node.parents if parent in by_id]
    return [_line("e b" if {old.id, new.id} <= line else "e", field.place(old), field.place(new)) for old, new in pairs]


def _line(kind: str, start: tuple[str, float], end: tuple[str, float]) -> Markup:
    return tag("line", class_=kind, x1=start[0], y1=start[1], x2=end[0], y2=end[1])


def _mark(node: NodeRow, field: _Field, *, best: bool) -> Markup:
    said = f"{text.digits(node.fitness)}×" if node.fitness > 0 else node.status.replace("_", " ").lower()
    title = tag("title", f"step {node.step}: {said}, {text.shorten(' '.join(filter(None, (node.operator, node.model))), 60)}")
    x, y = field.x(node.step), field.y(node.fitness)
    if node.fitness <= 0:
        return tag("text", title, "✕", class_="wrong x", x=x, y=y + 4, text_anchor="middle")
    return tag("circle", title, class_="p best" if best else "p", cx=x, cy=y, r=6 if best else 4)


def _stairs(search: SearchRow, field: _Field) -> list[Markup]:
    """The fittest found by each step."""
    parts, best, since = [], 0.0, ""
    for node in sorted(search.nodes, key=lambda one: one.step):
        if node.fitness > best:
            x, y = field.x(node.step), field.y(node.fitness)
            if best:
                corner = (x, field.y(best))
                parts += [_line("s", (since, field.y(best)), corner), _line("s", corner, (x, y))]
            best, since = node.fitness, x
    return [*parts, _line("s", (since, field.y(best)), ("100%", field.y(best)))] if best else []
