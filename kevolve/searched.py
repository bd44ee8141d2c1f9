"""From a search's graph to the rows of the record, within bounds: texts are kept whole or not at all, prose is cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kevolve.models.redaction import redact
from kevolve.report.record import NodeRow, Record, SearchRow, Usage, dumped
from kevolve.report.text import shorten
from kevolve.search.node import Graph, Node

PROSE = 200  # characters of an idea, a hypothesis, a message on the lineage
LINE = 60  # of an idea and a message elsewhere: a tree shows a line
PROMPT = 16_000  # characters of a prompt, its beginning and its end
RECORD = 3_000_000  # characters of a record: rows always, texts while there is room


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A search's row, and the texts of its best's lineage by SHA-256, the best's own first."""

    row: SearchRow
    sources: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)


def searched(graph: Graph, best: Node | None, *, run: int, spec: str, target: str) -> Searched:
    """What ``run`` added to a graph, with the lineage of ``best`` where older runs began it."""
    lineage = ancestry(graph, best)
    prompts = {node.id: prompt(node.proposal.transcript) for node in lineage if node.proposal.transcript}
    known = {node.id for node in lineage}
    nodes = [node for node in graph.nodes if node.run == run or node.id in known]
    return Searched(
        row=SearchRow(
            spec=spec,
            target=target,
            best=best.id if best is not None else None,
            nodes=tuple(_node(node, prompts.get(node.id, ""), on_lineage=node.id in known) for node in nodes),
        ),
        sources={node.source_hash: node.proposal.source for node in lineage if node.proposal.source},
        prompts={address(text): text for text in prompts.values() if text},
    )


def ancestry(graph: Graph, best: Node | None) -> list[Node]:
    """``best`` and its ancestors, the nearest first."""
    found: dict[int, Node] = {}
    layer = [best] if best is not None else []
    while layer:
        found |= {node.id: node for node in layer if node.id not in found}
        parents = dict.fromkeys(parent for node in layer for parent in node.proposal.parents if parent not in found)
        layer = [node for parent in parents if (node := graph.get(parent)) is not None]
    return list(found.values())


def prompt(transcript: str) -> str:
    """What the model was sent first, from a transcript as operators keep it; empty where it is of another form."""
    try:
        kept = json.loads(transcript)
        told = [part["text"] for message in kept["messages"][:1] for part in message["parts"] if "text" in part]
        parts = [str(kept.get("system", "")), *map(str, told)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return _shortened(redact("\n\n".join(part for part in parts if part)))


def with_texts(record: Record, judged: Mapping[str, str], found: Sequence[Searched], *, most: int = RECORD) -> Record:
    """The record with texts while it stays within ``most`` characters: kernels judged, then lineages, then prompts; whole or not at all."""
    sources = [*judged.items(), *(pair for one in found for pair in one.sources.items())]
    prompts = [pair for one in found for pair in one.prompts.items()]
    room = most - len(dumped(record)) - 200
    kept, room = _fitting(sources, room)
    asked, _ = _fitting(prompts, room)
    return replace(record, sources=kept, prompts=asked)


def _fitting(texts: Iterable[tuple[str, str]], room: int) -> tuple[dict[str, str], int]:
    """Texts by address, in the order given, while there is room for them as JSON; and the room that is left."""
    kept: dict[str, str] = {}
    for sha256, text in texts:
        taken = len(sha256) + len(json.dumps(text, ensure_ascii=False)) + 12
        if sha256 not in kept and taken <= room:
            kept[sha256] = text
            room -= taken
    return kept, room


def address(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _node(node: Node, prompt: str, *, on_lineage: bool) -> NodeRow:
    proposal, usage = node.proposal, node.proposal.usage
    most = PROSE if on_lineage else LINE
    return NodeRow(
        id=node.id,
        step=node.step,
        parents=tuple(proposal.parents),
        operator=proposal.operator,
        model=proposal.model,
        idea=_cut(proposal.idea, most),
        hypothesis=_cut(proposal.hypothesis, most) if on_lineage else "",
        status=node.outcome.status.value,
        message=_cut(node.outcome.message or proposal.problem, most),
        fitness=_digits(node.fitness),
        seconds=_digits(node.seconds + proposal.seconds),
        source=node.source_hash if on_lineage else "",
        prompt=address(prompt) if prompt else "",
        usage=Usage(
            input=usage.input_tokens + usage.cache_write_tokens, cached=usage.cached_tokens, output=usage.output_tokens, usd=usage.usd
        ),
    )


def _digits(value: float) -> float:
    """Five significant digits: more is noise, and a tree of 6,000 nodes has room for no noise."""
    return float(f"{value:.5g}")


def _cut(text: str, most: int) -> str:
    shown = redact(text)  # before the cut: half a key is still half a key
    return shorten(shown, most)  # in its middle: what sets siblings apart, their settings, stands at the end


def _shortened(text: str) -> str:
    if len(text) <= PROMPT:
        return text
    half = PROMPT // 2
    return f"{text[:half]}\n\n… {len(text) - 2 * half:,} characters left out …\n\n{text[-half:]}"
