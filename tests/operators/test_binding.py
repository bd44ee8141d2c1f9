"""What an operator is given with each step."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from kevolve.operators import Sources, bind
from kevolve.search.node import Graph
from kevolve.search.step import Arm, Step
from tests.search.graphs import node


class Curious:
    name = "curious"

    def __init__(self) -> None:
        self.seen: list[object] = []

    def propose(self, context, step, count):
        self.seen.append((context.seed, context.lab, dict(context.facts), context.trace, context.language, count))
        return []


def test_a_step_brings_its_seed_the_lab_and_the_facts_of_the_moment():
    curious, lab, facts = Curious(), object(), {"cases": {}}
    (operation,) = bind(
        SimpleNamespace(name="s"), "cpu", random.Random(1), operators=[curious], lab=lab, facts=lambda: facts, trace=lambda: "traced"
    )
    operation.propose(Graph(), Step(parents=(), seed=77), "cpp", 1)
    facts["cases"] = {"8": {"baseline_us": 4.0}}
    operation.propose(Graph(), Step(parents=(), seed=78), "cpp", 1)
    assert curious.seen == [(77, lab, {"cases": {}}, "traced", "cpp", 1), (78, lab, facts, "traced", "cpp", 1)]


def test_an_operator_has_the_arms_of_the_models_that_it_can_ask():
    arm = Arm(operator="curious", model="one:a")
    given = dict(operators=[Curious()], trace=lambda: None)
    assert bind(SimpleNamespace(), "cpu", random.Random(1), arms={"curious": [arm]}, **given)[0].arms == (arm,)
    assert bind(SimpleNamespace(), "cpu", random.Random(1), **given)[0].arms == ()


def test_the_texts_of_a_graph_are_read_by_address():
    sources = Sources(Graph((node(1, 1.0), node(2, 2.0))))
    assert (sources["2"], list(sources), len(sources)) == ("2", ["1", "2"], 2)
    with pytest.raises(KeyError):
        sources["3"]
