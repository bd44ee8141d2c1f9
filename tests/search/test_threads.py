"""Steps of models in threads: several wait at a time, failures are steps too, caps are kept before a model is asked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from kevolve.evaluate.outcome import Stage, Status
from kevolve.models import ModelFailed, Usage
from kevolve.search.best_first import BestFirst
from kevolve.search.budget import Budget
from kevolve.search.crew import Operation
from kevolve.search.loop import Progress, unpriced
from kevolve.search.node import Proposal
from kevolve.search.step import Arm, seed_of
from kevolve.store.graph_store import GraphStore
from tests.search.landscape import evaluate
from tests.search.modelled import MOST, agent, searched


@pytest.fixture
def store(tmp_path: Path):
    with GraphStore(tmp_path) as opened:
        yield opened


def said(step):
    return dict(language="cpp", operator="agent", idea="i", model=step.model, parents=step.parents, memory=step.memory)


def kernel(graph, step, language, *, wait_s=0.0):
    return [Proposal(source=f"kernel {step.number}", knobs=KNOBS, usage=USED, **said(step))]


KNOBS = {"block": 1, "stages": 1, "lanes": 4}
USED = Usage(input_tokens=100, output_tokens=900)


def fails(kind: str):
    def say(graph, step, language, *, wait_s=0.0):
        raise ModelFailed(kind, "no", usage=Usage(input_tokens=7))

    return say


def test_several_steps_wait_at_a_time_and_no_more_than_may(store):
    inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def say(graph, step, language, *, wait_s=0.0):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        if step.number <= 3:
            together.wait(20)  # each waits until all three are here
        with lock:
            inside -= 1
        return kernel(graph, step, language)

    found = searched(store, BestFirst(), operators=(agent(say=say),), budget=Budget(evaluations=12), in_flight=3).run()
    assert (found.evaluations, most) == (12, 3)


def test_candidates_are_evaluated_while_models_are_waited_for(store):
    slow = threading.Event()
    decided: list[str] = []

    def say(graph, step, language, *, wait_s=0.0):
        if step.number == 1:
            assert slow.wait(10)
        return kernel(graph, step, language)

    def told(progress: Progress) -> None:
        if progress.kind == "done":
            assert progress.node is not None
            decided.append(progress.node.proposal.source)
            if len(decided) == 3:
                slow.set()

    searched(store, BestFirst(), operators=(agent(say=say),), budget=Budget(evaluations=4), in_flight=2, listener=told).run()
    assert decided[-1] == "kernel 1"
    assert [step.node for step in store.steps(1)] == [4, 1, 2, 3]


def rounds_of(store, *, gathers: bool) -> list[list[str]]:
    """The rounds of a search that begins with a seed and asks two models, who answer one after the other."""
    first, rounds = threading.Event(), []

    def say(graph, step, language, *, wait_s=0.0):
        if not graph.nodes and not first.is_set() and step.number == 3:
            time.sleep(0.05)  # the other has answered long ago
        return kernel(graph, step, language)

    def told(proposals):
        rounds.append(sorted(proposal.source for proposal in proposals))
        first.set()
        yield from evaluate(proposals)

    seed = Proposal(source="the kernel that is there", knobs=KNOBS, language="cpp", operator="seed", idea="i")
    given = dict(operators=(agent(say=say),), budget=Budget(evaluations=3), in_flight=2, seeds=(seed,), batch=8, gathers=gathers)
    searched(store, BestFirst(), evaluate=told, **given).run()
    return rounds


def test_a_round_that_is_carried_waits_for_the_models_that_were_asked(store):
    assert rounds_of(store, gathers=True) == [["kernel 2", "kernel 3", "the kernel that is there"]]


def test_a_round_at_home_waits_for_nobody(store):
    assert rounds_of(store, gathers=False)[0] == ["the kernel that is there"]


def test_every_step_has_a_seed_of_its_own_that_follows_from_the_searchs(store):
    seeds: dict[int, int] = {}

    def say(graph, step, language, *, wait_s=0.0):
        seeds[step.number] = step.seed
        return kernel(graph, step, language)

    searched(store, BestFirst(), operators=(agent(say=say),), budget=Budget(evaluations=5), seed=11).run()
    assert seeds == {number: seed_of(11, number) for number in range(1, 6)}
    assert [step.step.seed for step in store.steps(1)] == [seeds[number] for number in range(1, 6)]


def test_what_gave_no_candidate_is_a_node_with_its_cost_and_no_duplicate(store):
    def say(graph, step, language, *, wait_s=0.0):
        return [Proposal(source="half a kernel", problem="cut", usage=USED, **said(step))]

    found = searched(store, BestFirst(), operators=(agent(say=say),), budget=Budget(evaluations=5)).run()
    assert [(node.outcome.status, node.outcome.stage, node.outcome.message) for node in found.graph.nodes] == [
        (Status.NO_CANDIDATE, Stage.PROPOSE, "cut")
    ] * 5
    assert len({node.normal_hash for node in found.graph.nodes}) == 5
    assert found.usage.tokens == 5000
    assert found.best is None


@pytest.mark.parametrize(("kind", "asked"), [("auth", 1), ("server", 3)])
def test_a_model_that_fails_for_good_or_again_and_again_is_not_asked_any_more(store, kind, asked):
    heard: list[str] = []

    def told(progress: Progress) -> None:
        if progress.kind == "silenced":
            heard.append(progress.reason)

    good, bad = agent(models=("good:m",), say=kernel), agent(models=("bad:m",), say=fails(kind))
    both = Operation(
        name="agent",
        propose=lambda graph, step, language, count: (bad if step.model == "bad:m" else good).propose(graph, step, language, count),
        arms=good.arms + bad.arms,
    )
    found = searched(store, BestFirst(), operators=(both,), budget=Budget(evaluations=30), in_flight=1, listener=told).run()
    assert Counter(node.proposal.model for node in found.graph.nodes) == {"bad:m": asked, "good:m": 30 - asked}
    (reason,) = heard
    assert reason.startswith("bad:m is not asked any more:")
    assert f"model failed ({kind}): no" in reason
    assert sum(node.proposal.usage.tokens for node in found.graph.nodes if node.proposal.model == "bad:m") == 7 * asked


def test_where_the_only_model_fails_the_search_ends_and_says_why(store):
    found = searched(store, BestFirst(), operators=(agent(models=("bad:m",), say=fails("auth")),), in_flight=1).run()
    assert found.reason == "nothing left to propose; bad:m is not asked any more: model failed (auth): no"
    assert found.evaluations == 1


def test_tokens_are_reserved_before_a_model_is_asked(store):
    given: list[int] = []

    def say(graph, step, language, *, wait_s=0.0):
        given.append(step.most.tokens)
        time.sleep(0.01)
        return kernel(graph, step, language)

    found = searched(store, BestFirst(), operators=(agent(say=say),), budget=Budget(tokens=10_000)).run()
    assert max(given) == MOST.tokens
    assert found.usage.tokens <= 10_000
    assert found.usage.tokens > 10_000 - MOST.tokens
    assert found.reason == f"budget spent: {found.usage.tokens:,} tokens"


def test_dollars_are_limited_where_the_price_is_known_and_only_there(store):
    priced = Usage(output_tokens=2000, usd=0.5)

    def say(graph, step, language, *, wait_s=0.0):
        return [Proposal(source=f"kernel {step.number}", knobs=KNOBS, usage=paid, **said(step))]

    paid = Usage(output_tokens=10, usd=0.4)
    known = Operation(name="agent", propose=lambda *given: say(*given[:3]), arms=(Arm(operator="agent", model="one:a", most=priced),))
    found = searched(store, BestFirst(), operators=(known,), budget=Budget(usd=2.0), in_flight=2).run()
    assert found.usage.usd is not None
    assert 1.6 <= found.usage.usd <= 2.0
    assert unpriced(Budget(usd=1.0), [*known.arms, *agent().arms]) == ("one:a", "two:b")
    assert unpriced(Budget(), agent().arms) == ()


def test_the_time_ends_a_search_whose_model_does_not_answer(store):
    never = threading.Event()

    def say(graph, step, language, *, wait_s=0.0):
        never.wait(20)
        return []

    began = time.monotonic()
    found = searched(store, BestFirst(), operators=(agent(say=say),), budget=Budget(minutes=0.1 / 60)).run()
    never.set()
    assert time.monotonic() - began < 5
    assert found.reason.startswith("budget spent: 0.00166667 minutes")
    assert {step.state for step in store.steps(1)} == {"dropped"}


def test_a_stalled_search_waits_for_the_steps_it_has_paid_for(store):
    def say(graph, step, language, *, wait_s=0.0):
        if step.number == 1:
            time.sleep(0.3)
        return kernel(graph, step, language)

    found = searched(store, BestFirst(), operators=(agent(say=say),), budget=Budget(stall=3), in_flight=2).run()
    assert found.reason.startswith("stalled: ")
    assert {step.state for step in store.steps(1)} == {"done"}
    assert "kernel 1" in {node.proposal.source for node in found.graph.nodes}


def test_a_fault_in_an_operators_thread_is_raised_and_keeps_what_was_completed(store):
    def say(graph, step, language, *, wait_s=0.0):
        if step.number == 3:
            raise ZeroDivisionError("a fault of ours")
        return kernel(graph, step, language)

    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        searched(store, BestFirst(), operators=(agent(say=say),), in_flight=1).run()
    assert len(store.nodes("s", "cpu")) == 2


def test_an_evaluator_that_gives_nothing_leaves_its_candidates_to_the_next_search(store):
    asked: list[int] = []

    def say(graph, step, language, *, wait_s=0.0):
        asked.append(step.number)
        return kernel(graph, step, language)

    given = dict(operators=(agent(say=say),), budget=Budget(evaluations=2), in_flight=2)
    silent = searched(store, BestFirst(), evaluate=lambda proposals: iter(()), **given).run()
    assert silent.reason == "the evaluator gave no results"
    found = searched(store, BestFirst(), evaluate=evaluate, **given).run()
    assert found.evaluations == 2
    assert sorted(asked) == [1, 2], "nobody was asked twice"


def test_an_interrupted_search_asks_again_under_the_same_numbers_and_seeds_and_for_nothing_that_was_answered(store):
    asked: list[tuple[int, int]] = []
    never = threading.Event()

    def say(graph, step, language, *, wait_s=0.0):
        asked.append((step.number, step.seed))
        if step.number == 4:
            never.wait(10 if len(asked) < 6 else 0)
        return kernel(graph, step, language)

    def interrupt(progress: Progress) -> None:
        if progress.kind == "done" and progress.evaluations == 3:
            raise KeyboardInterrupt

    given = dict(operators=(agent(say=say),), budget=Budget(evaluations=5), in_flight=2)
    with pytest.raises(KeyboardInterrupt):
        searched(store, BestFirst(), listener=interrupt, **given).run()
    before = list(asked)
    assert {step.state for step in store.steps(1)} == {"done", "asked"}
    never.set()
    found = searched(store, BestFirst(), **given).run()
    assert (found.evaluations, found.reason) == (5, "budget spent: 5 evaluations")
    assert asked[len(before)] == (4, seed_of(5, 4)), "the step that was not answered is asked again"
    assert sorted(node.step for node in found.graph.nodes) == [1, 2, 3, 4, 5]
    assert len(store.searches()) == 1


def test_a_models_new_structure_is_tuned_at_once(store):
    found = searched(store, BestFirst(drafts=1), budget=Budget(evaluations=40)).run()
    structures = [node for node in found.graph.nodes if node.proposal.model and node.works and not node.repeats]
    tuned = {node.proposal.parents[0] for node in found.graph.nodes if node.proposal.operator == "tuning" and node.proposal.parents}
    assert structures
    assert tuned
