"""Best first: drafts, then the fittest; decided from the graph alone."""

from __future__ import annotations

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.search.best_first import BestFirst
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Step


def node(number: int, fitness: float, *parents: int, status: Status = Status.PASSED, stage: Stage = Stage.QUICK) -> Node:
    proposal = Proposal(language="cpp", source=str(number), operator="o", idea="i", parents=parents)
    hashes = dict(source_hash=str(number), normal_hash=str(number), spec_hash="h")
    outcome = Outcome(status=status, stage=stage)
    return Node(
        id=number, run=1, spec="s", target="cpu", proposal=proposal, outcome=outcome, fitness=fitness, seconds=0.0, created="", **hashes
    )


def parents(steps: list[Step]) -> list[tuple[int, ...]]:
    return [step.parents for step in steps]


def test_an_empty_graph_is_drafted_for():
    assert BestFirst().ask(Graph(), 4, []) == [Step(parents=())]


def test_drafts_come_first_until_there_are_enough():
    graph = Graph((node(1, 1.0), node(2, 3.0), node(3, 2.0)))
    assert parents(BestFirst(drafts=4).ask(graph, 9, [])) == [(), (2,), (3,), (1,)]
    assert parents(BestFirst(drafts=3).ask(graph, 9, [])) == [(2,), (3,), (1,), ()]
    assert parents(BestFirst(drafts=3).ask(graph, 2, [])) == [(2,), (3,)]


def test_failures_and_duplicates_are_not_expanded():
    failed = node(2, 0.0, status=Status.COMPILE_ERROR, stage=Stage.COMPILE)
    graph = Graph((node(1, 1.0), failed, node(3, 1.0, stage=Stage.DUPLICATE)))
    assert parents(BestFirst(drafts=1).ask(graph, 9, [])) == [(1,), ()]


def test_pending_steps_are_not_given_twice():
    graph = Graph((node(1, 1.0), node(2, 3.0)))
    assert parents(BestFirst(drafts=1).ask(graph, 9, [Step(parents=(2,)), Step(parents=())])) == [(1,)]


def test_of_equals_the_least_expanded_comes_first():
    graph = Graph(
        (node(1, 0.0, status=Status.NOT_MEASURED), node(2, 0.0, status=Status.NOT_MEASURED), node(3, 0.0, 1, status=Status.TIMEOUT))
    )
    assert parents(BestFirst(drafts=1).ask(graph, 9, [])) == [(2,), (1,), ()]
