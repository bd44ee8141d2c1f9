"""Tuning walks from neighbour to neighbour and stops when there is none left."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.operators.tuning import Tuning
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Step
from tests.search.landscape import BEST, KNOBS, Family, families, judge


def node(number: int, proposal: Proposal, **fields) -> Node:
    judged = judge(proposal if proposal.knobs else setting())
    values = dict(
        id=number, run=1, spec="s", spec_hash="h", target="cpu", proposal=proposal, source_hash=str(number), normal_hash=str(number)
    )
    values |= dict(outcome=judged.outcome, fitness=judged.fitness, seconds=0.0, created="")
    return Node(**values | fields)


def setting(**changes) -> Proposal:
    return Family().proposal({name: values[0] for name, values in KNOBS.items()} | changes, operator="draft")


def propose(nodes: list[Node], parent: int, count: int = 99) -> list[Proposal]:
    return Tuning(families).propose(SimpleNamespace(graph=Graph(tuple(nodes)), language="cpp"), Step(parents=(parent,)), count)


def test_one_knob_is_changed_at_a_time_near_values_first():
    proposals = propose([node(1, setting())], 1)
    assert len(proposals) == 4 + 2 + 1
    for proposal in proposals:
        assert sum(proposal.knobs[name] != values[0] for name, values in KNOBS.items()) == 1
        assert (proposal.parents, proposal.family, proposal.operator) == ((1,), "toy", "tuning")
    assert [
        next(iter({name: proposal.knobs[name] for name in KNOBS if proposal.knobs[name] != KNOBS[name][0]})) for proposal in proposals[:3]
    ] == [
        "block",
        "lanes",
        "stages",
    ]


def test_what_mattered_before_comes_first():
    nodes = [node(1, setting()), node(2, setting(stages=2)), node(3, setting(lanes=8)), node(4, setting(block=2))]
    assert propose(nodes, 4)[0].knobs == setting(block=4).knobs


def test_the_best_of_the_family_is_varied_whichever_parent_is_asked_for():
    nodes = [node(1, setting()), node(2, setting(block=8))]
    assert {proposal.parents for proposal in propose(nodes, 1)} == {(2,)}


def test_two_good_changes_are_combined_when_single_ones_are_exhausted():
    here = setting(block=8, stages=3, lanes=8)
    tried = [here] + [
        Family().proposal(dict(BEST) | {name: value}, operator="t")
        for name, values in KNOBS.items()
        for value in values
        if value != BEST[name]
    ]
    nodes = [
        node(number, proposal, fitness=1.0, outcome=Outcome(status=Status.PASSED, stage=Stage.QUICK))
        for number, proposal in enumerate(tried, 1)
    ]
    proposals = propose(nodes, 1)
    assert proposals
    assert all(sum(proposal.knobs[name] != BEST[name] for name in KNOBS) == 2 for proposal in proposals)


def test_an_exhausted_neighbourhood_gives_nothing():
    everything = [setting(block=b, stages=s, lanes=w) for b in KNOBS["block"] for s in KNOBS["stages"] for w in KNOBS["lanes"]]
    assert propose([node(number, proposal) for number, proposal in enumerate(everything, 1)], 1) == []


def test_nothing_is_tuned_blindly():
    unmeasured = Outcome(status=Status.NOT_MEASURED, stage=Stage.PROPERTIES)
    assert propose([node(1, setting(), fitness=0.0, outcome=unmeasured)], 1) == []
    assert propose([node(1, setting(), fitness=1.0, outcome=unmeasured)], 1) == []
    assert propose([node(1, setting(block=16, stages=3))], 1) == []
    assert Tuning(families).propose(SimpleNamespace(graph=Graph(), language="cpp"), Step(parents=()), 9) == []


def test_a_kernel_file_is_tuned_as_the_setting_it_repeats():
    plain = Proposal(language="cpp", source="text", operator="file", idea="the present kernel")
    original = node(1, plain, fitness=1.0, outcome=Outcome(status=Status.PASSED, stage=Stage.QUICK), normal_hash="same")
    duplicate = node(2, setting(), outcome=Outcome(status=Status.PASSED, stage=Stage.DUPLICATE), normal_hash="same")
    assert {proposal.parents for proposal in propose([original, duplicate], 1)} == {(2,)}


def test_nodes_of_an_older_template_say_nothing():
    older = replace(setting(block=8), source="as it was")
    assert propose([node(1, older)], 1) == []
    assert {proposal.parents for proposal in propose([node(1, older), node(2, setting())], 1)} == {(2,)}
