"""A search as a tree with fitness over steps: a node where its step and its fitness lie, a line from each parent, failures below."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from kevolve.report import text
from kevolve.report.html.axis import LogAxis, around, short
from kevolve.report.html.markup import percent, tag
from kevolve.report.record import NodeRow, SearchRow

_HEIGHT = 200
_LANE = 26  # below the plot, where failures lie


def tree(search: SearchRow) -> Markup | None:
    """The drawing; None of a search without steps."""
    if not search.nodes:
        return None
    axis = around([*(node.fitness for node in search.nodes), 1.0], room=1.15)
    assert axis is not None  # 1.0 is on it
    steps = [node.step for node in search.nodes]
    first, last = min(steps), max(steps)
    places = {node.id: ((node.step - first + 0.5) / (last - first + 1), _down(node, axis)) for node in search.nodes}
    by_id = {node.id: node for node in search.nodes}
    line = lineage(search)
    edges = [_edge(places[parent], places[node.id], {parent, node.id} <= line) for node in search.nodes for parent in node.parents if parent in by_id]
    grid = [tag("line", class_="g", x1="0", x2="100%", y1=_y(axis, tick), y2=_y(axis, tick)) for tick in axis.ticks(6)]
    beside = [tag("text", f"{short(tick)}×", x=-8, y=_y(axis, tick) + 4, text_anchor="end") for tick in axis.ticks(6)]
    lane = tag("text", "failed", x=-8, y=_HEIGHT + _LANE / 2 + 4, text_anchor="end")
    ticks = sorted({first, (first + last) // 2, last})
    below = [
        tag("text", f"step {step}", x=percent((step - first + 0.5) / (last - first + 1)), y=_HEIGHT + _LANE + 18, text_anchor=_side(step, first, last))
        for step in ticks
    ]
    best = [_best_so_far(search, axis, first, last)]
    marks = [_mark(node, places[node.id], best=node.id == search.best) for node in search.nodes]
    label = f"Search for {search.spec}: {text.plural(len(search.nodes), 'step')}, fitness (speedup) against step; the table below has the figures"
    attributes = {"class_": "plane", "height": _HEIGHT + _LANE + 26, "role": "img", "aria_label": label}
    return tag("svg", *grid, *best, *edges, *marks, *below, *beside, lane, **attributes)


def lineage(search: SearchRow) -> set[int]:
    """The best node's id and those of all it descends from; empty where nothing works."""
    by_id: Mapping[int, NodeRow] = {node.id: node for node in search.nodes}
    found: set[int] = set()
    wanted = [search.best] if search.best in by_id else []
    while wanted:
        id = wanted.pop()
        if id is not None and id in by_id and id not in found:
            found.add(id)
            wanted.extend(by_id[id].parents)
    return found


def _y(axis: LogAxis, fitness: float) -> float:
    return round(6 + (1 - axis.share(fitness)) * (_HEIGHT - 12), 1)


def _down(node: NodeRow, axis: LogAxis) -> float:
    return _y(axis, node.fitness) if node.fitness > 0 else _HEIGHT + _LANE / 2


def _side(step: int, first: int, last: int) -> str:
    return "middle" if first == last or first < step < last else "start" if step == first else "end"


def _edge(start: tuple[float, float], end: tuple[float, float], on_line: bool) -> Markup:
    return tag("line", class_="e b" if on_line else "e", x1=percent(start[0]), y1=start[1], x2=percent(end[0]), y2=end[1])


def _mark(node: NodeRow, place: tuple[float, float], *, best: bool) -> Markup:
    said = f"{text.digits(node.fitness)}×" if node.fitness > 0 else node.status.replace("_", " ").lower()
    title = tag("title", f"step {node.step}: {said}, {text.shorten(' '.join(filter(None, (node.operator, node.model))), 60)}")
    x = percent(place[0])
    if node.fitness <= 0:
        return tag("text", title, "✕", class_="wrong x", x=x, y=place[1] + 4, text_anchor="middle")
    return tag("circle", title, class_="p best" if best else "p", cx=x, cy=place[1], r=6 if best else 4)


def _best_so_far(search: SearchRow, axis: LogAxis, first: int, last: int) -> Markup:
    """The fittest found by each step, as stairs."""
    parts, best, since = [], 0.0, 0.0
    for node in sorted(search.nodes, key=lambda one: one.step):
        if node.fitness <= best:
            continue
        x = (node.step - first + 0.5) / (last - first + 1)
        if best:
            parts.append(tag("line", class_="s", x1=percent(since), x2=percent(x), y1=_y(axis, best), y2=_y(axis, best)))
            parts.append(tag("line", class_="s", x1=percent(x), x2=percent(x), y1=_y(axis, best), y2=_y(axis, node.fitness)))
        best, since = node.fitness, x
    if best:
        parts.append(tag("line", class_="s", x1=percent(since), x2="100%", y1=_y(axis, best), y2=_y(axis, best)))
    return tag("g", *parts)
