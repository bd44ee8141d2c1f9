"""The recorded outcomes and the diagnoses that are made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.knowledge.diagnosis import Diagnosis, diagnose
from kevolve.models import Usage
from kevolve.search.node import Graph, Node, Proposal
from kevolve.search.policies import Step
from tests.knowledge.trees import spec

RECORD = Path(__file__).with_name("diagnoses.jsonl")


def lines(path: Path | str = RECORD) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def node_of(fields: dict[str, Any]) -> Node:
    proposal = fields["proposal"]
    told = fields["outcome"]
    outcome = Outcome(status=Status(told["status"]), stage=Stage(told["stage"]), message=told["message"], detail=told["detail"])
    made = Proposal(**{**proposal, "parents": tuple(proposal["parents"]), "usage": Usage(**proposal["usage"])})
    return Node(**{**fields, "proposal": made, "outcome": outcome})


def diagnosed(line: dict[str, Any]) -> Diagnosis:
    """What the step after this outcome is told."""
    node = node_of(line["node"])
    return diagnose(
        Graph.of([node]),
        Step(parents=(node.id,), memory="parent"),
        spec=spec(line["spec"], cases=tuple(line["facts"].get("cases", ()))),
        language=node.proposal.language,
        device=line["device"],
        facts=line["facts"],
        families=line["families"],
    )
