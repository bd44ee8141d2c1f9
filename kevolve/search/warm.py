"""Warm start: earlier kernels for the same operator, near shapes or a sister device, offered as parents of a new search's first steps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kevolve.search.node import Node, Proposal
from kevolve.search.records import SearchRecord
from kevolve.spec.spec import Case, Spec


class Past(Protocol):
    """What is asked of ``kevolve.store.graph_store.GraphStore``."""

    def searches(self) -> list[SearchRecord]:
        """Every search."""
        ...

    def nodes_of_target(self, target: str) -> list[Node]:
        """The nodes of every spec on a target and on its sister devices."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Relative:
    """An earlier kernel and how near it is: the lower, the nearer."""

    node: Node
    kinship: int  # the same spec here, the same operator here, the same on a sister device
    distance: float  # between the shapes
    name: str  # of its spec


def about(spec: Spec, cases: Sequence[Case], trace: Sequence[str]) -> dict[str, Any]:
    """What a later search must know of this one to begin from its kernels; JSON-able. ``trace``: the reference's outputs, as digests."""
    values = [{name: value for name, value in case.values.items() if isinstance(value, int | float)} for case in cases]
    return {"name": spec.name, "reference": spec.reference.path, "trace": list(trace), "cases": values}


def inherited(
    past: Past, *, spec: str, spec_hash: str, target: str, about: Mapping[str, Any], languages: Sequence[str], most: int = 3
) -> list[Proposal]:
    """The best earlier kernels of relatives, the nearest first, as proposals that name their node; none where this very spec has nodes.

    A relative is an older version of the spec, another spec with the same reference or the same traced formula, or either on a sister
    device. Its entry function is renamed. One kernel a spec and target, then the next best.
    """
    nodes = past.nodes_of_target(target)
    if any((node.spec, node.spec_hash, node.target) == (spec, spec_hash, target) for node in nodes):
        return []
    known = {(record.spec, record.spec_hash, record.target): record.about for record in past.searches()}
    relatives = [relative for node in nodes if (relative := _relative(node, spec, target, about, known)) is not None]
    usable = [relative for relative in relatives if relative.node.proposal.language in languages]
    return [_offered(relative, str(about.get("name", "")), target) for relative in _best(usable, most)]


def _relative(
    node: Node, spec: str, target: str, about: Mapping[str, Any], known: Mapping[tuple[str, str, str], Mapping[str, Any]]
) -> _Relative | None:
    if not node.works or node.repeats:
        return None
    theirs = known.get((node.spec, node.spec_hash, node.target), {})
    if node.spec != spec and not _same_operator(theirs, about):
        return None
    kinship = (node.spec != spec) + 2 * (node.target != target)
    distance = _distance(theirs.get("cases", ()), about.get("cases", ()))
    return _Relative(node=node, kinship=kinship, distance=distance, name=str(theirs.get("name", "")))


def _same_operator(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    same_reference = bool(theirs.get("reference")) and theirs.get("reference") == ours.get("reference")
    return same_reference or (bool(theirs.get("trace")) and theirs.get("trace") == ours.get("trace"))


def _best(relatives: Iterable[_Relative], most: int) -> list[_Relative]:
    """The fittest of each spec and target in turn, the nearest of those first; no text twice."""
    groups: dict[tuple[str, str, str], list[_Relative]] = {}
    for relative in sorted(relatives, key=lambda each: (-each.node.fitness, -each.node.id)):
        groups.setdefault((relative.node.spec, relative.node.spec_hash, relative.node.target), []).append(relative)
    turns = sorted(
        (place, each.kinship, each.distance, -each.node.fitness, -each.node.id, each)
        for group in groups.values()
        for place, each in enumerate(group[:most])
    )
    distinct = {each.node.normal_hash: each for *_, each in reversed(turns)}
    return list(reversed(distinct.values()))[:most]


def _distance(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> float:
    """How far apart the nearest cases are on average: the logs of their sizes; infinite where nothing can be compared."""
    if not theirs or not ours:
        return math.inf
    return sum(min(_between(one, other) for other in theirs) for one in ours) / len(ours)


def _between(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    sizes = [(one[name], other[name]) for name in one.keys() & other.keys() if one[name] > 0 and other[name] > 0]
    missing = len(one.keys() ^ other.keys())
    return missing + sum(abs(math.log2(a / b)) for a, b in sizes)


def _offered(relative: _Relative, name: str, target: str) -> Proposal:
    """The relative's kernel as a first step; the idea says whose it was."""
    node = relative.node
    source = node.proposal.source
    if relative.name and name and relative.name != name:
        source = re.sub(rf"(?<!\w){re.escape(relative.name)}(?!\w)", name, source)
    device = "" if node.target == target else f" on {node.target}"
    whose = f"node {node.id} of {relative.name or node.spec}{device}"
    return replace(
        node.proposal, source=source, operator="inherited", parents=(node.id,), idea=f"{node.proposal.idea} (from {whose})", **_NOTHING_PAID
    )


_NOTHING_PAID: dict[str, Any] = {"model": "", "hypothesis": "", "predicted_gain": None, "seconds": 0.0, "transcript": ""}
