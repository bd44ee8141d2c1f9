"""A synthetic landscape to search in: kernels whose text is their knobs, with an optimum that is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.operators import Context
from kevolve.search.loop import Evaluated
from kevolve.search.node import Graph, Proposal
from kevolve.search.policies import Step

KNOBS = {"block": (1, 2, 4, 8, 16), "stages": (1, 2, 3), "lanes": (4, 8)}
BEST = {"block": 8, "stages": 3, "lanes": 8}


class Family:
    """A tunable whose source spells out its knobs."""

    name = "toy"
    knobs = KNOBS

    def proposal(self, knobs: Mapping[str, Any], *, operator: str, parents: tuple[int, ...] = (), memory: str = "parent") -> Proposal:
        source = json.dumps(dict(knobs), sort_keys=True)
        return Proposal(
            language="cpp", source=source, operator=operator, idea="toy", parents=parents, family="toy", knobs=dict(knobs), memory=memory
        )


def families(_context: Context | None) -> dict[str, Family]:
    return {"toy": Family()}


def draft(graph: Graph, step: Step, language: str, count: int) -> list[Proposal]:
    """The first value of every knob, once."""
    if step.parents or language != "cpp" or any(node.proposal.family for node in graph.nodes):
        return []
    return [Family().proposal({name: values[0] for name, values in KNOBS.items()}, operator="draft")][:count]


def fitness(knobs: Mapping[str, Any]) -> float:
    """Separable, with a hole: block 16 with 3 stages does not compile."""
    score = {1: 1.0, 2: 1.3, 4: 1.6, 8: 2.0, 16: 1.9}[knobs["block"]] * {1: 1.0, 2: 1.1, 3: 1.2}[knobs["stages"]]
    return 0.0 if (knobs["block"], knobs["stages"]) == (16, 3) else score * {4: 1.0, 8: 1.1}[knobs["lanes"]]


def judge(proposal: Proposal) -> Evaluated:
    value = fitness(proposal.knobs)
    status, stage = (Status.PASSED, Stage.QUICK) if value else (Status.COMPILE_ERROR, Stage.COMPILE)
    return Evaluated(proposal=proposal, outcome=Outcome(status=status, stage=stage), fitness=value, seconds=0.5)


def evaluate(proposals: Sequence[Proposal]) -> Iterator[Evaluated]:
    """Results in reverse order: they may come in any."""
    for proposal in reversed(proposals):
        yield judge(proposal)
