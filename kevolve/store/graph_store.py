"""The search graph in one SQLite file beside its artifacts: every node insert is a checkpoint."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from kevolve.search.node import Node, Proposal
from kevolve.search.records import Completion, Done, SearchRecord, StepRecord
from kevolve.store import rows, schema
from kevolve.store.artifacts import Artifacts
from kevolve.store.database import BUSY_TIMEOUT_MS, Database, StoreError, inserted
from kevolve.store.search_store import Searches

__all__ = ["BUSY_TIMEOUT_MS", "GraphStore", "StoreError"]

TEXTS = 512  # artifacts held in memory


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class GraphStore:
    """Runs, searches, steps, nodes and edges under ``folder`` (``<rootdir>/.kevolve``). Several processes may write at once."""

    def __init__(self, folder: Path, *, now: Callable[[], str] = _utc_now) -> None:
        """Open the store, making or migrating it. Raises ``StoreError``: corrupt, from a newer version, or not writable."""
        self.folder = folder
        self.path = folder / "kevolve.db"
        self.artifacts = Artifacts(folder=folder / "artifacts")
        self._now = now
        self._read = functools.lru_cache(maxsize=TEXTS)(self.artifacts.get)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ignore = folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("# Made by kevolve.\n*\n")
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror}; kevolve keeps its search graph there") from error
        self._database = Database(self.path)
        self._searches = Searches(self._database, folder / "locks", read=self._read, keep=self._keep, now=now)

    def __enter__(self) -> GraphStore:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; searches under way here may be taken up by others."""
        self._searches.close()
        self._database.close()

    # -- runs ------------------------------------------------------------------------------------------------------

    def start_run(self, *, arguments: Sequence[str], environment: Mapping[str, Any]) -> int:
        """Register this run, with an identity of its own; its number."""
        values = dict(uuid=str(uuid4()), started=self._now())
        values |= dict(arguments=json.dumps(list(arguments)), environment=json.dumps(dict(environment)))
        with self._database.writing() as connection:
            return inserted(connection, schema.runs, values)

    def runs(self) -> list[Mapping[str, Any]]:
        """Every run: id, uuid, started, arguments, environment."""
        with self._database.reading() as connection:
            found = connection.execute(select(schema.runs).order_by(schema.runs.c.id)).mappings().all()
        return [dict(row) | {name: json.loads(row[name]) for name in ("arguments", "environment")} for row in found]

    # -- searches and steps ----------------------------------------------------------------------------------------

    def begin(
        self, *, run: int, spec: str, spec_hash: str, target: str, policy: str, seed: int, about: Mapping[str, Any] | None = None
    ) -> tuple[SearchRecord, Sequence[StepRecord]]:
        """Begin a search, or take up the one that was killed, with its steps; nobody else takes it until ``release``.

        It is taken up where policy and seed are the same; an older one with others is ended, as superseded.
        """
        return self._searches.begin(run=run, about=about or {}, spec=spec, spec_hash=spec_hash, target=target, policy=policy, seed=seed)

    def take(self, search: int, records: Sequence[StepRecord]) -> None:
        """Keep steps that are about to be taken, in one transaction."""
        self._searches.take(search, records)

    def propose(self, search: int, number: int, proposal: Proposal, event: int) -> None:
        """Keep the candidate of a step that was asked for."""
        self._searches.propose(search, number, proposal, event)

    def end(self, search: int, reason: str, seconds: float) -> None:
        """A search is over: what was not completed is dropped."""
        self._searches.end(search, reason, seconds)

    def release(self, search: int) -> None:
        """Let another process take up the search, where it has not ended."""
        self._searches.release(search)

    def searches(self, *, spec: str | None = None, target: str | None = None, run: int | None = None) -> list[SearchRecord]:
        """The searches of a spec, target or run, or all, in the order they began."""
        return self._searches.all(spec=spec, target=target, run=run)

    def steps(self, search: int) -> list[StepRecord]:
        """The steps of a search in the order they were asked for."""
        return self._searches.steps(search)

    # -- nodes -----------------------------------------------------------------------------------------------------

    def add(self, *, decision: Mapping[str, Any] | None = None, completes: Completion | None = None, **done: Unpack[Done]) -> Node:
        """Insert one completed step, its artifacts and its edges in one transaction; the node, its texts left on disk."""
        proposal, transcript = done["proposal"], done["proposal"].transcript
        source_hash = self.artifacts.put(proposal.source)  # before the row: a crash in between leaves a file nobody names
        transcript_hash = self.artifacts.put(transcript) if transcript else None
        known = dict(source_hash=source_hash, created=self._now(), step=completes.number if completes else 0)
        values = {name: value for name, value in done.items() if name not in ("proposal", "outcome")} | known
        values |= dict(transcript_hash=transcript_hash, decision=json.dumps(decision or {}))
        values |= rows.of_proposal(proposal) | rows.of_outcome(done["outcome"])
        with self._database.writing() as connection:
            self._register(connection, {source_hash: proposal.source} | ({transcript_hash: transcript} if transcript_hash else {}))
            number = inserted(connection, schema.nodes, values)
            for position, parent in enumerate(dict.fromkeys(proposal.parents)):
                connection.execute(insert(schema.edges).values(parent=parent, child=number, position=position))
            if completes is not None:
                self._searches.complete(connection, completes, number)
        kept: dict[str, Any] = {**done, **known, "proposal": rows.proposal(values, proposal.parents, self._read)}
        return Node(id=number, **kept)

    def nodes(self, spec: str, target: str, *, spec_hash: str | None = None) -> list[Node]:
        """The nodes of one spec and target in the order they were completed; of one version of the spec, or of all.

        A node whose source is missing or cut short is left out, so that its candidate is simply tried again. Texts are read when asked for.
        """
        wanted = and_(schema.nodes.c.spec == spec, schema.nodes.c.target == target)
        return self._chosen(wanted if spec_hash is None else and_(wanted, schema.nodes.c.spec_hash == spec_hash))

    def nodes_of_target(self, target: str) -> list[Node]:
        """The nodes of every spec on targets that share the name before the colon: sister devices too. For a warm start."""
        kind = target.partition(":")[0]
        return self._chosen((schema.nodes.c.target == kind) | schema.nodes.c.target.startswith(f"{kind}:", autoescape=True))

    def _chosen(self, wanted: ColumnElement[bool]) -> list[Node]:
        joined = schema.edges.join(schema.nodes, schema.edges.c.child == schema.nodes.c.id)
        columns = [column for column in schema.nodes.c if column.name != "decision"]
        sized = schema.nodes.join(schema.artifacts, schema.nodes.c.source_hash == schema.artifacts.c.sha256)
        with self._database.reading() as connection:
            query = select(*columns, schema.artifacts.c.bytes).select_from(sized).where(wanted).order_by(schema.nodes.c.id)
            found = connection.execute(query).all()
            chosen = select(schema.edges).select_from(joined).where(wanted).order_by(schema.edges.c.child, schema.edges.c.position)
            parents: dict[int, list[int]] = {}
            for edge in connection.execute(chosen):
                parents.setdefault(edge.child, []).append(edge.parent)
        there = {row.source_hash: row.bytes for row in found}
        there = {sha256: size for sha256, size in there.items() if self.artifacts.holds(sha256, size)}
        return [rows.node(row, tuple(parents.get(row.id, ())), self._read) for row in found if row.source_hash in there]

    def source(self, source_hash: str) -> str:
        """The text of an artifact: a node's source, a transcript. Raises ``ArtifactError``."""
        return self._read(source_hash)

    def decision(self, node: int) -> Mapping[str, Any]:
        """What the policy saw when it chose the step that led to a node; empty where nothing was kept."""
        with self._database.reading() as connection:
            found = connection.execute(select(schema.nodes.c.decision).where(schema.nodes.c.id == node)).scalar_one_or_none()
        return dict(json.loads(found)) if found else {}

    def _keep(self, connection: Connection, texts: Iterable[str]) -> list[str]:
        """Keep texts and register them; their addresses."""
        kept = {self.artifacts.put(text): text for text in texts}
        self._register(connection, kept)
        return list(kept)

    def _register(self, connection: Connection, texts: Mapping[str, str]) -> None:
        for sha256, text in texts.items():
            size = len(text.encode())
            row = insert_or(schema.artifacts).values(sha256=sha256, created=self._now(), bytes=size).on_conflict_do_nothing()
            if connection.execute(row).rowcount == 0:  # of an older version, perhaps: without its size
                connection.execute(update(schema.artifacts).where(schema.artifacts.c.sha256 == sha256).values(bytes=size))
