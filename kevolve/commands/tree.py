"""A search graph as a tree for people: the best path whole, of the rest as much as can be read at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text
from rich.tree import Tree

from kevolve.evaluate.outcome import Stage, Status
from kevolve.report import text, words
from kevolve.search.node import Graph, Node
from kevolve.store.listing import Shelf

FOLDED_FROM = 40  # nodes
ALSO_SHOWN = 4  # of the fittest, besides the best, where a graph is folded
DEEPEST = 8  # levels; what lies deeper stands there too and says from which node it comes
_IDEA = 70
_MESSAGE = 60


def headline(shelf: Shelf) -> str:
    """``suites/test_norms.py::test_rms_norm on cpu: Xeon``, and what came of it."""
    best = f", best {text.digits(shelf.best)}x (#{shelf.best_node})" if shelf.best else ", none timed" if shelf.working else ", none works"
    older = f"; {text.plural(shelf.older, 'node')} of older versions of the spec" if shelf.older else ""
    where = f"{words.line(shelf.spec)} on {words.line(shelf.target)}"
    return f"{where}\n{text.plural(shelf.count, 'node')} of {text.plural(shelf.runs, 'run')}{best}{older}"


def render(shelf: Shelf, graph: Graph, *, folded: bool) -> Tree:
    """The tree, a node below its first parent. ``folded``: only the fittest and their ancestors, the others counted."""
    plan = _plan(graph, folded=folded)
    best = graph.best()
    root = Tree(Text(headline(shelf), style="bold"), guide_style="dim")
    levels: dict[int | None, list[Tree]] = {None: [root]}  # by node: the branches from the root to its own
    for parent, node in _in_order(plan):
        above = levels[parent][:DEEPEST]
        if isinstance(node, Node):
            levels[node.id] = [*above, above[-1].add(_label(node, plan, best=node is best, far=len(levels[parent]) > DEEPEST))]
        else:
            above[-1].add(Text(node, style="dim", no_wrap=True, overflow="ellipsis"))
    return root


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which nodes stand below which, and which of them are shown."""

    below: dict[int | None, list[Node]]
    above: dict[int, int | None]
    shown: set[int]

    def hidden(self, parent: int | None) -> list[Node]:
        """Everything below ``parent`` that no shown node stands for."""
        found, waiting = [], [node for node in self.below.get(parent, ()) if node.id not in self.shown]
        while waiting:
            node = waiting.pop()
            found.append(node)
            waiting += self.below.get(node.id, ())
        return found


def _plan(graph: Graph, *, folded: bool) -> _Plan:
    known = {node.id: node for node in graph.nodes}
    above = {node.id: _first_parent(node, known) for node in graph.nodes}
    below: dict[int | None, list[Node]] = {}
    for node in graph.nodes:
        below.setdefault(above[node.id], []).append(node)
    shown = set(known)
    if folded and len(known) > FOLDED_FROM:
        ranked = sorted((node for node in graph.nodes if node.works), key=lambda node: (-node.fitness, node.id))
        distinct = list({node.normal_hash: node for node in reversed(ranked)}.values())[::-1]
        shown = set()
        for chosen in distinct[: 1 + ALSO_SHOWN] or graph.nodes[:1]:
            number: int | None = chosen.id
            while number is not None and number not in shown:
                shown.add(number)
                number = above[number]
    return _Plan(below, above, shown)


def _first_parent(node: Node, known: dict[int, Node]) -> int | None:
    """The first parent in this graph that came before it: a later one would make a circle."""
    return next((parent for parent in node.proposal.parents if parent in known and parent < node.id), None)


def _in_order(plan: _Plan) -> Iterable[tuple[int | None, Node | str]]:
    """Parents before children; below the last child shown a line about those that are not. No recursion: a path may be long."""
    waiting: list[tuple[int | None, Node | str]] = []
    waiting += [(None, node) for node in _children(plan, None)][::-1]
    while waiting:
        parent, node = waiting.pop()
        yield parent, node
        if isinstance(node, Node):
            waiting += [(node.id, child) for child in _children(plan, node.id)][::-1]


def _children(plan: _Plan, parent: int | None) -> list[Node | str]:
    shown: list[Node | str] = [node for node in plan.below.get(parent, ()) if node.id in plan.shown]
    hidden = plan.hidden(parent)
    return [*shown, counted(hidden)] if hidden else shown


def counted(nodes: Sequence[Node]) -> str:
    """``… 31 more: 20 slower (best 1.80x), 8 COMPILE_ERROR, 3 duplicates``."""
    duplicates = sum(node.outcome.stage is Stage.DUPLICATE for node in nodes)
    own = [node for node in nodes if node.outcome.stage is not Stage.DUPLICATE]
    timed = [node.fitness for node in own if node.works and node.fitness > 0]
    failures = Counter(node.outcome.status.value for node in own if not node.works)
    untimed = sum(node.works and node.fitness <= 0 for node in own)
    parts = [f"{len(timed)} slower (best {text.digits(max(timed))}x)"] if timed else []
    parts += [f"{untimed} correct, not timed"] if untimed else []
    parts += [f"{count} {status}" for status, count in sorted(failures.items(), key=lambda item: (-item[1], item[0]))]
    parts += [text.plural(duplicates, "duplicate")] if duplicates else []
    return f"… {len(nodes):,} more: {', '.join(parts)}"


def gave(node: Node) -> str:
    """What a node gave: its speedup where it was timed, else its status; of a duplicate whose it repeats."""
    if node.outcome.stage is Stage.DUPLICATE:
        return f"the same as #{node.outcome.detail.get('node', '?')}"
    if node.outcome.status in (Status.PASSED, Status.TOO_SLOW) and node.fitness > 0:
        return f"{text.digits(node.fitness)}x"
    return node.outcome.status.value


def style(node: Node) -> str:
    """Of what it gave."""
    if node.outcome.stage is Stage.DUPLICATE:
        return "dim"
    return {Status.PASSED: "green", Status.TOO_SLOW: "yellow", Status.NOT_MEASURED: "cyan"}.get(node.outcome.status, "red")


def _label(node: Node, plan: _Plan, *, best: bool, far: bool) -> Text:
    proposal = node.proposal
    label = Text(no_wrap=True, overflow="ellipsis")
    label.append(f"#{node.id}", style="bold" if best else "")
    label.append(f"  {gave(node)}", style=f"bold {style(node)}" if best else style(node))
    label.append("  best", style="bold") if best else None
    label.append(f"  {words.line(_who(node), 40)}", style="dim")
    label.append(f"  {words.line(proposal.idea, _IDEA)}")
    if not node.works:
        label.append(f": {words.line(node.outcome.message, _MESSAGE)}", style="dim")
    label.append(f"  from #{plan.above[node.id]}", style="dim") if far else None
    others = [parent for parent in proposal.parents if parent in plan.above and parent != plan.above[node.id]]
    label.append(f"  also from {_numbers(others)}", style="dim") if others else None
    older = [parent for parent in proposal.parents if parent not in plan.above]
    label.append(f"  from {_numbers(older)} of an older version", style="dim") if older else None
    return label


def _who(node: Node) -> str:
    """The operator, and the model where there was one."""
    return f"{node.proposal.operator} {node.proposal.model}".strip()


def _numbers(nodes: Sequence[int]) -> str:
    return ", ".join(f"#{number}" for number in nodes)
