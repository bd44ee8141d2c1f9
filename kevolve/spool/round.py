"""A round: candidates of one spec for one target, with all that is needed to judge them and nothing secret, as one archive.

``round.json`` says what is to be done; ``candidates/<sha256>`` are the texts; ``modules/`` holds the spec's Python files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kevolve.report.fields import Fields, RecordError
from kevolve.spec.spec import Draw
from kevolve.spool import container
from kevolve.spool.container import BadArchive
from kevolve.spool.declared import Declared

FORMAT = 1
SUFFIX = ".round.zip"
Kind = Literal["quick", "accept"]
KINDS: tuple[Kind, ...] = ("quick", "accept")
_MANIFEST, _MODULES, _CANDIDATES = "round.json", "modules/", "candidates/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One candidate to judge.

    ``quick``: the development plan and a rough timing, as a search does at home; ``accept``: a fresh full check and paired timing
    under a seed that is drawn where it is measured.
    """

    kind: Kind
    language: str
    source: str

    @property
    def address(self) -> str:
        """The text's content address."""
        return hashlib.sha256(self.source.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one archive asks for. ``plan_seed``: of the development plan and of timed contents, never a grading seed.

    ``kept``: counterexamples, replayed first. ``files``: the spec's, by path. ``kevolve``: the version that wrote it.
    """

    declared: Declared
    target: str
    jobs: tuple[Job, ...]
    plan_seed: int
    kept: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    kevolve: str = ""

    def identity(self, job: Job) -> str:
        """What makes two jobs the same: the spec with its cases, the target, the kind and the text; not the seeds."""
        return identity(self.declared, self.target, job)

    @property
    def identities(self) -> tuple[str, ...]:
        """Of every job, in order."""
        return tuple(self.identity(job) for job in self.jobs)

    def packed(self) -> bytes:
        """The archive."""
        manifest = {
            "format": FORMAT,
            "kevolve": self.kevolve,
            "spec": self.declared.to_json(),
            "target": self.target,
            "plan_seed": self.plan_seed,
            "kept": list(self.kept),
            "jobs": [{"kind": job.kind, "language": job.language, "candidate": job.address} for job in self.jobs],
        }
        members = {_MANIFEST: json.dumps(manifest, indent=1).encode()}
        members |= {_MODULES + path: content for path, content in self.files.items()}
        members |= {_CANDIDATES + job.address: job.source.encode() for job in self.jobs}
        return container.packed(members)


def identity(declared: Declared, target: str, job: Job) -> str:
    """See ``Round.identity``."""
    parts = [declared.to_json(), target, job.kind, job.language, job.address]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRound:
    """A round with the hash of the very archive that it was read from: what results must name."""

    round: Round
    sha256: str


def read(path: Path) -> ReadRound:
    """The round at ``path``, every field checked. Raises ``BadArchive`` naming the file, ``OSError`` where there is none."""
    members, sha256 = container.read(path)
    try:
        manifest = json.loads(members.pop(_MANIFEST))
        found = _round(Fields(manifest, _MANIFEST), members)
    except KeyError as error:
        raise BadArchive(f"{path.name}: expected a round of kevolve's, got an archive without {error}") from error
    except (RecordError, ValueError, RecursionError) as error:
        raise BadArchive(f"{path.name}: {error}") from error
    return ReadRound(round=found, sha256=sha256)


def _round(fields: Fields, members: Mapping[str, bytes]) -> Round:
    if (version := fields.integer("format")) != FORMAT:
        raise RecordError(f"expected format {FORMAT}, got {version}: use the version of kevolve that wrote it")
    texts = {name.removeprefix(_CANDIDATES): text for name, text in members.items() if name.startswith(_CANDIDATES)}
    files = {name.removeprefix(_MODULES): text for name, text in members.items() if name.startswith(_MODULES)}
    if strangers := sorted(name for name in members if not name.startswith((_CANDIDATES, _MODULES))):
        raise RecordError(f"expected {_MANIFEST}, {_CANDIDATES} and {_MODULES} only, got {strangers[0]!a}")
    kept = _texts(fields.rest().get("kept", []))
    for draw in kept:
        Draw.from_json(draw)
    return Round(
        declared=Declared.from_json(fields.child("spec")),
        target=fields.text("target"),
        jobs=tuple(_job(job, texts) for job in fields.children("jobs")),
        plan_seed=fields.integer("plan_seed"),
        kept=kept,
        files=files,
        kevolve=fields.text("kevolve"),
    )


def _texts(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise RecordError(f"{_MANIFEST}.kept: expected a list of texts")
    return tuple(given)


def _job(fields: Fields, texts: Mapping[str, bytes]) -> Job:
    address = fields.text("candidate")
    source = texts.get(address, b"").decode()
    kind: Kind = "accept" if fields.one_of("kind", KINDS) == "accept" else "quick"
    job = Job(kind=kind, language=fields.text("language"), source=source)
    if job.address != address:
        raise RecordError(f"{fields.where}: expected a candidate whose SHA-256 is {address:.16}, got {job.address:.16}")
    return job


def unpack(round: Round, folder: Path) -> None:
    """Write the spec's files below ``folder``, which is the reader's own and new. Raises ``BadArchive`` for one that is not Python's."""
    for name, content in round.files.items():
        path = folder / name
        if path.suffix != ".py" or not path.resolve().is_relative_to(folder.resolve()):
            raise BadArchive(f"{_MODULES}{name!a}: expected a Python file")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def in_order(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Each job once, in an order that follows from the jobs: a search that is replayed asks for the same round, whoever answered first."""
    found = {(job.kind, job.language, job.address): job for job in jobs}
    return tuple(found[key] for key in sorted(found))
