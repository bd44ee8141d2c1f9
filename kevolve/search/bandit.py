"""Who takes a step, and with which memory: a bandit over measured gains, stateless because the graph holds what every arm gave.

Thompson sampling: an arm's worth is its mean log gain a unit of cost, with a prior that the user's weight scales and with an uncertainty
that shrinks with the steps it had. Older steps fade (``Tally``), so an arm that gave much and gives nothing any more is left, and tried
again later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from kevolve.search.index import TUNING, Index, Tally
from kevolve.search.node import Graph, Node
from kevolve.search.step import Arm, Step

PRIOR_GAIN = 0.1  # what an arm of mean weight is believed to gain before it has been tried: 10%
PRIOR_STEPS = 2.0  # and how many steps that belief is worth
SPREAD = 0.1  # of one step's log gain
STRUCTURES = 2  # steps of tuning that a new structure gets before it is judged by its first setting
NEAR = 0.7  # of the best fitness: how good a structure's first setting must be to be tuned


def rank(graph: Graph, step: Step, arms: Sequence[Arm]) -> list[Arm]:
    """The arms that may take ``step``, the most promising first.

    A draft goes to operators without a model while they have one (they answer at once and cost nothing), an untuned structure to tuning.
    """
    index = graph.index
    wanted = [arm for arm in arms if step.operator in ("", arm.operator) and step.model in ("", arm.model)]
    mean = _mean_weight(wanted)
    random = graph.around.random("arm")
    worth = {arm.key: _sampled(index.arms.get(arm.key), arm.weight / mean if arm.model else 1.0, random) for arm in wanted}

    def order(arm: Arm) -> tuple[int, float]:
        first = not arm.model if not step.parents else arm.operator == TUNING and untuned(index, step)
        return 0 if first else 1, -worth[arm.key]

    return sorted(wanted, key=order)


def memory(graph: Graph, node: Node) -> str:
    """What a step from ``node`` should remember: its own history, what was tried beside it, or both, by what each gained.

    Where no model is asked, nobody remembers: the parent.
    """
    if not graph.around.with_model:
        return "parent"
    has_siblings = bool(graph.index.children.get(node.id)) or any(
        len(graph.index.children.get(parent, ())) > 1 for parent in node.proposal.parents
    )
    if not has_siblings:
        return "parent"
    random = graph.around.random("memory")
    tallies = graph.index.memories
    return max(("parent", "siblings", "both"), key=lambda name: _sampled(tallies.get(name), 1.0, random))


def untuned(index: Index, step: Step) -> bool:
    """Whether the first parent is a structure that has not had its steps of tuning."""
    parent = index.by_id.get(step.parents[0]) if step.parents else None
    return parent is not None and is_structure(parent) and index.tuned.get(parent.id, 0) < STRUCTURES


def is_structure(node: Node) -> bool:
    """Whether a node is more than another setting of its parent: what the outer loop makes, and the inner one tunes."""
    return node.works and node.fitness > 0 and not node.repeats and node.proposal.operator != TUNING


def to_tune(graph: Graph, node: Node, pending: Sequence[Step]) -> Step | None:
    """The step of tuning that a model's newly completed structure is given at once, or None: it is too slow for a setting to make up."""
    wanted = node.proposal.model and is_structure(node) and node.fitness >= NEAR * graph.index.reached
    under_way = any(step.operator == TUNING and step.parents == (node.id,) for step in pending)
    if not wanted or under_way or graph.index.tuned.get(node.id, 0) >= STRUCTURES:
        return None
    return Step(parents=(node.id,), operator=TUNING)


def _sampled(tally: Tally | None, weight: float, random: Random) -> float:
    """A draw from what is believed of an arm's gain a unit of cost."""
    tally = tally or Tally()
    steps = PRIOR_STEPS + tally.steps
    gain = (PRIOR_STEPS * PRIOR_GAIN * weight + tally.gain) / steps
    cost = (PRIOR_STEPS + tally.cost) / steps
    return random.gauss(gain, SPREAD * weight / math.sqrt(steps)) / cost


def _mean_weight(arms: Sequence[Arm]) -> float:
    weights = [arm.weight for arm in arms if arm.model]
    return sum(weights) / len(weights) if weights else 1.0
