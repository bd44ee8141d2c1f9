"""The parts of a kernel's section that a page of many kernels may have to leave out, and which of them fit.

A piece is drawn when it is known to be wanted. What matters most is kept first: of every kernel the pieces of the lowest rank, of
equal rank those of the kernels that need attention. So a page never outgrows its limit, and says what it left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from kevolve.report import text
from kevolve.report.html.heat import heat_map
from kevolve.report.html.history import history
from kevolve.report.html.kernels import Kernel
from kevolve.report.html.lineage import steps
from kevolve.report.html.markup import lines
from kevolve.report.html.tree import lineage, tree
from kevolve.report.record import NodeRow, SearchRow

_MISSES = 25  # pieces in a row that did not fit, after which the rest is not tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One part: ``draw`` makes it. ``rank``: lower ones are kept first. ``folded``: shown when it is opened."""

    title: str
    rank: int
    draw: Callable[[], Markup]
    folded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A kernel's part of the page: its pieces in the order of reading, those that fit drawn. ``open``: seen without a click."""

    kernel: Kernel
    open: bool
    pieces: tuple[Piece, ...]
    drawn: dict[int, Markup] = field(default_factory=dict)

    @property
    def shown(self) -> list[tuple[Piece, Markup]]:
        """The pieces that fit."""
        return [(piece, self.drawn[number]) for number, piece in enumerate(self.pieces) if number in self.drawn]

    @property
    def left_out(self) -> list[str]:
        """The titles of those that did not."""
        return [piece.title for number, piece in enumerate(self.pieces) if number not in self.drawn]


def pack(sections: Sequence[Section], budget: int) -> None:
    """Draw pieces, the most wanted first, until ``budget`` bytes are used."""
    wanted = [(piece.rank, order, number) for order, section in enumerate(sections) for number, piece in enumerate(section.pieces)]
    missed = 0
    for _, order, number in sorted(wanted):
        drawn = sections[order].pieces[number].draw()
        size = len(drawn.encode()) + 120  # its fold and title
        if size > budget:
            missed += 1
            if missed >= _MISSES:
                return
            continue
        missed, budget = 0, budget - size
        sections[order].drawn[number] = drawn


def pieces(kernel: Kernel, macros: Any, sources: Mapping[str, str], prompts: Mapping[str, str]) -> tuple[Piece, ...]:
    """The pieces of a kernel's section. ``macros``: the template that draws them."""
    found = []
    if kernel.judged:
        failed = any(verdict.failed for verdict in kernel.judged)
        found.append(Piece(title="Gate", rank=0 if failed else 2, draw=lambda: macros.gate(kernel.judged), folded=not failed))
    heat = heat_map(kernel.cases)
    if heat is not None:
        found.append(Piece(title="Shapes and dtypes", rank=1, draw=lambda: macros.heat(heat), folded=False))
    over_time = history(kernel.cases)
    if over_time is not None:
        found.append(Piece(title="Latency over time", rank=1, draw=lambda: macros.history(over_time), folded=False))
    if kernel.cases:
        found.append(Piece(title="Every case: times, baselines, floor, resources", rank=3, draw=lambda: macros.cases(kernel)))
    for search in kernel.searches:
        found += _search(search, macros, sources, prompts)
    if (source := sources.get(kernel.hash)) is not None:
        title = f"Source, {text.plural(len(lines(source)), 'line')}"
        found.append(Piece(title=title, rank=4, draw=lambda: macros.source(source)))
    return tuple(found)


def _search(search: SearchRow, macros: Any, sources: Mapping[str, str], prompts: Mapping[str, str]) -> list[Piece]:
    if not search.nodes:
        return []
    line = lineage(search)
    found = [
        Piece(title="Search", rank=2, draw=lambda: macros.search(tree(search), search, cost(search.nodes)), folded=False),
        Piece(title=f"Every step of the search, {len(search.nodes)}", rank=5, draw=lambda: macros.steps(search, line)),
    ]
    if line:
        found.append(
            Piece(title="Lineage of the best, difference by difference", rank=6, draw=lambda: macros.lineage(steps(search, sources)))
        )
    asked = [(node, prompts[node.prompt]) for node in search.nodes if node.prompt in prompts]
    if asked:
        found.append(Piece(title=f"Prompts of the lineage, {len(asked)}", rank=7, draw=lambda: macros.prompts(asked)))
    return found


def cost(nodes: Sequence[NodeRow]) -> str:
    """What a search took: ``12 steps in 3 min 20 s; 5,000 tokens in (4,000 cached), 900 out; $0.12``."""
    read, cached, written = (sum(getattr(node.usage, name) for node in nodes) for name in ("input", "cached", "output"))
    said = [f"{text.plural(len(nodes), 'step')} in {text.duration(sum(node.seconds for node in nodes))}"]
    if read or cached or written:
        said.append(f"{read:,} tokens in and {cached:,} from the cache, {written:,} out")
        priced = [node.usage.usd for node in nodes if node.usage.usd is not None]
        said.append(f"${sum(priced):.2f}" if priced else "no price known")
    return "; ".join(said)
