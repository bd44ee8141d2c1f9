"""What a search taught is written back: moves that helped and that did not as skills, and how often documents were of use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from kevolve import registry
from kevolve.modelled import skills_of

if TYPE_CHECKING:
    from pathlib import Path

    from kevolve.search.node import Graph
    from kevolve.settings import Settings
    from kevolve.spec.spec import Spec


def write_back(
    settings: Settings,
    spec: Spec,
    graph: Graph,
    *,
    run: int,
    device: Mapping[str, Any],
    facts: Mapping[str, Any],
    families: Sequence[str],
    say: Callable[[str], None],
) -> list[Path]:
    """Distil the nodes of ``run`` into ``knowledge/skills`` below the rootdir; the files written. Nothing where retrieval is off.

    A skill or a statistic that cannot be read is left as it is, and told.
    """
    from kevolve.knowledge import skills, usage
    from kevolve.knowledge.documents import BadDocument
    from kevolve.operators.agent.retrieval import is_off

    if is_off(settings.knowledge):
        return []
    folder = skills_of(settings)
    try:
        texts = skills.distil(
            graph,
            spec=spec,
            run=run,
            device=device,
            facts=facts,
            families=families,
            toolchain=_toolchain(graph, run),
            today=date.today(),
            existing=skills.existing(folder),
        )
        written = skills.write(folder, texts)
        counted = usage.read(settings.store).plus(graph, run=run)
    except (BadDocument, ValueError) as error:
        say(f"kevolve: what this search taught was not written back: {error}")
        return []
    usage.write(settings.store, counted)
    if written:
        say(f"kevolve: {len(written)} skill{'s' if len(written) > 1 else ''} in {settings.relative(folder)}, to be reviewed")
    return written


def _toolchain(graph: Graph, run: int) -> str:
    """The versions of the languages that this run's kernels are written in."""
    names = sorted({node.proposal.language for node in graph.nodes if node.run == run})
    versions = {name: version for language in names for name, version in registry.load("languages", language).versions().items()}
    return ", ".join(f"{name} {version}" for name, version in versions.items())
