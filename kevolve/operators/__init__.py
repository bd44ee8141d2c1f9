"""Who proposes candidates: one module an operator, registered under ``kevolve.operators``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kevolve import registry
from kevolve.search.crew import Operation
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.step import Step
from kevolve.spec.spec import Spec

if TYPE_CHECKING:
    import random

    from kevolve.operators.trace import Trace
    from kevolve.search.lab import Lab
    from kevolve.search.step import Arm

MODELLED = "agent"  # the registered operator that is of no use without a model


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an operator may look at: nothing of the grading plan."""

    spec: Spec
    trace: Trace  # the reference's graph
    target: str
    language: str
    graph: Graph
    sources: Mapping[str, str]  # artifact text by source_hash, for the nodes of `graph`; read when asked for
    random: random.Random  # seeded by --kevolve-seed; shared by all steps: operators that run in threads use `seed`
    lab: Lab | None = None  # what may be asked of the harness meanwhile
    seed: int = 0  # of this step
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON-able: "cases" (baseline_us, floor_us, bound by case), "device", "peaks"


class Operator(Protocol):
    """A source of candidates."""

    name: str

    def propose(self, context: Context, step: Step, count: int) -> list[Proposal]:
        """At most ``count`` proposals for one step; empty when it has nothing (more) to say.

        One with a ``problem`` and no source says why it has no candidate: the user is told, and no evaluation is spent.
        With a model: at most one; it waits in a thread of its own, spends no more than ``step.most`` and may ask ``context.lab``.
        ``ModelFailed`` is recorded as a step without a candidate.
        """
        ...


class Sources(Mapping[str, str]):
    """The texts of a graph's nodes by address; nothing is read before it is asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @functools.cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.source_hash: node for node in self._graph.nodes}

    def __getitem__(self, source_hash: str) -> str:
        return self._nodes[source_hash].proposal.source

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def registered(chosen: Sequence[str] = ()) -> tuple[Operator, ...]:
    """The registered operators that need no model; those ``chosen``, where some are."""
    names = (name for name in registry.names("operators") if name != MODELLED and (not chosen or name in chosen))
    return tuple(registry.load("operators", name) for name in names)


def traced(spec: Spec, target: str) -> Callable[[], Trace]:
    """The reference's graph, traced when first asked for, by whichever thread."""
    lock = threading.Lock()

    @functools.cache
    def once() -> Trace:
        from kevolve.operators.trace import trace_reference

        return trace_reference(spec, target=target)

    def trace() -> Trace:
        with lock:
            return once()

    return trace


def bind(
    spec: Spec,
    target: str,
    random: random.Random,
    *,
    operators: Sequence[Operator] | None = None,
    arms: Mapping[str, Sequence[Arm]] | None = None,
    lab: Lab | None = None,
    facts: Callable[[], Mapping[str, Any]] = dict,
    trace: Callable[[], Trace] | None = None,
) -> tuple[Operation, ...]:
    """The operators (all registered ones without a model by default) as the search loop calls them.

    ``arms``: by operator, the models it can ask. ``facts``: what is known at the moment of a step. ``trace``: see ``traced``.
    """
    known = trace or traced(spec, target)

    def bound(operator: Operator) -> Operation:
        def propose(graph: Graph, step: Step, language: str, count: int) -> list[Proposal]:
            context = Context(
                spec=spec,
                trace=known(),
                target=target,
                language=language,
                graph=graph,
                sources=Sources(graph),
                random=random,
                lab=lab,
                seed=step.seed,
                facts=facts(),
            )
            return operator.propose(context, step, count)

        return Operation(name=operator.name, propose=propose, arms=tuple((arms or {}).get(operator.name, ())))

    return tuple(bound(operator) for operator in (registered() if operators is None else operators))
