"""How often documents stood in a prompt, and what came of those steps: kept in a JSON file beside the skills."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kevolve.files import write_atomically
from kevolve.knowledge.tried import documents_of
from kevolve.search.node import Graph

FILE = "usage.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """One document's: prompts it stood in, steps of these that worked, those with a timed parent, and the sum of their log gains."""

    prompts: int = 0
    worked: int = 0
    compared: int = 0
    log_gain: float = 0.0

    @property
    def gain(self) -> float | None:
        """The geometric mean of the gains over the parents; None where nothing was compared."""
        return math.exp(self.log_gain / self.compared) if self.compared else None

    def plus(self, other: Used) -> Used:
        """Both together."""
        return Used(
            prompts=self.prompts + other.prompts,
            worked=self.worked + other.worked,
            compared=self.compared + other.compared,
            log_gain=self.log_gain + other.log_gain,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """By document id; ``counted``: the runs that are in it, so that none is counted twice."""

    documents: Mapping[str, Used] = field(default_factory=dict)
    counted: tuple[str, ...] = ()

    def plus(self, graph: Graph, *, run: int) -> Usage:
        """With the nodes of ``run``; as it is where that run is in it."""
        nodes = [node for node in graph.nodes if node.run == run]
        key = f"{nodes[0].spec} {nodes[0].target} {run} {nodes[0].created}" if nodes else ""
        if not nodes or key in self.counted:
            return self
        documents = dict(self.documents)
        fitness = {node.id: node.fitness for node in graph.nodes}
        for node in nodes:
            parent = max((fitness.get(number, 0.0) for number in node.proposal.parents), default=0.0)
            compared = node.works and parent > 0 and node.fitness > 0
            used = Used(
                prompts=1, worked=int(node.works), compared=int(compared), log_gain=math.log(node.fitness / parent) if compared else 0.0
            )
            for id in documents_of(node):
                documents[id] = documents.get(id, Used()).plus(used)
        return Usage(documents=documents, counted=(*self.counted, key))


def read(folder: Path) -> Usage:
    """What is kept in ``folder``; nothing where nothing is. Raises ``ValueError`` for a file that is no such thing."""
    path = folder / FILE
    if not path.exists():
        return Usage()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Usage(documents={id: Used(**used) for id, used in kept["documents"].items()}, counted=tuple(kept["counted"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: expected what kevolve wrote there, statistics by document ({error}); delete it to begin anew") from error


def write(folder: Path, usage: Usage) -> Path:
    """Keep ``usage`` in ``folder``; the file."""
    path = folder / FILE
    documents = {id: asdict(used) for id, used in sorted(usage.documents.items())}
    write_atomically(path, json.dumps({"documents": documents, "counted": list(usage.counted)}, indent=1) + "\n")
    return path
