"""Between rows of the database and the search's values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import Row

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search.node import Node, Proposal
from kevolve.search.records import SearchRecord, StepRecord
from kevolve.search.step import Step

Read = Callable[[str], str]  # an artifact's address -> its text


def usage_json(usage: Usage | None) -> str:
    """What exchanges cost; ``{}`` for nothing."""
    return json.dumps({} if usage is None else {name: value for name, value in asdict(usage).items() if value})


def of_proposal(proposal: Proposal) -> dict[str, Any]:
    """A node's columns that are its proposal's, its texts apart."""
    return dict(
        language=proposal.language,
        operator=proposal.operator,
        idea=proposal.idea,
        family=proposal.family,
        knobs=json.dumps(dict(proposal.knobs), sort_keys=True),
        memory=proposal.memory,
        model=proposal.model,
        hypothesis=proposal.hypothesis,
        predicted_gain=proposal.predicted_gain,
        usage=usage_json(proposal.usage),
        propose_seconds=proposal.seconds,
        problem=proposal.problem,
    )


def proposal(values: Mapping[str, Any], parents: tuple[int, ...], read: Read) -> Proposal:
    """A proposal from its columns; its texts are read when asked for."""
    transcript = values["transcript_hash"]
    return Proposal(
        language=values["language"],
        source=partial(read, values["source_hash"]),
        operator=values["operator"],
        idea=values["idea"],
        parents=parents,
        family=values["family"],
        knobs=json.loads(values["knobs"]),
        memory=values["memory"],
        model=values["model"],
        hypothesis=values["hypothesis"],
        predicted_gain=values["predicted_gain"],
        usage=Usage(**json.loads(values["usage"])),
        seconds=values["propose_seconds"],
        transcript=partial(read, transcript) if transcript else "",
        problem=values["problem"],
    )


def of_outcome(outcome: Outcome) -> dict[str, Any]:
    """A node's columns that are its outcome's."""
    return dict(status=outcome.status.value, stage=outcome.stage.value, message=outcome.message, detail=json.dumps(dict(outcome.detail)))


def node(row: Row[*tuple[Any, ...]], parents: tuple[int, ...], read: Read) -> Node:
    """A node from its row."""
    outcome = Outcome(status=Status(row.status), stage=Stage(row.stage), message=row.message, detail=json.loads(row.detail))
    return Node(
        id=row.id,
        run=row.run,
        spec=row.spec,
        spec_hash=row.spec_hash,
        target=row.target,
        proposal=proposal(dict(row._mapping), parents, read),
        source_hash=row.source_hash,
        normal_hash=row.normal_hash,
        outcome=outcome,
        fitness=row.fitness,
        seconds=row.seconds,
        created=row.created,
        step=row.step,
    )


def search(row: Row[Any]) -> SearchRecord:
    """A search from its row."""
    return SearchRecord(**{**dict(row._mapping), "about": json.loads(row.about)})


def of_step(record: StepRecord) -> dict[str, Any]:
    """A step's columns, its candidate apart."""
    step = record.step
    return dict(
        search=record.search,
        number=step.number,
        state=record.state,
        parents=json.dumps(step.parents),
        memory=step.memory,
        operator=step.operator,
        model=step.model,
        language=step.language,
        seed=step.seed,
        most=usage_json(step.most),
        decision=json.dumps(dict(record.decision)),
        node=record.node,
        proposed=record.proposed,
        done=record.done,
    )


def step(row: Row[Any], read: Read) -> StepRecord:
    """A step from its row; the candidate of one that waits to be evaluated is read."""
    most = json.loads(row.most)
    taken = Step(
        parents=tuple(json.loads(row.parents)),
        memory=row.memory,
        operator=row.operator,
        model=row.model,
        seed=row.seed,
        number=row.number,
        language=row.language,
        most=Usage(**most) if most else None,
    )
    return StepRecord(
        search=row.search,
        step=taken,
        state=row.state,
        decision=json.loads(row.decision),
        proposal=candidate(read(row.proposal), read) if row.proposal and row.node is None else None,
        node=row.node,
        proposed=row.proposed,
        done=row.done,
    )


def candidate_json(given: Proposal, source_hash: str, transcript_hash: str | None) -> str:
    """A proposal as the text of an artifact."""
    values = of_proposal(given) | dict(parents=list(given.parents), source_hash=source_hash, transcript_hash=transcript_hash)
    return json.dumps(values, sort_keys=True)


def candidate(text: str, read: Read) -> Proposal:
    """A proposal from such a text."""
    values = json.loads(text)
    return proposal(values, tuple(values["parents"]), read)
