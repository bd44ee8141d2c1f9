"""The search graph in one SQLite file beside its artifacts: every node insert is a checkpoint."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, Row, Table, create_engine, event, insert, inspect, select, text
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.search.node import Node, Proposal
from kevolve.store import schema
from kevolve.store.artifacts import ArtifactError, Artifacts
from kevolve.store.migrations import migrate

BUSY_TIMEOUT_MS = 30_000
_PRAGMAS = (f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON")


class StoreError(Exception):
    """The database cannot be used; the message says why and what to do. The file is left as it is."""


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _engine(path: Path) -> Engine:
    """Connections that begin transactions where we say so: ``sqlite3`` would begin them late, after a read."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    return engine


class GraphStore:
    """Runs, nodes and edges under ``folder`` (``<rootdir>/.kevolve``). Several processes may write at once."""

    def __init__(self, folder: Path, *, now: Callable[[], str] = _utc_now) -> None:
        """Open the store, making or migrating it. Raises ``StoreError``: corrupt, from a newer version, or not writable."""
        self.folder = folder
        self.path = folder / "kevolve.db"
        self.artifacts = Artifacts(folder=folder / "artifacts")
        self._now = now
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ignore = folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("# Made by kevolve.\n*\n")
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror}; kevolve keeps its search graph there") from error
        self._engine = _engine(self.path)
        self._connection: Connection | None = None
        with self._explained():
            self._connection = self._engine.connect()
            self._prepare()

    def __enter__(self) -> GraphStore:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()

    def start_run(self, *, arguments: Sequence[str], environment: Mapping[str, Any]) -> int:
        """Register this run, with an identity of its own; its number."""
        values = dict(uuid=str(uuid4()), started=self._now())
        values |= dict(arguments=json.dumps(list(arguments)), environment=json.dumps(dict(environment)))
        with self._writing() as connection:
            return _inserted(connection, schema.runs, values)

    def add(
        self,
        *,
        run: int,
        spec: str,
        spec_hash: str,
        target: str,
        proposal: Proposal,
        normal_hash: str,
        outcome: Outcome,
        fitness: float,
        seconds: float,
        decision: Mapping[str, Any] | None = None,
    ) -> Node:
        """Insert one completed step, its artifact and its edges in one transaction; the node."""
        source_hash = self.artifacts.put(proposal.source)  # before the row: a crash in between leaves a file nobody names
        created = self._now()
        values = dict(run=run, spec=spec, spec_hash=spec_hash, target=target, source_hash=source_hash, normal_hash=normal_hash)
        values |= dict(fitness=fitness, seconds=seconds, created=created, decision=json.dumps(decision or {}))
        values |= _proposal_values(proposal) | _outcome_values(outcome)
        with self._writing() as connection:
            connection.execute(insert_or(schema.artifacts).values(sha256=source_hash, created=created).on_conflict_do_nothing())
            number = _inserted(connection, schema.nodes, values)
            for position, parent in enumerate(dict.fromkeys(proposal.parents)):
                connection.execute(insert(schema.edges).values(parent=parent, child=number, position=position))
        return Node(
            id=number,
            run=run,
            spec=spec,
            spec_hash=spec_hash,
            target=target,
            proposal=proposal,
            source_hash=source_hash,
            normal_hash=normal_hash,
            outcome=outcome,
            fitness=fitness,
            seconds=seconds,
            created=created,
        )

    def nodes(self, spec: str, target: str, *, spec_hash: str | None = None) -> list[Node]:
        """The nodes of one spec and target in the order they were completed; of one version of the spec, or of all.

        A node whose artifact is missing or damaged is left out, so that its candidate is simply tried again.
        """
        wanted = (schema.nodes.c.spec == spec) & (schema.nodes.c.target == target)
        if spec_hash is not None:
            wanted &= schema.nodes.c.spec_hash == spec_hash
        joined = schema.edges.join(schema.nodes, schema.edges.c.child == schema.nodes.c.id)
        with self._reading() as connection:
            rows = connection.execute(select(schema.nodes).where(wanted).order_by(schema.nodes.c.id)).all()
            chosen = select(schema.edges).select_from(joined).where(wanted).order_by(schema.edges.c.child, schema.edges.c.position)
            parents: dict[int, list[int]] = {}
            for edge in connection.execute(chosen):
                parents.setdefault(edge.child, []).append(edge.parent)
        read = (_node(row, tuple(parents.get(row.id, ())), self.artifacts) for row in rows)
        return [node for node in read if node is not None]

    def source(self, source_hash: str) -> str:
        """The text of a node. Raises ``ArtifactError``."""
        return self.artifacts.get(source_hash)

    def runs(self) -> list[Mapping[str, Any]]:
        """Every run: id, uuid, started, arguments, environment."""
        with self._reading() as connection:
            rows = connection.execute(select(schema.runs).order_by(schema.runs.c.id)).mappings().all()
        return [dict(row) | {name: json.loads(row[name]) for name in ("arguments", "environment")} for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._explained():
            yield self._open()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction that takes the write lock at once, so that it cannot fail half-way for want of it."""
        connection = self._open()
        with self._explained():
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:  # an interrupt too must leave no transaction open
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def _open(self) -> Connection:
        if self._connection is None:
            raise StoreError(f"{self.path} is closed")
        return self._connection

    def _prepare(self) -> None:
        if self._version() == schema.VERSION:
            return
        connection = self._open()
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # a migration rebuilds tables that others refer to
        with self._writing():
            version = self._version()  # another process may have been here meanwhile
            if version is None:
                schema.metadata.create_all(connection)
                connection.execute(insert(schema.schema_version).values(version=schema.VERSION))
            elif version < schema.VERSION:
                migrate(connection, version, schema.VERSION)
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")

    def _version(self) -> int | None:
        """The file's schema version; None for a new file. Raises ``StoreError`` for a newer one."""
        connection = self._open()
        tables = inspect(connection).get_table_names()
        if not tables:
            return None
        if "schema_version" not in tables:
            raise StoreError(f"{self.path} is not a kevolve database: expected a table schema_version, got {', '.join(tables)}")
        version = int(connection.execute(text("SELECT version FROM schema_version")).scalar_one())
        if version > schema.VERSION:
            raise StoreError(
                f"{self.path} was written by a newer kevolve: expected schema version {schema.VERSION} or older, got {version}; "
                "upgrade kevolve, or move the file aside to begin a new graph"
            )
        return version

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise StoreError(f"cannot use {self.path}: {error.orig}") from error
        except DatabaseError as error:
            if not isinstance(error.orig, sqlite3.DatabaseError) or isinstance(error.orig, sqlite3.IntegrityError):
                raise
            raise StoreError(
                f"{self.path} is damaged ({error.orig}); it was left as it is: move it aside to begin a new graph, "
                f"or recover it with: sqlite3 {self.path} .recover"
            ) from error


def _inserted(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert one row; its number."""
    (number,) = connection.execute(insert(table).values(values)).inserted_primary_key or (0,)
    return int(number)


def _proposal_values(proposal: Proposal) -> dict[str, Any]:
    return dict(
        language=proposal.language,
        operator=proposal.operator,
        idea=proposal.idea,
        family=proposal.family,
        knobs=json.dumps(dict(proposal.knobs), sort_keys=True),
        memory=proposal.memory,
    )


def _outcome_values(outcome: Outcome) -> dict[str, Any]:
    return dict(status=outcome.status.value, stage=outcome.stage.value, message=outcome.message, detail=json.dumps(dict(outcome.detail)))


def _node(row: Row[Any], parents: tuple[int, ...], artifacts: Artifacts) -> Node | None:
    try:
        source = artifacts.get(row.source_hash)
    except ArtifactError:
        return None
    proposal = Proposal(
        language=row.language,
        source=source,
        operator=row.operator,
        idea=row.idea,
        parents=parents,
        family=row.family,
        knobs=json.loads(row.knobs),
        memory=row.memory,
    )
    outcome = Outcome(status=Status(row.status), stage=Stage(row.stage), message=row.message, detail=json.loads(row.detail))
    return Node(
        id=row.id,
        run=row.run,
        spec=row.spec,
        spec_hash=row.spec_hash,
        target=row.target,
        proposal=proposal,
        source_hash=row.source_hash,
        normal_hash=row.normal_hash,
        outcome=outcome,
        fitness=row.fitness,
        seconds=row.seconds,
        created=row.created,
    )
