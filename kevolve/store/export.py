"""Nodes as JSON, one a line, their texts inlined: a graph that needs no store. ``docs/search.md`` lists the fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search.node import Node, Proposal

FORMAT = 1
_OF_NODE = ("id", "run", "spec", "spec_hash", "target", "source_hash", "normal_hash", "fitness", "seconds", "created")
_OF_PROPOSAL = (
    "language",
    "source",
    "operator",
    "idea",
    "family",
    "memory",
    "model",
    "hypothesis",
    "predicted_gain",
    "transcript",
    "problem",
)


class ExportError(ValueError):
    """A line that is no exported node; the message says which and why."""


def line(node: Node, decision: Mapping[str, Any]) -> str:
    """One node as one line of JSON, without its end."""
    proposal, outcome = node.proposal, node.outcome
    values: dict[str, Any] = {"format": FORMAT}
    values |= {name: getattr(node, name) for name in _OF_NODE}
    values |= {name: getattr(proposal, name) for name in _OF_PROPOSAL}
    values |= {"parents": list(proposal.parents), "knobs": dict(proposal.knobs), "propose_seconds": proposal.seconds}
    values |= {"usage": asdict(proposal.usage), "decision": dict(decision)}
    values |= {"status": outcome.status.value, "stage": outcome.stage.value, "message": outcome.message, "detail": dict(outcome.detail)}
    return json.dumps(values)  # in ASCII: some readers end a line at characters that JSON leaves as they are


def read(lines: Iterable[str]) -> Iterator[tuple[Node, Mapping[str, Any]]]:
    """The nodes that ``line`` wrote, each with its decision. Raises ``ExportError`` naming the line."""
    for number, text in enumerate(lines, 1):
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ExportError(f"line {number}: expected format {FORMAT}, got {values['format']!r}")
            yield _node(values), values["decision"]
        except ExportError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(
                f"line {number}: expected a node as `kevolve search export` writes it ({type(error).__name__}: {error})"
            ) from error


def _node(values: Mapping[str, Any]) -> Node:
    proposal = Proposal(
        **{name: values[name] for name in _OF_PROPOSAL},
        parents=tuple(values["parents"]),
        knobs=values["knobs"],
        seconds=values["propose_seconds"],
        usage=Usage(**values["usage"]),
    )
    outcome = Outcome(status=Status(values["status"]), stage=Stage(values["stage"]), message=values["message"], detail=values["detail"])
    return Node(**{name: values[name] for name in _OF_NODE}, proposal=proposal, outcome=outcome)
