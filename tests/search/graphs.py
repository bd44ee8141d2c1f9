"""Graphs to ask policies about, without a store."""

from __future__ import annotations

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.step import Arm, Around

MODEL = Arm(operator="agent", model="one:a")
FREE = Arm(operator="tuning")


def node(number: int, fitness: float, *parents: int, status: Status = Status.PASSED, stage: Stage = Stage.QUICK, **said) -> Node:
    fields = dict(operator="o", idea="i", model="", memory="parent", seconds=0.0, usage=Usage()) | said
    proposal = Proposal(language="cpp", source=str(number), parents=parents, **fields)
    hashes = dict(source_hash=str(number), normal_hash=str(number), spec_hash="h")
    rest = dict(outcome=Outcome(status=status, stage=stage), fitness=fitness, seconds=0.0, created="", step=number)
    return Node(id=number, run=1, spec="s", target="cpu", proposal=proposal, **hashes, **rest)


def failed(number: int, *parents: int, **said) -> Node:
    return node(number, 0.0, *parents, status=Status.COMPILE_ERROR, stage=Stage.COMPILE, **said)


def graph(*nodes: Node, arms: tuple[Arm, ...] = (FREE,), seed: int = 1, number: int | None = None, exhausted=()) -> Graph:
    around = Around(arms=arms, seed=seed, number=len(nodes) + 1 if number is None else number, exhausted=tuple(exhausted))
    return Graph(nodes, around)
