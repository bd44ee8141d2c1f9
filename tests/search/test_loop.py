"""The search loop over a landscape whose optimum is known."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.operators import bind
from kevolve.operators.tuning import Tuning
from kevolve.search.best_first import BestFirst
from kevolve.search.budget import Budget
from kevolve.search.loop import Evaluated, Progress, Search
from kevolve.search.node import Proposal
from kevolve.store.graph_store import GraphStore
from tests.search.landscape import BEST, draft, evaluate, families, judge


@pytest.fixture
def store(tmp_path: Path):
    with GraphStore(tmp_path / ".kevolve") as opened:
        yield opened


def tuning(graph, step, language, count):
    class Context:
        pass

    context = Context()
    context.graph, context.language = graph, language
    return Tuning(families).propose(context, step, count)


class Clock:
    """A second passes at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def search(store: GraphStore, **given) -> Search:
    values = dict(spec="s", spec_hash="h", target="cpu", languages=("cpp",), run=store.start_run(arguments=[], environment={}))
    values |= dict(store=store, policy=BestFirst(drafts=1), operators=(draft, tuning), evaluate=evaluate)
    values |= dict(normalise=lambda language, source: source.strip(), budget=Budget(), monotonic=lambda: 0.0)
    return Search(**values | given)


def test_the_optimum_is_found_and_the_search_ends_by_itself(store):
    found = search(store).run()
    assert found.best is not None
    assert found.best.proposal.knobs == BEST
    assert found.reason == "nothing left to propose"
    assert found.evaluations == len(store.nodes("s", "cpu")) < 30
    assert any(node.outcome.status is Status.COMPILE_ERROR for node in found.graph.nodes)


def test_equal_seeds_and_outcomes_give_equal_searches(tmp_path):
    def sources(folder: str) -> list[str]:
        with GraphStore(tmp_path / folder) as store:
            return [node.proposal.source for node in search(store).run().graph.nodes]

    assert sources("one") == sources("two")


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_the_evaluation_budget_is_kept_exactly(store, batch):
    asked: list[Proposal] = []

    def counted(proposals):
        asked.extend(proposals)
        return evaluate(proposals)

    found = search(store, evaluate=counted, budget=Budget(evaluations=7), batch=batch).run()
    assert (found.evaluations, found.reason, len(asked)) == (7, "budget spent: 7 evaluations", 7)


def test_the_goal_stops_the_batch_and_closes_the_evaluator(store):
    closed = []

    def watched(proposals):
        try:
            yield from evaluate(proposals)
        finally:
            closed.append(len(proposals))

    found = search(store, evaluate=watched, budget=Budget(goal=1.05), batch=4).run()
    assert found.reason.startswith("goal reached")
    assert found.evaluations == len(store.nodes("s", "cpu"))
    assert closed


def test_time_is_kept_by_the_clock_passed_in(store):
    found = search(store, budget=Budget(minutes=0.25), monotonic=Clock(), batch=1).run()
    assert found.reason == "budget spent: 0.25 minutes"


def test_a_stall_ends_the_search(store):
    def flat(proposals):
        for proposal in proposals:
            yield Evaluated(proposal=proposal, outcome=judge(proposal).outcome, fitness=1.0, seconds=0.0)

    found = search(store, evaluate=flat, budget=Budget(stall=5), batch=1).run()
    assert (found.evaluations, found.reason) == (6, "stalled: 5 evaluations without an improvement of more than 1%")


def test_the_next_run_goes_on_where_this_one_stopped(store):
    first = search(store, budget=Budget(evaluations=5)).run()
    asked: list[str] = []

    def noted(proposals):
        asked.extend(proposal.source for proposal in proposals)
        return evaluate(proposals)

    second = search(store, evaluate=noted).run()
    assert second.best is not None
    assert second.best.proposal.knobs == BEST
    assert not {node.proposal.source for node in first.graph.nodes} & set(asked)
    assert second.evaluations == len(asked) == len(second.graph.nodes) - 5


def test_duplicates_are_recorded_and_never_run(store):
    spaced = Proposal(language="cpp", source="kernel", operator="a", idea="one")
    copy = Proposal(language="cpp", source="  kernel  ", operator="b", idea="two")
    exact = Proposal(language="cpp", source="kernel", operator="c", idea="three")
    asked: list[str] = []

    def once(proposals):
        asked.extend(proposal.source for proposal in proposals)
        for proposal in proposals:
            yield Evaluated(
                proposal=proposal,
                outcome=judge(Proposal(language="cpp", source="", operator="", idea="", knobs=BEST)).outcome,
                fitness=2.0,
                seconds=1.0,
            )

    found = search(store, evaluate=once, operators=(), seeds=(spaced, copy, exact)).run()
    assert asked == ["kernel"]
    assert found.evaluations == 1
    original, duplicate = found.graph.nodes
    assert (duplicate.outcome.stage, duplicate.outcome.status, duplicate.fitness) == (Stage.DUPLICATE, Status.PASSED, 2.0)
    assert duplicate.outcome.message == "the same as node 1 but for comments and layout"
    assert found.best == original
    again = search(store, evaluate=once, operators=(), seeds=(spaced, copy, exact)).run()
    assert (again.evaluations, len(again.graph.nodes)) == (0, 2)


def test_what_ran_out_of_time_is_tried_once_more_in_a_later_run(store):
    kernels = [Proposal(language="cpp", source=name, operator="a", idea=name) for name in ("slow once", "always slow", "wrong")]
    asked: list[list[str]] = []

    def busy(proposals):
        asked.append([proposal.source for proposal in proposals])
        for proposal in proposals:
            late = proposal.source == "always slow" or (proposal.source == "slow once" and len(asked) == 1)
            status = Status.TIMEOUT if late else Status.RUNTIME_ERROR if proposal.source == "wrong" else Status.PASSED
            passed = status is Status.PASSED
            yield Evaluated(proposal=proposal, outcome=Outcome(status=status, stage=Stage.QUICK), fitness=2.0 * passed, seconds=1.0)

    runs = [search(store, evaluate=busy, operators=(), seeds=kernels).run() for _ in range(4)]
    assert asked == [["slow once", "always slow", "wrong"], ["slow once", "always slow"]]
    assert [found.evaluations for found in runs] == [3, 2, 0, 0]
    assert runs[0].best is None
    assert runs[-1].best is not None
    assert (runs[-1].best.proposal, runs[-1].best.id) == (kernels[0], 4)
    copy = Proposal(language="cpp", source=" slow once ", operator="b", idea="copy")
    repeated = search(store, evaluate=busy, operators=(), seeds=(copy,)).run().graph.nodes[-1]
    assert (repeated.outcome.status, repeated.outcome.detail) == (Status.PASSED, {"node": 4})


def test_the_best_of_an_older_spec_is_proposed_anew(store):
    first = search(store).run()
    assert first.best is not None
    asked: list[Proposal] = []

    def noted(proposals):
        asked.extend(proposals)
        return evaluate(proposals)

    second = search(store, spec_hash="changed", evaluate=noted, budget=Budget(evaluations=3)).run()
    assert [proposal.operator for proposal in asked] == ["inherited"] * 3
    assert asked[0].parents == (first.best.id,)
    assert second.best is not None
    assert second.best.proposal.knobs == BEST


def test_a_seed_that_is_a_known_setting_can_be_tuned(store):
    family = families(None)["toy"]
    known = family.proposal({"block": 8, "stages": 2, "lanes": 8}, operator="draft")
    seed = Proposal(language="cpp", source=known.source + " ", operator="file", idea="the present kernel")

    def both(graph, step, language, count):
        tried = any(node.proposal.family for node in graph.nodes)
        return [] if step.parents or tried else [known]

    def with_knobs(proposals):
        for proposal in proposals:
            judged = judge(proposal if proposal.knobs else known)
            yield Evaluated(proposal=proposal, outcome=judged.outcome, fitness=judged.fitness, seconds=0.0)

    found = search(store, operators=(both, tuning), seeds=(seed,), evaluate=with_knobs).run()
    assert found.best is not None
    assert found.best.proposal.knobs == BEST


def test_an_interrupt_keeps_what_was_completed(store):
    def interrupted(proposals):
        for number, proposal in enumerate(proposals):
            if len(store.nodes("s", "cpu")) == 4:
                raise KeyboardInterrupt
            assert number < 4
            yield judge(proposal)

    with pytest.raises(KeyboardInterrupt):
        search(store, evaluate=interrupted).run()
    assert len(store.nodes("s", "cpu")) == 4
    found = search(store).run()
    assert found.best is not None
    assert found.best.proposal.knobs == BEST


def test_an_evaluator_that_gives_nothing_ends_the_search(store):
    found = search(store, evaluate=lambda proposals: iter(())).run()
    assert (found.best, found.reason, found.evaluations) == (None, "the evaluator gave no results", 0)


def test_the_listener_hears_what_is_tried_what_it_gave_and_what_is_left(store):
    heard: list[Progress] = []
    search(store, listener=heard.append, budget=Budget(evaluations=2, minutes=10), batch=1).run()
    assert [progress.kind for progress in heard] == ["trying", "done", "trying", "done", "stopped"]
    assert heard[1].best is not None
    assert heard[1].best == heard[1].node
    assert (heard[3].evaluations, heard[3].seconds_left, heard[4].reason) == (2, 600.0, "budget spent: 2 evaluations")


def test_every_node_keeps_the_decision_that_led_to_it(store):
    search(store, budget=Budget(evaluations=2), batch=1).run()
    import json
    import sqlite3

    rows = sqlite3.connect(store.path).execute("SELECT decision FROM nodes ORDER BY id").fetchall()
    assert [json.loads(row[0])["graph"] for row in rows] == [0, 1]


def test_operators_are_bound_with_one_seed_and_asked_for_their_language(store, tmp_path):
    seen = []

    class Silent:
        name = "silent"

        def propose(self, context, step, count):
            seen.append((context.language, context.target, step.parents, count, context.random.random()))
            return []

    class Spec:
        name, cases = "s", ()

    operators = bind(Spec(), "cpu", random.Random(7), operators=[Silent()])
    assert search(store, operators=operators, languages=("cpp", "triton")).run().reason == "nothing left to propose"
    draws = random.Random(7)
    assert seen == [("cpp", "cpu", (), 4, draws.random()), ("triton", "cpu", (), 4, draws.random())]
