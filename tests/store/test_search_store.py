"""Searches and their steps: what a killed search is resumed from."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search.node import Proposal
from kevolve.search.records import Completion, StepRecord
from kevolve.search.step import Step
from kevolve.store.graph_store import GraphStore

IDENTITY = dict(spec="s", spec_hash="h", target="cpu", policy="uct", seed=3)


@pytest.fixture
def store(tmp_path: Path):
    with GraphStore(tmp_path / ".kevolve") as opened:
        yield opened


def proposal(source: str = "int x;", **said) -> Proposal:
    return Proposal(**dict(language="cpp", source=source, operator="agent", idea="i", model="one:a", transcript="t") | said)


def begun(store: GraphStore, **changes):
    run = store.start_run(arguments=[], environment={})
    return store.begin(run=run, **IDENTITY | changes)


def taken(search: int, number: int, **said) -> StepRecord:
    step = Step(
        parents=(), memory="both", operator="agent", model="one:a", seed=9, number=number, language="cpp", most=Usage(output_tokens=5)
    )
    return StepRecord(**dict(search=search, step=step, state="asked", decision={"graph": 0}) | said)


def test_steps_come_back_as_they_were_taken_with_the_candidates_that_wait(store):
    search, steps = begun(store, about={"name": "s"})
    assert steps == []
    first, second = taken(search.id, 1), taken(search.id, 2, state="proposed", proposal=proposal("two"))
    store.take(search.id, [first, second])
    store.propose(search.id, 1, proposal("one"), 1)
    read = store.steps(search.id)
    assert read[1] == second
    assert (read[0].state, read[0].proposal, read[0].proposed, read[0].step) == ("proposed", proposal("one"), 1, first.step)
    assert store.searches()[0].about == {"name": "s"}


def test_a_node_completes_its_step_in_the_same_transaction(store):
    search, _ = begun(store)
    store.take(search.id, [taken(search.id, 1, state="proposed", proposal=proposal())])
    given = dict(run=search.run, spec="s", spec_hash="h", target="cpu", proposal=proposal(), normal_hash="n", fitness=1.0, seconds=1.0)
    outcome = Outcome(status=Status.PASSED, stage=Stage.QUICK)
    node = store.add(outcome=outcome, completes=Completion(search=search.id, number=1, event=4, seconds=12.5), **given)
    (step,) = store.steps(search.id)
    assert (step.state, step.node, step.done, step.proposal, node.step) == ("done", node.id, 4, None, 1)
    assert store.searches()[0].seconds == 12.5


def test_a_killed_search_is_taken_up_with_its_steps_and_an_ended_one_is_not(store):
    search, _ = begun(store)
    store.take(search.id, [taken(search.id, 1)])
    store.close()
    with GraphStore(store.folder) as again:
        found, steps = begun(again)
        assert (found.id, found.run, [step.number for step in steps]) == (search.id, search.run, [1])
        again.end(found.id, "goal reached", 3.0)
        again.release(found.id)
        assert [step.state for step in again.steps(found.id)] == ["dropped"]
        fresh, steps = begun(again)
        assert (fresh.id, steps) == (search.id + 1, [])


def test_a_search_that_another_process_runs_is_not_taken_up(store):
    search, _ = begun(store)
    with GraphStore(store.folder) as other:
        found, _ = begun(other)
        assert found.id != search.id
    assert [record.ended for record in store.searches()] == [None, None]


def test_a_killed_search_with_another_seed_or_policy_is_ended_as_superseded(store):
    search, _ = begun(store)
    store.take(search.id, [taken(search.id, 1)])
    store.release(search.id)
    found, steps = begun(store, seed=4)
    assert (found.id, steps) == (search.id + 1, [])
    first = store.searches()[0]
    assert first.ended is not None
    assert first.reason.startswith("superseded")
    assert store.searches(spec="other") == []
    assert [record.id for record in store.searches(run=found.run)] == [found.id]
