"""What a step may look at of the search before it: its memory mode, as data for the prompt. Pure functions of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kevolve.evaluate.outcome import Status
from kevolve.search.node import Graph, Node
from kevolve.search.policies import Step

ANCESTORS, SIBLINGS = 8, 10  # the most that are told
Kind: TypeAlias = Literal["draft", "restart", "debug", "combine", "improve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What a step remembers.

    ``base``: the kernel to work from (the nearest ancestor that is one), ``others``: further parents. ``ancestors``: the trajectory that
    led to the first parent, itself last; ``siblings``: what else was tried from the parents. ``failed``: the failure to mend or not to
    repeat. ``fitness``: of the best parent, which a predicted gain is a factor of, also where nothing else may be told.
    """

    kind: Kind
    base: Node | None = None
    others: tuple[Node, ...] = ()
    ancestors: tuple[Node, ...] = ()
    siblings: tuple[Node, ...] = ()
    failed: Node | None = None
    fitness: float = 0.0


def recall(graph: Graph, step: Step) -> Recalled:
    """What ``step`` remembers: a draft and a restart nothing, an expansion what its memory mode says."""
    parents = [node for number in step.parents for node in graph.nodes if node.id == number]
    if not parents:
        return Recalled(kind="draft")
    fitness = max(node.fitness for node in parents)
    if step.memory == "restart":
        return Recalled(kind="restart", fitness=fitness)
    trajectory = tuple(_ancestors(graph, parents[0]))
    base = next((node for node in trajectory if is_kernel(node)), None)
    siblings = _siblings(graph, parents)
    others = tuple(node for node in parents[1:] if is_kernel(node))
    return Recalled(
        kind=_kind(base, parents[0], others),
        base=base,
        others=others,
        ancestors=trajectory[:ANCESTORS][::-1] if step.memory in ("parent", "both") else (),
        siblings=siblings[-SIBLINGS:] if step.memory in ("siblings", "both") else (),
        failed=_failed(parents[0], siblings),
        fitness=fitness,
    )


def remembered(graph: Graph, step: Step) -> Graph:
    """The part of the graph that ``step`` remembers: nothing for a draft or a restart, no siblings unless its memory mode has them."""
    if not step.parents or step.memory == "restart":
        return Graph.of(())
    if step.memory in ("siblings", "both"):
        return graph
    parents = set(step.parents)
    kept = {ancestor.id for node in graph.nodes if node.id in parents for ancestor in _ancestors(graph, node)}
    return Graph.of(node for node in graph.nodes if node.id in kept or not parents & set(node.proposal.parents))


def is_kernel(node: Node) -> bool:
    """Whether the node's source is a kernel, right or wrong: a step without a candidate kept only what its reply held."""
    return node.outcome.status is not Status.NO_CANDIDATE and bool(node.proposal.source.strip())


def _kind(base: Node | None, parent: Node, others: tuple[Node, ...]) -> Kind:
    if base is None:
        return "draft"
    if not parent.works and is_kernel(parent):
        return "debug"
    return "combine" if others else "improve"


def _ancestors(graph: Graph, node: Node) -> Iterator[Node]:
    """``node``, its first parent, that one's and so on."""
    known = {other.id: other for other in graph.nodes}
    current: Node | None = node
    seen: set[int] = set()
    while current is not None and current.id not in seen:
        seen.add(current.id)
        yield current
        current = next((known[parent] for parent in current.proposal.parents if parent in known), None)


def _siblings(graph: Graph, parents: list[Node]) -> tuple[Node, ...]:
    """What was tried from any of the parents before, in the order it was completed."""
    numbers = {node.id for node in parents}
    return tuple(node for node in graph.nodes if numbers & set(node.proposal.parents) and node.id not in numbers)


def _failed(parent: Node, siblings: tuple[Node, ...]) -> Node | None:
    """The parent where it fails; else the last step from it, where that gave no kernel: its author is told in every memory mode."""
    if not parent.works:
        return parent
    return siblings[-1] if siblings and siblings[-1].outcome.status is Status.NO_CANDIDATE else None
