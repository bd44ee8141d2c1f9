"""What the attempts beside it say."""

from __future__ import annotations

from collections import Counter

from kevolve.knowledge.evidence import Evidence, Finding
from kevolve.search.node import Node

_OFTEN = 3
_GAIN = 1.02  # less is none


def failing_alike(evidence: Evidence) -> Finding | None:
    """Several attempts that failed in the same way: the way is wrong, not the details."""
    failed = [node for node in evidence.siblings if not node.works]
    kinds = Counter(str(node.outcome.status) for node in failed)
    status, count = kinds.most_common(1)[0] if kinds else ("", 0)
    if count < _OFTEN or len(failed) < 0.6 * len(evidence.siblings):
        return None
    return Finding(
        bottleneck="correctness",
        says=f"{count} attempts from here ended {status}.",
        words="debugging simplify small steps",
        directions=("Leave that way: begin from a kernel that works and change one thing.",),
    )


def stalled(evidence: Evidence) -> Finding | None:
    """Working attempts that gained nothing: tuning is exhausted."""
    node = evidence.node
    if node is None or not node.works or node.fitness <= 0:
        return None
    working = [sibling for sibling in evidence.siblings if sibling.works]
    if len(working) < _OFTEN or any(sibling.fitness > _GAIN * node.fitness for sibling in working):
        return None
    return Finding(
        bottleneck="memory",
        says=f"{len(working)} working attempts from here gained nothing: {_ideas(working)}.",
        words="algorithm restructure fusion passes split",
        directions=("Change the structure, not the parameters: another order of passes, another split of the work, fewer bytes.",),
    )


def _ideas(nodes: list[Node]) -> str:
    ideas = list(dict.fromkeys(node.proposal.idea for node in nodes))
    return "; ".join(idea[:60] for idea in ideas[:3])


RULES = (failing_alike, stalled)
