"""What was tried before, a line each: what an author must know and no more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from kevolve.evaluate.outcome import Status
from kevolve.knowledge.evidence import Counterexample, telling_line
from kevolve.search.node import Graph, Node

MOST = 8
_IDEA = 90
_FAILED = {
    Status.COMPILE_ERROR: "does not compile",
    Status.TIMEOUT: "timed out",
    Status.RUNTIME_ERROR: "crashed",
    Status.INCORRECT_NUMERICAL: "wrong",
    Status.INCORRECT_SHAPE: "wrong shape",
    Status.INCORRECT_DTYPE: "wrong dtype",
    Status.REWARD_HACK: "refused",
    Status.SUSPECT: "refused, faster than possible",
    Status.NO_CANDIDATE: "no kernel",
}


def remembered(graph: Graph, parents: Sequence[int], memory: str) -> tuple[Node, ...]:
    """The nodes that a memory mode tells of: the parents' own history, what else was tried from them, both, or the best of each idea."""
    if memory == "restart" or not parents:
        return graph.nodes
    nodes = {node.id: node for node in graph.nodes}
    found: dict[int, Node] = {}
    if memory in ("parent", "both"):
        found |= _ancestors(nodes, parents)
    if memory in ("siblings", "both"):
        found |= {child.id: child for parent in parents for child in graph.children(parent)}
    return tuple(found.values())


def siblings(graph: Graph, parents: Sequence[int]) -> tuple[Node, ...]:
    """What was tried from any of ``parents``, once each."""
    return tuple({child.id: child for parent in parents for child in graph.children(parent)}.values())


def told(nodes: Iterable[Node], *, most: int = MOST) -> tuple[str, ...]:
    """One line a node, the fittest first and the latest failures after; what says the same thing once."""
    ranked = sorted(nodes, key=lambda node: (-node.fitness, not node.works, -node.id))
    lines: dict[tuple[str, str], str] = {}
    for node in ranked:
        lines.setdefault((node.proposal.idea, ending(node)), f"{_short(node.proposal.idea)}: {ending(node)}")
    return tuple(lines.values())[:most]


def ending(node: Node) -> str:
    """``1.84x``, ``wrong at cols = 33, dtype = float32``, ``does not compile: …``."""
    outcome = node.outcome
    if outcome.status in (Status.PASSED, Status.TOO_SLOW):
        return f"{node.fitness:.2f}x" + _against_prediction(node)
    if outcome.status is Status.NOT_MEASURED:
        return "right, not timed"
    example = Counterexample.of(outcome.detail)
    reason = f" at {example.described}" if example else ": " + _short(telling_line(outcome.message)) if outcome.message else ""
    return _FAILED.get(outcome.status, str(outcome.status)) + reason


def _against_prediction(node: Node) -> str:
    predicted = node.proposal.predicted_gain
    return f" ({predicted:.2f}x of its parent was predicted)" if predicted else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _IDEA else text[: _IDEA - 2].rstrip() + " …"


def _ancestors(nodes: dict[int, Node], parents: Sequence[int]) -> dict[int, Node]:
    found: dict[int, Node] = {}
    waiting = list(parents)
    while waiting:
        number = waiting.pop()
        if number in nodes and number not in found:
            found[number] = nodes[number]
            waiting += nodes[number].proposal.parents
    return found


def documents_of(node: Node) -> tuple[str, ...]:
    """The ids of the documents that were in a node's prompt: its transcript's ``documents``."""
    try:
        found = json.loads(node.proposal.transcript)["documents"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(str(id) for id in found) if isinstance(found, list) else ()
