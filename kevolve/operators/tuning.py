"""The operator ``tuning``: a neighbour search over the knobs of a family, stateless over the graph.

Around the family's best node: every change of one knob not yet tried, the knobs that mattered most first; then two changes at once that
were each about as good as the best. A better node moves the neighbourhood; when there is nothing left to change, it proposes nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from kevolve.evaluate.outcome import Status
from kevolve.operators import samples
from kevolve.search.node import Graph, Node, Proposal

if TYPE_CHECKING:
    from kevolve.operators import Context
    from kevolve.search.policies import Step

NEARLY = 0.98  # a change that gives this part of the best's fitness is worth combining with another

Setting: TypeAlias = tuple[tuple[str, Any], ...]


class Tunable(Protocol):
    """What can be tuned: a family of kernels with knobs."""

    @property
    def name(self) -> str:
        """The family's name, as nodes keep it."""
        ...

    @property
    def knobs(self) -> Mapping[str, tuple[Any, ...]]:
        """Each knob's values, the default first."""
        ...

    def proposal(self, knobs: Mapping[str, Any], *, operator: str, parents: tuple[int, ...] = (), memory: str = "parent") -> Proposal:
        """The candidate for a setting."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What is known of a family: the best node by setting; settings that fail are known at fitness 0."""

    nodes: Mapping[Setting, Node]

    def fitness(self, setting: Setting) -> float:
        node = self.nodes[setting]
        return node.fitness if node.works else 0.0

    def best(self) -> Node | None:
        working = [node for node in self.nodes.values() if node.works and node.fitness > 0]
        return max(working, key=lambda node: (node.fitness, -node.id), default=None)


class Tuning:
    """Changes the knobs of families that other operators drafted."""

    name = "tuning"

    def __init__(self, tunables: Callable[[Context], Mapping[str, Tunable]] | None = None) -> None:
        """``tunables``: the families of a context by name; those of ``samples`` by default."""
        self._tunables = tunables or samples.families

    def propose(self, context: Context, step: Step, count: int) -> list[Proposal]:
        """Neighbours of the best node of the parent's family. Nothing for drafts, and nothing where no speed is known."""
        family = next((name for parent in step.parents if (name := _family_of(context.graph, parent))), None)
        if family is None or (tunable := self._tunables(context).get(family)) is None:
            return []
        tried = _tried(context.graph, tunable, context.language)
        best = tried.best()
        if best is None or best.outcome.status is Status.NOT_MEASURED:
            return []
        here = _setting(best.proposal.knobs, tunable)
        changes = [*_single(here, tunable, tried), *_double(here, tried)]
        unseen = [setting for setting in dict.fromkeys(changes) if setting not in tried.nodes]
        return [tunable.proposal(dict(setting), operator=self.name, parents=(best.id,), memory=step.memory) for setting in unseen[:count]]


def _family_of(graph: Graph, node_id: int) -> str:
    """The family of a node, or of a node with the same text (a kernel file that was once drafted here)."""
    found = next((node for node in graph.nodes if node.id == node_id), None)
    if found is None:
        return ""
    alike = (node.proposal.family for node in graph.nodes if node.normal_hash == found.normal_hash and node.proposal.family)
    return found.proposal.family or next(alike, "")


def _setting(knobs: Mapping[str, Any], tunable: Tunable) -> Setting:
    """The knobs the family has now; values it no longer offers fall back to the default."""
    offered = sorted(tunable.knobs.items())
    return tuple((name, value if (value := knobs.get(name, values[0])) in values else values[0]) for name, values in offered)


def _tried(graph: Graph, tunable: Tunable, language: str) -> _Tried:
    """The family's nodes by setting; those of an older template, whose text is another, say nothing of this one."""
    nodes: dict[Setting, Node] = {}
    texts: dict[Setting, str] = {}
    for node in graph.nodes:
        if node.proposal.family == tunable.name and node.proposal.language == language:
            setting = _setting(node.proposal.knobs, tunable)
            if setting not in texts:
                texts[setting] = tunable.proposal(dict(setting), operator="").source
            known = nodes.get(setting)
            if texts[setting] == node.proposal.source and (known is None or (node.works and node.fitness > known.fitness)):
                nodes[setting] = node
    return _Tried(nodes=nodes)


def _changed(setting: Setting, name: str, value: Any) -> Setting:
    return tuple((knob, value if knob == name else held) for knob, held in setting)


def _single(here: Setting, tunable: Tunable, tried: _Tried) -> list[Setting]:
    """One knob changed: knobs never varied first, then those that mattered most; near values before far ones."""
    effects = _effects(tried)
    ranked: list[tuple[float, int, str, Setting]] = []
    for name, held in here:
        ladder = _ladder(tunable.knobs[name])
        place = ladder.index(held) if held in ladder else 0
        for distance, value in ((abs(rung - place), value) for rung, value in enumerate(ladder) if value != held):
            ranked.append((-effects.get(name, math.inf), distance, name, _changed(here, name, value)))
    return [setting for *_rank, setting in sorted(ranked, key=lambda entry: entry[:3])]


def _ladder(values: Sequence[Any]) -> list[Any]:
    """Values in order of size, where they have one."""
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else list(values)


def _effects(tried: _Tried) -> dict[str, float]:
    """By knob, the largest gain or loss (log ratio) between two settings that differ in it alone."""
    working = {setting: tried.fitness(setting) for setting in tried.nodes if tried.fitness(setting) > 0}
    effects: dict[str, float] = {}
    for (first, one), (second, other) in itertools.combinations(working.items(), 2):
        different = [name for (name, held), (_, value) in zip(first, second, strict=True) if held != value]
        if len(different) == 1:
            effects[different[0]] = max(effects.get(different[0], 0.0), abs(math.log(one / other)))
    return effects


def _double(here: Setting, tried: _Tried) -> list[Setting]:
    """Two knobs changed at once, where each change alone came close to the best; the most promising pairs first."""
    bar = NEARLY * tried.fitness(here)
    good: list[tuple[float, str, Any]] = []
    for setting in tried.nodes:
        different = [(name, value) for (name, held), (_, value) in zip(here, setting, strict=True) if held != value]
        if len(different) == 1 and tried.fitness(setting) >= bar:
            good.append((tried.fitness(setting), *different[0]))
    good.sort(key=lambda change: (-change[0], change[1], str(change[2])))
    pairs = [(one, other) for one, other in itertools.combinations(good, 2) if one[1] != other[1]]
    return [_changed(_changed(here, one[1], one[2]), other[1], other[2]) for one, other in pairs]
