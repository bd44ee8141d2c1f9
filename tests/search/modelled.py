"""A virtual model: an operator that takes its time, costs tokens and sometimes fails, over the same landscape."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence

from kevolve.models import ModelFailed, Usage
from kevolve.search.budget import Budget
from kevolve.search.crew import Operation
from kevolve.search.loop import Search
from kevolve.search.node import Graph, Proposal
from kevolve.search.policies import Step
from kevolve.search.step import Arm
from kevolve.store.graph_store import GraphStore
from tests.search.landscape import KNOBS, draft, evaluate
from tests.search.test_loop import tuning

MOST = Usage(output_tokens=2000)


def reply(graph: Graph, step: Step, language: str, *, wait_s: float = 0.0) -> list[Proposal]:
    """A random setting under another structure; one in eight steps gives no kernel, one in ten fails, one in twelve repeats."""
    draw = random.Random(step.seed)
    time.sleep(wait_s * draw.random())
    luck = draw.random()
    usage = Usage(input_tokens=500, output_tokens=draw.randrange(100, 900))
    if luck < 0.1:
        raise ModelFailed("server", "500, again", usage=usage)
    knobs = {name: draw.choice(values) for name, values in KNOBS.items()}
    structure = "" if luck > 0.92 else f"// structure {draw.randrange(1 << 30)}\n"
    told = dict(operator="agent", model=step.model, parents=step.parents, memory=step.memory, usage=usage, transcript=f"told {step.number}")
    if luck < 0.22:
        return [Proposal(language=language, source="", idea="no kernel", problem="the edit does not apply: line 3 is not there", **told)]
    source = structure + json.dumps(knobs, sort_keys=True)
    return [Proposal(language=language, source=source, idea="another", knobs=knobs, family="toy", predicted_gain=1.2, **told)]


def agent(wait_s: float = 0.0, models: Sequence[str] = ("one:a", "two:b"), say: Callable[..., list[Proposal]] = reply) -> Operation:
    arms = tuple(Arm(operator="agent", model=model, most=MOST) for model in models)
    return Operation(name="agent", propose=lambda graph, step, language, _count: say(graph, step, language, wait_s=wait_s), arms=arms)


def searched(store: GraphStore, policy, *, wait_s: float = 0.002, **given) -> Search:
    values = dict(spec="s", spec_hash="h", target="cpu", languages=("cpp",), run=store.start_run(arguments=[], environment={}))
    values |= dict(
        store=store, policy=policy, operators=(draft, Operation(name="tuning", propose=tuning), agent(wait_s)), evaluate=evaluate
    )
    values |= dict(normalise=lambda language, source: source.strip(), budget=Budget(evaluations=60), monotonic=time.monotonic, seed=5)
    return Search(**values | given)
