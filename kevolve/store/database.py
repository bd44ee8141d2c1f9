"""The SQLite file: connections, transactions, versions, and errors that say what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from kevolve.store import schema
from kevolve.store.migrations import migrate

BUSY_TIMEOUT_MS = 30_000
_PRAGMAS = (f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON")


class StoreError(Exception):
    """The database cannot be used; the message says why and what to do. The file is left as it is."""


def _engine(path: Path) -> Engine:
    """Connections that begin transactions where we say so: ``sqlite3`` would begin them late, after a read."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    return engine


class Database:
    """One open file, made or migrated when opened. Several processes may write at once; one thread of each."""

    def __init__(self, path: Path) -> None:
        """Raises ``StoreError``: corrupt, from a newer version, or not writable."""
        self.path = path
        self._engine = _engine(path)
        self._connection: Connection | None = None
        with self._explained():
            self._connection = self._engine.connect()
            self._prepare()

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with."""
        with self._explained():
            yield self._open()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
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
        with self.writing():
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


def inserted(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert one row; its number."""
    (number,) = connection.execute(insert(table).values(values)).inserted_primary_key or (0,)
    return int(number)
