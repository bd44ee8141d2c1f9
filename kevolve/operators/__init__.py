"""Who proposes candidates: one module an operator, registered under ``kevolve.operators``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kevolve import registry
from kevolve.search.node import Graph, Proposal
from kevolve.search.policies import Step
from kevolve.spec.spec import Spec

if TYPE_CHECKING:
    import random

    from kevolve.operators.trace import Trace
    from kevolve.search.lab import Lab
    from kevolve.search.loop import Propose


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an operator may look at: nothing of the grading plan."""

    spec: Spec
    trace: Trace  # the reference's graph
    target: str
    language: str
    graph: Graph
    sources: dict[str, str]  # artifact text by source_hash, for the nodes of `graph`
    random: random.Random  # seeded by --kevolve-seed
    lab: Lab | None = None  # what may be asked of the harness meanwhile
    seed: int = 0  # of this step
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON-able: "cases" (baseline_us, floor_us by case), "device", "peaks"


class Operator(Protocol):
    """A source of candidates."""

    name: str

    def propose(self, context: Context, step: Step, count: int) -> list[Proposal]:
        """At most ``count`` proposals for one step; empty when it has nothing (more) to say."""
        ...


def bind(spec: Spec, target: str, random: random.Random, *, operators: Sequence[Operator] | None = None) -> tuple[Propose, ...]:
    """The operators (all registered ones by default) as the search loop calls them; the reference is traced when first asked."""
    if operators is None:
        operators = tuple(registry.load("operators", name) for name in registry.names("operators"))

    @functools.cache
    def trace() -> Trace:
        from kevolve.operators.trace import trace_reference

        return trace_reference(spec, target=target)

    return tuple(_bound(operator, spec, target, random, trace) for operator in operators)


def _bound(operator: Operator, spec: Spec, target: str, random: random.Random, trace: Callable[[], Trace]) -> Propose:
    def propose(graph: Graph, step: Step, language: str, count: int) -> list[Proposal]:
        sources = {node.source_hash: node.proposal.source for node in graph.nodes}
        context = Context(spec=spec, trace=trace(), target=target, language=language, graph=graph, sources=sources, random=random)
        return operator.propose(context, step, count)

    return propose
