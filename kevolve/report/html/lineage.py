"""What changed from each kernel of a search's best lineage to the next, side by side."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kevolve.report import text
from kevolve.report.html.markup import lines as lines_of
from kevolve.report.html.tree import lineage
from kevolve.report.record import NodeRow, SearchRow

_CONTEXT = 3
_LONGEST = 1_500  # lines of a source that is compared; difflib takes seconds for more
_MOST_LINES = 400  # of one difference that are shown
_WIDEST = 240  # characters of a line that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a difference: the old and the new text with their numbers; None on the side that has none. ``kind``: same, changed, gap."""

    kind: str
    old: str | None = None
    new: str | None = None
    old_number: int | None = None
    new_number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A node of the lineage and how it differs from one of its parents; no lines where a source is not in the record."""

    node: NodeRow
    parent: NodeRow | None
    lines: tuple[Line, ...]
    note: str


def steps(search: SearchRow, sources: Mapping[str, str]) -> list[Step]:
    """The lineage of ``search``'s best, oldest first: a step for each parent of each node."""
    line, by_id = lineage(search), {node.id: node for node in search.nodes}
    nodes = sorted((node for node in search.nodes if node.id in line), key=lambda node: node.step)
    pairs: list[tuple[NodeRow, NodeRow | None]] = []
    for node in nodes:
        parents = [by_id[id] for id in node.parents if id in by_id]
        pairs += [(node, parent) for parent in parents] or [(node, None)]
    return [_step(node, parent, sources) for node, parent in pairs]


def _step(node: NodeRow, parent: NodeRow | None, sources: Mapping[str, str]) -> Step:
    new, old = sources.get(node.source), sources.get(parent.source) if parent else None
    if parent is None:
        return Step(node=node, parent=None, lines=(), note="the first of the lineage" + ("" if new is None else f", {_length(new)}"))
    if new is None or old is None:
        return Step(node=node, parent=parent, lines=(), note="the record holds no source of one of them")
    if max(len(lines_of(new)), len(lines_of(old))) > _LONGEST:
        return Step(node=node, parent=parent, lines=(), note=f"{_length(old)} and {_length(new)}: too long to compare here")
    lines = tuple(differences(old, new))
    note = "the same text" if not lines else "" if len(lines) <= _MOST_LINES else f"the first {_MOST_LINES} of {len(lines)} lines"
    return Step(node=node, parent=parent, lines=lines[:_MOST_LINES], note=note)


def _length(source: str) -> str:
    return text.plural(len(lines_of(source)), "line")


def differences(old: str, new: str) -> Iterator[Line]:
    """The lines that differ and three around them, each side in its own column; nothing for equal texts."""
    left, right = lines_of(old), lines_of(new)
    for number, group in enumerate(difflib.SequenceMatcher(None, left, right, autojunk=False).get_grouped_opcodes(_CONTEXT)):
        if number:
            yield Line(kind="gap")
        for kind, a, b, c, d in group:
            for offset in range(max(b - a, d - c)):
                x, y = a + offset, c + offset
                old_line, new_line = (left[x] if x < b else None), (right[y] if y < d else None)
                yield Line(
                    kind="same" if kind == "equal" else "changed",
                    old=_cut(old_line),
                    new=_cut(new_line),
                    old_number=x + 1 if old_line is not None else None,
                    new_number=y + 1 if new_line is not None else None,
                )


def _cut(line: str | None) -> str | None:
    return None if line is None else line if len(line) <= _WIDEST else line[:_WIDEST] + "…"
