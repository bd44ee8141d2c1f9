"""The operator ``tuning``: a search over the knobs of a family, stateless over the graph.

A family is a sample with knobs, or any kernel whose lines say what may be tuned (``tune_lines``). What the graph holds of the family
is modelled (``surrogate``), and the settings with the greatest expected improvement are proposed. When every setting is known, nothing.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from kevolve import registry
from kevolve.evaluate.outcome import Status
from kevolve.operators import samples, tune_lines
from kevolve.search.node import Node, Proposal

if TYPE_CHECKING:
    from kevolve.operators import Context
    from kevolve.operators.tune_lines import Written
    from kevolve.search.policies import Step

MOST_CANDIDATES = 2048  # settings that are compared; of larger spaces the neighbours of the best, and some drawn from all
_CENTRES = 3  # settings whose neighbours are candidates

Setting: TypeAlias = tuple[Any, ...]  # one value a knob, in the order of the knobs' names


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

    @property
    def fitness(self) -> dict[Setting, float]:
        return {setting: node.fitness if node.works else 0.0 for setting, node in self.nodes.items()}

    def best(self) -> Node | None:
        working = [node for node in self.nodes.values() if node.works and node.fitness > 0]
        return max(working, key=lambda node: (node.fitness, -node.id), default=None)


class Tuning:
    """Changes the knobs of families that other operators drafted, and the lines that a kernel marks."""

    name = "tuning"

    def __init__(
        self,
        tunables: Callable[[Context], Mapping[str, Tunable]] | None = None,
        language: Callable[[str], Written] | None = None,
    ) -> None:
        """``tunables``: the families of a context by name; those of ``samples`` by default. ``language``: by name."""
        self._tunables = tunables or samples.families
        self._language = language or _registered
        self._current: dict[tuple[str, str, str, str], Setting | None] = {}  # by spec, family, language and source: what it sets

    def propose(self, context: Context, step: Step, count: int) -> list[Proposal]:
        """Promising settings of the parent's family. Nothing for drafts, and nothing where no speed is known."""
        found = (self._tunable(context, parent) for parent in step.parents)
        tunable = next((each for each in found if each is not None), None)
        if tunable is None:
            return []
        tried = self._tried(context, tunable)
        best = tried.best()
        if best is None or best.outcome.status is Status.NOT_MEASURED:
            return []
        from kevolve.operators import surrogate  # numpy, where something is tuned

        names, chance = sorted(tunable.knobs), random.Random(step.seed)
        knobs = {name: tunable.knobs[name] for name in names}
        unseen = _candidates(knobs, tried, chance)
        chosen = surrogate.choose(knobs, tried.fitness, unseen, count, chance)
        settings = [dict(zip(names, setting, strict=True)) for setting in chosen]
        return [tunable.proposal(setting, operator=self.name, parents=(best.id,), memory=step.memory) for setting in settings]

    def _tunable(self, context: Context, node_id: int) -> Tunable | None:
        """The family of a node, or of a node with the same text (a kernel file that was once drafted here); else its marked lines."""
        node = next((node for node in context.graph.nodes if node.id == node_id), None)
        if node is None:
            return None
        alike = (other.proposal.family for other in context.graph.nodes if other.normal_hash == node.normal_hash and other.proposal.family)
        known = self._tunables(context).get(node.proposal.family or next(alike, ""))
        return known or self._marked(node, context.language)

    def _marked(self, node: Node, language: str) -> tune_lines.Marked | None:
        if node.proposal.language != language or tune_lines.PREFIX not in node.proposal.source:
            return None
        return tune_lines.marked(node.proposal.source, self._language(language))

    def _tried(self, context: Context, tunable: Tunable) -> _Tried:
        """The family's nodes by setting, in the order in which they were completed."""
        nodes: dict[Setting, Node] = {}
        for node in context.graph.nodes:
            setting = self._setting(node, context, tunable)
            if setting is not None:
                known = nodes.get(setting)
                if known is None or (node.works and node.fitness > known.fitness):
                    nodes[setting] = node
        return _Tried(nodes=nodes)

    def _setting(self, node: Node, context: Context, tunable: Tunable) -> Setting | None:
        """What a node sets of the family, or None: those of an older template, whose text is another, say nothing of this one."""
        if node.proposal.language != context.language:
            return None
        key = (node.spec_hash, tunable.name, node.proposal.language, node.source_hash)
        if key not in self._current:
            self._current[key] = self._read(node, context.language, tunable)
        return self._current[key]

    def _read(self, node: Node, language: str, tunable: Tunable) -> Setting | None:
        names = sorted(tunable.knobs)
        if tunable.name.startswith(tune_lines.PREFIX):
            marked = self._marked(node, language)
            return tuple(marked.setting[name] for name in names) if marked is not None and marked.name == tunable.name else None
        if node.proposal.family != tunable.name:
            return None
        setting = _present(node.proposal.knobs, tunable)
        same = tunable.proposal(setting, operator="").source == node.proposal.source
        return tuple(setting[name] for name in names) if same else None


def _registered(name: str) -> Written:
    found: Written = registry.load("languages", name)
    return found


def _present(knobs: Mapping[str, Any], tunable: Tunable) -> dict[str, Any]:
    """The knobs the family has now; values it no longer offers fall back to the default."""
    offered = tunable.knobs.items()
    return {name: value if (value := knobs.get(name, values[0])) in values else values[0] for name, values in offered}


def _candidates(knobs: Mapping[str, Sequence[Any]], tried: _Tried, chance: random.Random) -> list[Setting]:
    """Settings not yet tried: all of a small space, else those near the fittest and a sample of the others."""
    values = list(knobs.values())
    if math.prod(len(each) for each in values) <= MOST_CANDIDATES:
        return [setting for setting in itertools.product(*values) if setting not in tried.nodes]
    fitness = tried.fitness
    centres = sorted(fitness, key=lambda setting: -fitness[setting])[:_CENTRES]
    near = [setting for centre in centres for setting in _neighbours(centre, values, chance)]
    drawn = [tuple(chance.choice(each) for each in values) for _ in range(MOST_CANDIDATES // 2)]
    unseen = [setting for setting in dict.fromkeys([*near, *drawn]) if setting not in tried.nodes]
    return unseen[:MOST_CANDIDATES]


def _neighbours(centre: Setting, values: Sequence[Sequence[Any]], chance: random.Random) -> Iterator[Setting]:
    """Every change of one knob, and some of two."""
    single = [(*centre[:place], value, *centre[place + 1 :]) for place, each in enumerate(values) for value in each]
    yield from single
    for _ in range(MOST_CANDIDATES // (4 * _CENTRES)):
        one, place = chance.choice(single), chance.randrange(len(values))
        yield (*one[:place], chance.choice(values[place]), *one[place + 1 :])
