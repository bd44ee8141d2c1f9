"""Outcomes and figures in words, as a kernel's author needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kevolve.evaluate.feedback import position
from kevolve.evaluate.outcome import Outcome, Status
from kevolve.operators.agent.sections import cut, one_line
from kevolve.search.node import Graph, Node

MESSAGE_TOKENS = 1_200
REMARKS_TOKENS = 500
_FOR_PEOPLE = "replay: pytest"  # a line of a counterexample that no model can follow
_RESOURCES = {
    "registers": "registers a thread",
    "spill_bytes": "bytes of local memory a thread (spills)",
    "shared_bytes": "bytes of shared memory a block",
    "occupancy": "occupancy",
    "kernels": "kernels compiled",
}


def outcome_text(outcome: Outcome, *, budget: int = MESSAGE_TOKENS) -> str:
    """Status, stage and message (compiler output or counterexample, both ends kept), then what the compiler said of the kernels."""
    told = "\n".join(line for line in outcome.message.strip().splitlines() if not line.startswith(_FOR_PEOPLE))
    message = cut(told, budget, keep="both")
    lines = [f"{outcome.status} at stage {outcome.stage}{': ' if message else ''}{message}"]
    return "\n".join(lines + [text for text in [resources_text(outcome.detail)] if text])


def resources_text(detail: Mapping[str, Any]) -> str:
    """``Resources: 40 registers a thread, …``, then what compilers remarked; nothing where none said anything."""
    known, remarks = detail.get("resources"), detail.get("remarks")
    lines = []
    if isinstance(known, Mapping) and known:
        most = "Resources, each the most that any kernel needs: " if known.get("kernels", 1) > 1 else "Resources: "
        lines.append(most + ", ".join(f"{value:g} {_RESOURCES.get(name, name)}" for name, value in known.items()))
    if isinstance(remarks, str) and remarks:
        lines.append("The compiler's remarks:\n" + cut(remarks, REMARKS_TOKENS))
    return "\n".join(lines)


def figures_text(fitness: float, detail: Mapping[str, Any], facts: Mapping[str, Any], baseline: str) -> str:
    """The fitness, and by case the speedup, the time and the share of the speed of light, where they are known."""
    speedups = detail.get("speedups")
    lines = [f"Fitness {fitness:.3g}: geometric mean of the speedups over {baseline}."]
    for case, speedup in speedups.items() if isinstance(speedups, Mapping) else ():
        known = facts.get("cases", {}).get(case, {})
        said = [f"{speedup:.2f}x"]
        if known.get("baseline_us") and speedup > 0:
            time_us = known["baseline_us"] / speedup
            said.append(f"{time_us:.3g} us")
            place = position(known, time_us)
            said += [place.text] if place is not None else []
        lines.append(f"- `{case}`: {', '.join(said)}")
    resources = resources_text(detail)
    return "\n".join([*lines, *([resources] if resources else [])])


def step_line(node: Node, graph: Graph) -> str:
    """One step of the search on one line: number, result, prediction, idea or problem."""
    proposal = node.proposal
    said = [f"#{node.id}" + (f" from {', '.join(f'#{parent}' for parent in proposal.parents)}" if proposal.parents else "")]
    said.append(_result(node, graph))
    if proposal.predicted_gain is not None:
        said.append(f"predicted {proposal.predicted_gain:.3g}")
    said.append(one_line(proposal.idea, 160))
    if proposal.hypothesis:
        said.append(f"hypothesis: {one_line(proposal.hypothesis, 240)}")
    return "; ".join(part for part in said if part)


def _result(node: Node, graph: Graph) -> str:
    if node.outcome.status is Status.NO_CANDIDATE:
        return f"no kernel: {one_line(node.proposal.problem or node.outcome.message, 240)}"
    if not node.works:
        return f"{node.outcome.status} at {node.outcome.stage}: {one_line(node.outcome.message.partition(chr(10))[0], 240)}"
    parent = next((other for other in graph.nodes if other.id in node.proposal.parents and other.fitness > 0), None)
    gain = f", gain {node.fitness / parent.fitness:.2f}" if parent is not None and node.fitness > 0 else ""
    return f"fitness {node.fitness:.3g}{gain}" if node.fitness > 0 else f"correct, {node.outcome.status}"
