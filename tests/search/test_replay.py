"""A recorded search, told again, gives the same graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kevolve.search.best_first import BestFirst
from kevolve.search.budget import Budget
from kevolve.search.greedy import Greedy
from kevolve.search.replay import Diverged, Recorded, Recording, same_graph
from kevolve.store.graph_store import GraphStore
from tests.search.modelled import searched
from tests.search.test_loop import search


def recording(store: GraphStore, **given) -> Recording:
    (record,) = store.searches()
    return Recording.of(store.steps(record.id), store.nodes("s", "cpu"), reason=record.reason, **given)


@pytest.mark.parametrize("policy", [BestFirst, Greedy])
def test_a_search_with_models_in_threads_replays_into_the_same_graph(tmp_path: Path, policy):
    with GraphStore(tmp_path / "a") as store, GraphStore(tmp_path / "b") as fresh:
        found = searched(store, policy()).run()
        crew = Recorded(recording(store))
        again = searched(fresh, policy(), crew=crew, monotonic=crew.clock).run()
        assert again.reason == found.reason == "budget spent: 60 evaluations"
        assert same_graph(store.nodes("s", "cpu"), fresh.nodes("s", "cpu")) is None
        kinds = {node.outcome.status for node in found.graph.nodes} | {node.outcome.stage for node in found.graph.nodes}
        assert {"NO_CANDIDATE", "duplicate", "PASSED", "COMPILE_ERROR"} <= {str(kind) for kind in kinds}
        assert again.usage == found.usage


def test_a_search_without_models_replays_too(tmp_path: Path):
    with GraphStore(tmp_path / "a") as store, GraphStore(tmp_path / "b") as fresh:
        search(store).run()
        crew = Recorded(recording(store))
        found = search(fresh, crew=crew, monotonic=crew.clock).run()
        assert same_graph(store.nodes("s", "cpu"), found.graph.nodes) is None


def test_another_seed_diverges_and_says_where(tmp_path: Path):
    with GraphStore(tmp_path / "a") as store, GraphStore(tmp_path / "b") as fresh:
        searched(store, BestFirst(drafts=3)).run()
        crew = Recorded(recording(store))
        with pytest.raises(Diverged, match=r"step \d+: expected agent with .*, the replayed search asks for agent with "):
            searched(fresh, BestFirst(drafts=3), crew=crew, monotonic=crew.clock, seed=6).run()


def test_a_search_that_its_time_ended_ends_there_again(tmp_path: Path):
    with GraphStore(tmp_path / "a") as store, GraphStore(tmp_path / "b") as fresh:
        budget = Budget(minutes=0.2 / 60)
        found = searched(store, BestFirst(), wait_s=0.05, budget=budget).run()
        crew = Recorded(recording(store))
        again = searched(fresh, BestFirst(), budget=budget, crew=crew, monotonic=crew.clock).run()
        assert found.reason == again.reason
        assert same_graph(found.graph.nodes, again.graph.nodes) is None


def test_the_first_difference_between_two_graphs_is_said(tmp_path: Path):
    with GraphStore(tmp_path / "a") as store:
        nodes = list(search(store).run().graph.nodes)
    changed = [*nodes[:2], replace(nodes[2], fitness=9.0), *nodes[3:]]
    assert same_graph(nodes, nodes) is None
    assert same_graph(nodes, changed) == f"node 3 of {len(nodes)}: fitness: expected {nodes[2].fitness!r}, got 9.0"
    assert same_graph(nodes, nodes[:-1]) == f"expected {len(nodes)} nodes, got {len(nodes) - 1}"
