"""The bandit prefers what gained, by what it cost, and forgets."""

from __future__ import annotations

from collections import Counter

from kevolve.search import bandit
from kevolve.search.index import Index
from kevolve.search.node import Node
from kevolve.search.step import Arm, Step
from tests.search.graphs import FREE, failed, graph, node

ONE, TWO = Arm(operator="agent", model="one:a"), Arm(operator="agent", model="two:b")


def firsts(nodes: list[Node], step: Step, *arms: Arm, draws: int = 300) -> Counter[str]:
    index = Index(nodes)
    found: Counter[str] = Counter()
    for number in range(draws):
        around = graph(*nodes, arms=arms, number=number)
        first = bandit.rank(type(around)(around.nodes, around.around, [index]), step, arms)[0]
        found[first.model or first.operator] += 1
    return found


def taken(gains: dict[str, float], count: int = 12, **said) -> list[Node]:
    """A root, then steps of each model from it with the same gain."""
    nodes = [node(1, 1.0)]
    for model, gain in gains.items():
        for _ in range(count):
            nodes.append(node(len(nodes) + 1, 1.0 + gain, 1, operator="agent", model=model, **said))
    return nodes


def test_weights_are_what_is_believed_before_anything_is_known():
    equal = firsts([node(1, 1.0)], Step(parents=()), ONE, TWO)
    assert 100 < equal["one:a"] < 200
    heavy = firsts([node(1, 1.0)], Step(parents=()), Arm(operator="agent", model="one:a", weight=9.0), TWO)
    assert heavy["one:a"] > 220


def test_the_model_that_gains_is_asked_more_and_the_other_now_and_then():
    found = firsts(taken({"one:a": 0.5, "two:b": 0.0}), Step(parents=(1,)), ONE, TWO)
    assert found["one:a"] > 270
    assert 0 < firsts(taken({"one:a": 0.08, "two:b": 0.0}), Step(parents=(1,)), ONE, TWO)["two:b"] < 120


def test_of_equal_gains_the_cheaper_is_asked():
    nodes = taken({"one:a": 0.3}) + [node(number, 1.3, 1, operator="agent", model="two:b", seconds=600.0) for number in range(14, 26)]
    assert firsts(nodes, Step(parents=(1,)), ONE, TWO)["one:a"] > 270


def test_what_gave_much_once_and_nothing_since_is_left():
    early = [node(1, 1.0), node(2, 3.0, 1, operator="agent", model="one:a")]
    late = [failed(number, 1, operator="agent", model="one:a") for number in range(3, 43)]
    steady = [node(number, 1.1, 1, operator="agent", model="two:b") for number in range(43, 53)]
    assert firsts(early + late + steady, Step(parents=(1,)), ONE, TWO)["two:b"] > 250


def test_drafts_come_from_operators_without_a_model_first():
    assert firsts([], Step(parents=()), ONE, FREE, TWO)["tuning"] == 300


def test_a_new_structure_is_tuned_before_it_is_worked_on_again():
    structure = node(2, 2.0, 1, operator="agent", model="one:a")
    nodes = [node(1, 1.0), structure]
    assert firsts(nodes, Step(parents=(2,)), ONE, FREE)["tuning"] == 300
    tuned = [node(number, 2.0, 2, operator="tuning") for number in (3, 4)]
    assert firsts(nodes + tuned, Step(parents=(2,)), ONE, FREE)["one:a"] > 50


def test_a_structure_is_given_tuning_at_once_unless_it_is_too_slow_or_under_way():
    slow, good = node(2, 0.5, 1, model="one:a", operator="agent"), node(3, 0.9, 1, model="one:a", operator="agent")
    whole = graph(node(1, 1.0), slow, good, arms=(ONE, FREE))
    assert bandit.to_tune(whole, slow, []) is None
    step = bandit.to_tune(whole, good, [])
    assert step == Step(parents=(3,), operator="tuning")
    assert bandit.to_tune(whole, good, [step]) is None
    assert bandit.to_tune(whole, whole.nodes[0], []) is None, "no model made it"


def test_memory_is_chosen_by_what_it_gained_where_there_is_anything_to_remember():
    nodes = [node(1, 1.0)]
    for mode, fitness in (("both", 1.5), ("parent", 1.0), ("siblings", 1.0)):
        for _ in range(15):
            nodes.append(node(len(nodes) + 1, fitness, 1, operator="agent", model="one:a", memory=mode))
    chosen = Counter(bandit.memory(graph(*nodes, arms=(ONE,), number=number), nodes[0]) for number in range(100))
    assert chosen["both"] > 80
    assert bandit.memory(graph(node(1, 1.0), arms=(ONE,)), node(1, 1.0)) == "parent", "an only node has no siblings"
    assert bandit.memory(graph(*nodes, arms=(FREE,)), nodes[0]) == "parent", "nobody remembers"
