"""What every policy does: drafts first, repairs, nothing remembered; and what each is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kevolve.search.best_first import BestFirst
from kevolve.search.greedy import Greedy
from kevolve.search.index import Index
from kevolve.search.islands import Islands
from kevolve.search.populations import ISLANDS, Populations
from kevolve.search.step import Step
from kevolve.search.uct import UCT
from kevolve.search.visits import ROOT, Visits
from kevolve.store.graph_store import GraphStore
from tests.search.graphs import FREE, MODEL, failed, graph, node
from tests.search.landscape import BEST
from tests.search.modelled import searched
from tests.search.test_loop import search

POLICIES = [BestFirst, Greedy, UCT, Islands]


def parents(steps: list[Step]) -> list[tuple[int, ...]]:
    return [step.parents for step in steps]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_finds_the_optimum_of_a_small_landscape_without_a_model(tmp_path: Path, policy):
    with GraphStore(tmp_path) as store:
        found = search(store, policy=policy(drafts=1)).run()
    assert found.best is not None
    assert found.best.proposal.knobs == BEST
    assert found.reason == "nothing left to propose"


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_works_with_models_and_uses_all_of_them(tmp_path: Path, policy):
    with GraphStore(tmp_path) as store:
        found = searched(store, policy(drafts=4)).run()
    assert found.evaluations == 60
    assert {node.proposal.model for node in found.graph.nodes} == {"", "one:a", "two:b"}
    assert found.best is not None
    assert found.best.proposal.knobs == BEST


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_drafts_until_there_are_enough_begun_or_under_way(policy):
    some = graph(node(1, 1.0), node(2, 2.0), arms=(FREE, MODEL), number=5)  # the turn of an island that is not empty
    under_way = [Step(parents=(), operator="agent", model="one:a", number=3)]
    assert parents(policy(drafts=4).ask(some, 1, under_way)) == [()]
    assert parents(policy(drafts=3).ask(some, 1, under_way)) != [()]
    assert policy(drafts=4).ask(some, 1, under_way)[0].memory == "restart"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_short_search_with_models_drafts_for_a_quarter_of_its_evaluations(policy):
    some = graph(node(1, 1.0), node(2, 2.0), arms=(FREE, MODEL), number=5)
    short = replace(some, around=replace(some.around, evaluations=8))
    long = replace(some, around=replace(some.around, evaluations=40))
    assert parents(policy().ask(long, 1, [])) == [()]
    assert parents(policy().ask(short, 1, [])) != [()]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_draft_without_a_model_under_way_keeps_no_model_from_drafting(policy):
    under_way = [Step(parents=(), operator="samples", number=1)]
    assert parents(policy().ask(graph(arms=(FREE, MODEL)), 1, under_way)) == [()]
    assert parents(policy().ask(graph(arms=(FREE,)), 1, under_way)) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_remembers(policy):
    nodes = [node(1, 1.0), node(2, 2.0), node(3, 1.5, 1), failed(4, 2), node(5, 2.5, 2)]
    once = policy(drafts=2)
    for count in range(2, 6):
        once.ask(graph(*nodes[:count], arms=(FREE, MODEL)), 2, [])
    fresh = policy(drafts=2).ask(graph(*nodes, arms=(FREE, MODEL)), 3, [])
    assert once.ask(graph(*nodes, arms=(FREE, MODEL)), 3, []) == fresh


@pytest.mark.parametrize("policy", POLICIES)
def test_where_nothing_works_a_models_failure_is_repaired_and_a_settings_failure_is_not(policy):
    broken = failed(1, operator="agent", model="one:a")
    assert parents(policy(drafts=1).ask(graph(broken, arms=(FREE, MODEL)), 1, [])) == [(1,)]
    assert parents(policy(drafts=1).ask(graph(broken, failed(2, 1, model="one:a"), arms=(FREE, MODEL)), 1, [])) == [(2,)]
    again = (broken, failed(2, 1, model="one:a"), failed(3, 2, model="one:a"))
    assert parents(policy(drafts=1).ask(graph(*again, arms=(FREE, MODEL)), 1, [])) == [()], "three failures in a row are left"
    assert parents(policy(drafts=1).ask(graph(broken, arms=(FREE,)), 1, [])) == [()], "nobody here can repair"


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_exhausted_is_not_asked_for_again(policy):
    nodes = (node(1, 1.0), node(2, 2.0))
    exhausted = (Step(parents=()), Step(parents=(2,)), Step(parents=(1,)))
    assert parents(policy(drafts=1).ask(graph(*nodes, exhausted=exhausted[:2]), 1, [])) in ([(1,)], [])
    assert policy(drafts=1).ask(graph(*nodes, exhausted=exhausted), 1, []) == []


def test_greedy_stays_with_the_best_however_many_steps_from_it_are_under_way():
    nodes = (node(1, 1.0), node(2, 3.0), node(3, 2.0))
    under_way = [Step(parents=(2,), operator="agent", model="one:a", number=4)]
    assert parents(Greedy(drafts=1).ask(graph(*nodes, arms=(FREE, MODEL)), 1, under_way)) == [(2,)]
    assert parents(BestFirst(drafts=1).ask(graph(*nodes, arms=(FREE, MODEL)), 1, under_way)) == [(3,)]
    assert parents(Greedy(drafts=1).ask(graph(*nodes, exhausted=[Step(parents=(2,))]), 1, [])) == [(3,)]


def test_visits_are_counted_from_descendants_failures_among_them():
    index = Index([node(1, 1.0), node(2, 4.0, 1), failed(3, 1), node(4, 2.0, 2), node(5, 1.0)])
    tree = Visits().follow(index)
    assert (tree.visits[ROOT], tree.visits[1], tree.visits[2], tree.visits[3]) == (5, 4, 2, 1)
    assert tree.mean(2) == pytest.approx((1.0 + 0.5) / 2)  # log 4 is the best, log 2 half-way to it
    assert tree.mean(1) == pytest.approx((0.0 + 1.0 + 0.0 + 0.5) / 4)
    assert tree.mean(3) == 0.0
    index.add(failed(6, 4))
    assert tree.follow(index).visits[1] == 5


def test_uct_leaves_a_branch_that_steps_under_way_are_in():
    nodes = (node(1, 2.0), node(2, 1.9), *(failed(number, 1 + number % 2) for number in range(3, 9)))
    calm = UCT(drafts=1).ask(graph(*nodes, exhausted=[Step(parents=())]), 1, [])
    assert parents(calm) == [(1,)]
    busy = [Step(parents=(1,), operator="agent", model="one:a", number=number) for number in range(9, 14)]
    assert parents(UCT(drafts=1).ask(graph(*nodes, arms=(MODEL,), exhausted=[Step(parents=())]), 1, busy)) == [(2,)]


def test_uct_goes_back_to_what_is_seldom_visited():
    often = [node(number, 1.5, 1) for number in range(3, 60)]
    nodes = (node(1, 1.6), node(2, 1.5), *often)
    found = UCT(drafts=1).ask(graph(*nodes, exhausted=[Step(parents=())]), 1, [])
    assert parents(found) == [(2,)]


def test_the_island_of_a_node_is_its_first_parents():
    nodes = [node(1, 1.0), node(2, 2.0), node(3, 3.0), node(4, 4.0), node(5, 5.0, 2, 1), replace(node(6, 6.0), step=12)]
    populations = Populations().follow(Index(nodes))
    assert [populations.island(number) for number in range(1, 7)] == [1, 2, 3, 0, 2, 0]
    assert [[number for _, number in ranked] for ranked in populations.ranked] == [[6, 4], [1], [5, 2], [3]]


def test_islands_breed_in_turn_with_crossover_and_migrants():
    nodes = [node(number, 1.0 + number / 50) for number in range(1, 41)]
    at_home, abroad, single = 0, 0, 0
    turns: Counter[int] = Counter()
    for number in range(41, 241):
        (step,) = Islands(drafts=1).ask(graph(*nodes, arms=(FREE, MODEL), number=number), 1, [])
        islands = [parent % ISLANDS for parent in step.parents]
        turns[islands[0]] += 1
        assert islands[0] == number % ISLANDS
        single += len(islands) == 1
        at_home += len(islands) == 2 and islands[0] == islands[1]
        abroad += len(islands) == 2 and islands[0] != islands[1]
        assert len(islands) == 1 or step.memory == "both"
    assert set(turns.values()) == {50}
    assert at_home > 30
    assert 5 < abroad < 50
    assert single > 60
