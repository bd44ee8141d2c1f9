"""What bounds the kernel a step begins from, what was tried, what to try: from stored outcomes alone, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kevolve.evaluate.outcome import Status
from kevolve.knowledge import rules, tried
from kevolve.knowledge.evidence import Evidence, Finding, Timing
from kevolve.knowledge.rules.speed import ARITHMETIC, timing
from kevolve.knowledge.scope import device_scope
from kevolve.search.node import Graph, Node
from kevolve.search.policies import Step
from kevolve.spec.spec import Spec

Phase = Literal["draft", "debug", "optimise"]
_MOST_DIRECTIONS = 6
_MOST_SAID = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What an author is told of where a step begins, and what documents are looked for by.

    ``bottlenecks``: of BOTTLENECKS, the weightiest first. ``tried``: one line an attempt, the best first. ``words``: for full text.
    """

    phase: Phase
    bottlenecks: tuple[str, ...]
    vendor: str
    arch: str
    language: str
    families: tuple[str, ...]
    summary: str
    tried: tuple[str, ...]
    directions: tuple[str, ...]
    words: str
    architectures: tuple[str, ...] = ()  # `arch` and what it stands for (sm86: sm80 too)

    def render(self) -> str:
        """Markdown, as a model reads it."""
        where = " ".join(filter(None, (self.vendor, self.arch)))
        head = f"Phase: {self.phase}, {self.language} on {where or 'an unknown device'}, {', '.join(self.families) or 'family unknown'}."
        parts = [head, f"Bounded by: {', '.join(self.bottlenecks)}." if self.bottlenecks else "", self.summary]
        if self.tried:
            parts.append("Tried so far, best first:\n" + "\n".join(f"- {line}" for line in self.tried))
        if self.directions:
            parts.append("To try:\n" + "\n".join(f"{number}. {line}" for number, line in enumerate(self.directions, 1)))
        return "\n\n".join(part for part in parts if part)


def diagnose(
    graph: Graph,
    step: Step,
    *,
    spec: Spec,
    language: str,
    device: Mapping[str, Any],
    facts: Mapping[str, Any],
    families: Sequence[str],
) -> Diagnosis:
    """Diagnose where ``step`` begins.

    ``device``: as ``Target.device()`` says. ``facts``: ``{"cases": {case_id: {"baseline_us", "floor_us", "bound"}}, "peaks": {…}}``,
    each where it is known. ``families``: of the operator (``agent.families``). Parents that the graph lacks are passed over.
    """
    vendor, architectures = device_scope(device)
    node = _worked_from(graph, step)
    evidence = Evidence(
        node=node,
        language=language,
        vendor=vendor,
        families=tuple(families),
        timings=_timings(node, spec, facts),
        siblings=tried.siblings(graph, step.parents),
        empty_call_us=_empty_call_us(facts),
    )
    found = rules.findings(evidence) or (_draft(evidence, _bounds(facts)),)
    return Diagnosis(
        phase=_phase(node),
        bottlenecks=tuple(dict.fromkeys(finding.bottleneck for finding in found)),
        vendor=vendor,
        arch=str(device.get("arch", "")),
        architectures=architectures,
        language=language,
        families=tuple(families),
        summary="\n".join(finding.says for finding in found[:_MOST_SAID]),
        tried=tried.told(tried.remembered(graph, step.parents, step.memory)),
        directions=tuple(dict.fromkeys(line for finding in found for line in finding.directions))[:_MOST_DIRECTIONS],
        words=" ".join((*(finding.words for finding in found), _named(spec), *families)),
    )


def _worked_from(graph: Graph, step: Step) -> Node | None:
    """The step's parent: of several the fittest, of failures the latest. None for a draft, and for a restart."""
    parents = [node for node in graph.nodes if node.id in step.parents]
    return max(parents, key=lambda node: (node.fitness, node.works, node.id), default=None) if step.memory != "restart" else None


def _phase(node: Node | None) -> Phase:
    if node is None or node.outcome.status is Status.NO_CANDIDATE:
        return "draft"
    return "optimise" if node.works else "debug"


def _timings(node: Node | None, spec: Spec, facts: Mapping[str, Any]) -> tuple[Timing, ...]:
    if node is None:
        return ()
    speedups = node.outcome.detail.get("speedups")
    known = facts.get("cases", {})
    least = {case.id: spec.least_speedup(case) for case in spec.cases}
    pairs = speedups.items() if isinstance(speedups, Mapping) else ()
    return tuple(timing(case, float(speedup), dict(known.get(case, {})), least.get(case)) for case, speedup in pairs)


def _empty_call_us(facts: Mapping[str, Any]) -> float | None:
    peaks = facts.get("peaks")
    value = peaks.get("empty_call_us") if isinstance(peaks, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _bounds(facts: Mapping[str, Any]) -> Sequence[str]:
    """What the floors of the cases are made of, where they are known."""
    return [each["bound"] for each in facts.get("cases", {}).values() if each and each.get("bound")]


# What should bound a draft: in words, what to search documents for, and what to aim at.
_FORESEEN = {
    "memory": ("memory traffic", "one pass fusion bandwidth", "Read each input once, write each output once."),
    "compute": ("arithmetic", "tile matrix units", "Keep the widest units fed: operands on the way while others are multiplied."),
    "latency": (
        "random accesses",
        "gather random access latency loads in flight",
        "Touch as few sectors as can be for each, and have many independent accesses in flight.",
    ),
    "launch": (
        "the launch",
        "launch single kernel small sizes latency",
        "One launch, few dependent trips to memory: begin every load before the first wait.",
    ),
}


def _draft(evidence: Evidence, bounds: Sequence[str]) -> Finding:
    """Nothing to look at yet: what the floors say bounds it, or what such operators are bounded by."""
    counts = {bound: bounds.count(bound) for bound in _FORESEEN if bound in bounds}
    if counts:
        most = sorted(counts, key=lambda bound: -counts[bound])
        why = ", ".join(f"{_FORESEEN[bound][0]} bounds {counts[bound]} of {len(bounds)} cases" for bound in most)
    else:
        most = ["memory" if set(ARITHMETIC).isdisjoint(evidence.families) else "compute"]
        why = f"{_FORESEEN[most[0]][0]} should bound it, as a rule of its family"
    return Finding(
        bottleneck=most[0],
        says=f"A draft: nothing was measured from here. {'By their floors ' if counts else ''}{why}.",
        words=" ".join(["basics entry function wrapper allocate outputs example", *(_FORESEEN[bound][1] for bound in most)]),
        directions=(*(_FORESEEN[bound][2] for bound in most), "Cover every size from 0 on."),
    )


def _named(spec: Spec) -> str:
    """The words of the operator's own names."""
    words = f"{spec.name} {spec.reference.qualname}".replace("_", " ").replace(".", " ").split()
    return " ".join(dict.fromkeys(words))
