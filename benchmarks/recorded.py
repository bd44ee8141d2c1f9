"""A search over a virtual landscape with virtual models, recorded: what ``killed`` and ``replay`` work from."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import ModelFailed, Usage
from kevolve.search.budget import Budget
from kevolve.search.crew import Crew, Evaluated, Operation
from kevolve.search.loop import Found, Progress, Search
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Policy
from kevolve.search.replay import Recorded, Recording
from kevolve.search.step import Arm, Step
from kevolve.store.graph_store import GraphStore

SPEC, TARGET = "suites/test_virtual.py::test_virtual", "cpu: virtual"
KERNEL_BYTES, TRANSCRIPT_BYTES = 8_000, 60_000  # as a real model's steps have them
MODELS = ("one:a", "two:b")


def propose(graph: Graph, step: Step, language: str, _count: int) -> list[Proposal]:
    """A model's step: a child of its parents; one in ten fails, one in ten has no kernel, one in ten repeats its parent."""
    draw = random.Random(step.seed)
    time.sleep(0.003 * draw.random())
    luck = draw.random()
    usage = Usage(input_tokens=4000, output_tokens=draw.randrange(500, 3000))
    if luck < 0.1:
        raise ModelFailed("server", "500", usage=usage)
    parent = graph.get(step.parents[0]) if step.parents else None
    told = dict(operator=step.operator, model=step.model, parents=step.parents, memory=step.memory, usage=usage)
    told |= dict(language=language, idea=f"idea {step.number}", transcript=_text(draw, TRANSCRIPT_BYTES))
    if luck < 0.2:
        return [Proposal(source="", problem="the reply has no kernel", **told)]  # type: ignore[arg-type]
    if luck < 0.3 and parent is not None:
        return [Proposal(source=f"{parent.proposal.source}\n", **told)]  # type: ignore[arg-type]
    return [Proposal(source=_text(draw, KERNEL_BYTES), predicted_gain=1.1, knobs=_knobs(draw, parent), **told)]  # type: ignore[arg-type]


def tune(graph: Graph, step: Step, language: str, count: int) -> list[Proposal]:
    """Settings of a parent, four of each node."""
    parent = graph.get(step.parents[0]) if step.parents else None
    if parent is None or parent.proposal.operator == "tuning":
        return []
    tried = sum(child.proposal.operator == "tuning" for child in graph.children(parent.id))
    draws = [random.Random(f"{parent.id}:{number}") for number in range(tried, min(4, tried + count))]
    told = dict(language=language, operator="tuning", idea="another setting", parents=(parent.id,), family="virtual")
    return [Proposal(source=_text(draw, KERNEL_BYTES), knobs=_knobs(draw, parent), **told) for draw in draws]  # type: ignore[arg-type]


def evaluate(proposals: Sequence[Proposal]) -> Iterator[Evaluated]:
    """A child is a little better or worse than its parent; one in five fails."""
    for proposal in proposals:
        fitness = proposal.knobs["fitness"]
        outcome = Outcome(status=Status.PASSED, stage=Stage.QUICK, message=f"{fitness:.2f}x", detail={"speedups": {"a": fitness}})
        if proposal.knobs["fails"]:
            fitness, outcome = 0.0, Outcome(status=Status.INCORRECT_NUMERICAL, stage=Stage.PROPERTIES, message="draw 3 differs")
        yield Evaluated(proposal=proposal, outcome=outcome, fitness=fitness, seconds=1.5)


def search(store: GraphStore, policy: Policy, steps: int, *, crew: Crew | None = None, listener=lambda progress: None) -> Found:  # type: ignore[no-untyped-def]
    """Search until ``steps`` evaluations, for the first time or on from where it was killed."""
    arms = tuple(Arm(operator="agent", model=model, most=Usage(output_tokens=20_000)) for model in MODELS)
    made = Search(
        spec=SPEC,
        spec_hash="virtual",
        target=TARGET,
        languages=("cpp",),
        run=store.start_run(arguments=[], environment={}),
        store=store,
        policy=policy,
        operators=(Operation(name="tuning", propose=tune), Operation(name="agent", propose=propose, arms=arms)),
        evaluate=evaluate,
        normalise=lambda language, source: source.strip(),
        budget=Budget(evaluations=steps),
        monotonic=crew.clock if isinstance(crew, Recorded) else time.monotonic,
        listener=listener,
        seed=7,
        crew=crew,
    )
    return made.run()


def record(folder: Path, policy: Policy, steps: int) -> list[Node]:
    """Search for real, in threads; the nodes, in the order in which they were completed."""
    with GraphStore(folder) as store:
        search(store, policy, steps)
        return store.nodes(SPEC, TARGET)


def replay(recorded: Path, folder: Path, policy: Policy, steps: int, *, pause_s: float = 0.0, listener=lambda progress: None) -> Found:  # type: ignore[no-untyped-def]
    """Tell a recorded search again into ``folder``, from its beginning or from where it was killed there."""
    with GraphStore(recorded) as source, GraphStore(folder) as store:
        (was,) = source.searches()
        recording = Recording.of(source.steps(was.id), source.nodes(SPEC, TARGET), reason=was.reason)

        def told(progress: Progress) -> None:
            time.sleep(pause_s)
            listener(progress)

        return search(store, policy, steps, crew=Recorded(recording), listener=told)


def _knobs(draw: random.Random, parent: Node | None) -> dict[str, float | bool]:
    base = parent.fitness if parent is not None and parent.fitness else 1.0
    return {"fitness": base * draw.uniform(0.8, 1.08), "fails": draw.random() < 0.2}


def _text(draw: random.Random, size: int) -> str:
    return f"// {draw.getrandbits(64)}\n" + f"{draw.getrandbits(128):032x}\n" * (size // 33)
