"""The operator ``samples``: parametrised kernels for families of formulas, matched by the reference's traced graph, never by a name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kevolve.search.node import Proposal

if TYPE_CHECKING:
    from kevolve.operators import Context
    from kevolve.operators.matching import Fit
    from kevolve.operators.trace import Trace
    from kevolve.search.node import Node
    from kevolve.search.policies import Step

SPREAD = {"cpp": 2}  # by language, settings far from the default that are drafted besides it: where a build costs little, else none
RETRIES = 2  # settings far from one that failed here, where nothing else of its family works: another form, smaller blocks

_found: dict[tuple[object, ...], tuple[Fit, ...]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A sample fitted to a reference: what the knobs may be, and the source for a setting of them."""

    fit: Fit
    language: str
    entry: str
    inputs: tuple[str, ...]  # the reference's names
    gradient: bool = False  # whether the spec asks for gradients

    @property
    def name(self) -> str:
        """The sample's name, kept with each node."""
        return self.fit.sample.name

    @property
    def knobs(self) -> Mapping[str, tuple[Any, ...]]:
        """Each knob's values, the default first."""
        return self.fit.sample.knobs.get(self.language, {})

    def defaults(self) -> dict[str, Any]:
        """The default setting."""
        return self.fit.sample.defaults(self.language)

    def source(self, knobs: Mapping[str, Any]) -> str:
        """The kernel for a setting."""
        named = tuple(_identifier(name) for name in self.inputs)
        return self.fit.sample.render(
            self.language,
            entry=self.entry,
            inputs=tuple(named[place] for place in self.fit.order),
            constants=self.fit.constants,
            knobs=knobs,
            signature=named,
            gradient=self.gradient,
        )

    def proposal(self, knobs: Mapping[str, Any], *, operator: str, parents: tuple[int, ...] = (), memory: str = "parent") -> Proposal:
        """The candidate for a setting."""
        setting = ", ".join(f"{name} {value}" for name, value in knobs.items())
        idea = self.fit.sample.idea + (f" ({setting})" if setting else "")
        return Proposal(
            language=self.language,
            source=self.source(knobs),
            operator=operator,
            idea=idea,
            parents=parents,
            family=self.name,
            knobs=dict(knobs),
            memory=memory,
        )


def families(context: Context) -> dict[str, Family]:
    """The samples that fit the reference, have a template in the context's language and call nothing that the spec does not allow, by name."""
    spec, language = context.spec, context.language
    return {
        fit.sample.name: Family(fit=fit, language=language, entry=spec.name, inputs=context.trace.inputs, gradient=bool(spec.grad))
        for fit in _fits(context.trace)
        if language in fit.sample.templates and set(fit.sample.calls.get(language, ())) <= set(spec.allow)
    }


def _fits(trace: Trace) -> tuple[Fit, ...]:
    """Matched once a process and trace."""
    from kevolve.operators.matching import fits
    from kevolve.operators.samples.library import SAMPLES

    key = (trace.inputs, trace.outputs, trace.problem, _shapes(trace))
    if key not in _found:
        _found[key] = tuple(fit for fit in fits(trace, SAMPLES) if _same_shapes(trace, fit))
    return _found[key]


def _same_shapes(trace: Trace, fit: Fit) -> bool:
    """Whether some pattern of the sample returns what the reference does in shape: the graphs do not tell a keepdim."""
    from kevolve.operators.trace import REFUSALS, trace_function

    for pattern in fit.sample.patterns:
        try:
            if _shapes(trace_function(pattern, trace.values, order=fit.order)) == _shapes(trace):
                return True
        except REFUSALS:
            continue  # a pattern that does not take such inputs
    return False


def _shapes(trace: Trace) -> tuple[tuple[int, ...] | None, ...]:
    return tuple(getattr(result, "shape", None) for result in trace.results)


def _identifier(name: str) -> str:
    """A parameter's dotted name as a kernel may write it."""
    return re.sub(r"\W", "_", name)


def settings(knobs: Mapping[str, tuple[Any, ...]], spread: int) -> Iterator[dict[str, Any]]:
    """The default setting, then settings in which every knob differs from it."""
    for step in range(spread + 1):
        yield {name: values[step % len(values)] for name, values in knobs.items()}


class Samples:
    """Drafts from the samples that fit: each with its defaults first, then a few settings far from them where they cost little or these fail."""

    name = "samples"

    def propose(self, context: Context, step: Step, count: int) -> list[Proposal]:
        """Drafts whose text the graph does not hold yet (a template that changed is a new draft); nothing for an expansion."""
        if step.parents:
            return []
        nodes = [node for node in context.graph.nodes if node.proposal.language == context.language]
        tried = {node.proposal.source for node in nodes}
        drafts: list[tuple[int, Proposal]] = []
        for family in families(context).values():
            for rank, setting in enumerate(settings(family.knobs, _spread(family, nodes))):
                proposal = family.proposal(setting, operator=self.name, memory=step.memory)
                if proposal.source not in tried:
                    tried.add(proposal.source)
                    drafts.append((rank, proposal))
        drafts.sort(key=lambda draft: draft[0])  # every family's default before anybody's variation
        return [proposal for _, proposal in drafts[:count]]


def _spread(family: Family, nodes: Sequence[Node]) -> int:
    """How many settings besides the default are drafted: more where what was tried of the family failed."""
    usual = SPREAD.get(family.language, 0)
    known = [node.works for node in nodes if node.proposal.family == family.name]
    return max(usual, RETRIES) if known and not any(known) else usual
