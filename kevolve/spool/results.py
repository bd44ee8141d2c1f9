"""What comes back of a round: one result a job, where it was measured and what was measured beside, as one archive.

Who measures is trusted for the figures, as one's own device is; the archive's form is not: it must name the very round that was sent,
hold one well-formed result for every job, and come from one device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.report.fields import Fields, RecordError
from kevolve.report.record import Environment, Record
from kevolve.spool import container, figures
from kevolve.spool.container import BadArchive
from kevolve.spool.round import FORMAT, ReadRound

if TYPE_CHECKING:
    from kevolve.evaluate.timing import Measurement

SUFFIX = ".results.zip"
_MANIFEST = "results.json"
_WORKING = (Status.PASSED, Status.TOO_SLOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came of one job. ``fitness``: of a quick one; ``measured``: of an accepted one's cases, by id; ``seconds``: spent on it."""

    job: str  # `Round.identity`
    outcome: Outcome
    fitness: float = 0.0
    seconds: float = 0.0
    measured: Mapping[str, Measurement] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "job": self.job,
            "outcome": figures.outcome_to_json(self.outcome),
            "fitness": self.fitness,
            "seconds": self.seconds,
            "measured": {case: figures.measurement_to_json(measured) for case, measured in self.measured.items()},
        }

    @classmethod
    def from_json(cls, fields: Fields) -> JobResult:
        """Check and take plain data. Raises ``RecordError``."""
        found = cls(
            job=fields.text("job"),
            outcome=figures.outcome(fields.child("outcome")),
            fitness=fields.number("fitness"),
            seconds=fields.number("seconds"),
            measured={case: figures.measurement(child) for case, child in fields.named("measured", optional=True)},
        )
        if found.fitness > 0 and found.outcome.status not in _WORKING:
            raise RecordError(f"{fields.where}: expected fitness 0 for {found.outcome.status}, got {found.fitness}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results of one round. ``facts``: what was measured once for all candidates (``{"cases": {id: {"baseline_us": …}}}``)."""

    round: str  # SHA-256 of the round's archive
    environment: Environment
    results: tuple[JobResult, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)  # as the target describes it: name, arch, versions

    def packed(self) -> bytes:
        """The archive."""
        manifest = {
            "format": FORMAT,
            "round": self.round,
            "record": Record(environment=self.environment).to_json(),
            "device": dict(self.device),
            "facts": dict(self.facts),
            "results": [result.to_json() for result in self.results],
        }
        return container.packed({_MANIFEST: json.dumps(manifest, indent=1, allow_nan=False).encode()})


def read(path: Path, asked: ReadRound) -> Results:
    """The results at ``path`` of the round that was asked for.

    Raises ``BadArchive`` naming the file and the first thing that is wrong: of another round, jobs that are missing or were not asked
    for, a field of the wrong kind, a figure that cannot be.
    """
    try:
        members, _ = container.read(path)
        if set(members) != {_MANIFEST}:
            raise BadArchive(f"{path.name}: expected {_MANIFEST} alone, got {', '.join(map(ascii, sorted(members)[:3])) or 'nothing'}")
        found = _results(Fields(json.loads(members[_MANIFEST]), _MANIFEST))
        _check(found, asked)
    except BadArchive:
        raise
    except (RecordError, ValueError, RecursionError) as error:
        raise BadArchive(f"{path.name}: {error}") from error
    return found


def _results(fields: Fields) -> Results:
    if (version := fields.integer("format")) != FORMAT:
        raise RecordError(f"expected format {FORMAT}, got {version}: measure with this machine's version of kevolve")
    device = fields.mapping("device")
    if not all(isinstance(value, str) and len(value) < 1000 for value in device.values()) or not device.get("name"):
        raise RecordError(f"{_MANIFEST}.device: expected texts, a name among them")
    return Results(
        round=fields.text("round"),
        environment=Record.from_json(fields.mapping("record")).environment,
        results=tuple(JobResult.from_json(child) for child in fields.children("results")),
        facts=fields.mapping("facts"),
        device=device,
    )


def _check(found: Results, asked: ReadRound) -> None:
    """Whether these are the results of that round."""
    if found.round != asked.sha256:
        raise RecordError(f"expected the results of round {asked.sha256:.16}, got those of {found.round:.16}")
    wanted, given = sorted(set(asked.round.identities)), sorted(result.job for result in found.results)
    if wanted != given:
        raise RecordError(
            f"expected one result for each of {len(wanted)} jobs, got {len(given)} of which {_known(given, wanted)} were asked for"
        )
    kinds = dict(zip(asked.round.identities, asked.round.jobs, strict=True))
    cases = {name for name, _, _ in asked.round.declared.cases}
    for result in found.results:
        _check_one(result, kinds[result.job].kind, cases)


def _check_one(result: JobResult, kind: str, cases: set[str]) -> None:
    working = result.outcome.status in _WORKING
    if not set(result.measured) <= cases:
        raise RecordError(f"job {result.job:.8}: expected measurements of cases {', '.join(sorted(cases))}")
    if kind == "quick" and (result.measured or (working and (result.outcome.stage is not Stage.QUICK or result.fitness <= 0))):
        raise RecordError(f"job {result.job:.8}: expected a quick timing, got {result.outcome.status} in {result.outcome.stage}")
    if kind == "accept" and (result.fitness or (result.measured and not working)):
        raise RecordError(f"job {result.job:.8}: expected measurements of a kernel that passed its check, got {result.outcome.status}")


def _known(given: Sequence[str], wanted: Sequence[str]) -> int:
    return len(set(given) & set(wanted))
