"""Searches and their steps: what a killed run is resumed from."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from kevolve.search.node import Proposal
from kevolve.search.records import Completion, SearchRecord, StepRecord
from kevolve.store import rows, schema
from kevolve.store.database import Database, inserted

Keep = Callable[[Connection, Iterable[str]], list[str]]  # texts -> their addresses, registered


class Locks:
    """One file a search, locked by the process that runs it: the system lets go of it however that process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Whether nobody else holds it, and we do now."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[name] = descriptor
        return True

    def drop(self, name: str) -> None:
        """Let go of it."""
        if name in self._held:
            os.close(self._held.pop(name))

    def close(self) -> None:
        """Let go of all."""
        for name in list(self._held):
            self.drop(name)


class Searches:
    """The tables ``searches`` and ``steps``."""

    def __init__(self, database: Database, locks: Path, *, read: rows.Read, keep: Keep, now: Callable[[], str]) -> None:
        self._database, self._locks, self._read, self._keep, self._now = database, Locks(locks), read, keep, now

    def begin(
        self, *, run: int, about: Mapping[str, Any], spec: str, spec_hash: str, target: str, policy: str, seed: int
    ) -> tuple[SearchRecord, list[StepRecord]]:
        """See ``GraphStore.begin``."""
        self._locks.take("begin", wait=True)  # between a search's row and its lock nobody may look
        try:
            found = self._unfinished(spec=spec, spec_hash=spec_hash, target=target, policy=policy, seed=seed)
            if found is None:
                wanted = dict(run=run, spec=spec, spec_hash=spec_hash, target=target, policy=policy, seed=seed)
                found = self._new(**wanted, about=json.dumps(dict(about)))
            return found, self.steps(found.id)
        finally:
            self._locks.drop("begin")

    def _unfinished(self, *, spec: str, spec_hash: str, target: str, policy: str, seed: int) -> SearchRecord | None:
        """The latest search that was killed and can go on; others of the same spec are ended."""
        chosen: SearchRecord | None = None
        for record in reversed(self.all(spec=spec, target=target)):
            if record.ended is not None or not self._locks.take(_lock(record.id)):
                continue
            if chosen is None and (record.spec_hash, record.policy, record.seed) == (spec_hash, policy, seed):
                chosen = record
            else:
                self.end(record.id, "superseded: another policy, seed or version of the spec was searched for", record.seconds)
                self.release(record.id)
        return chosen

    def _new(self, **values: Any) -> SearchRecord:
        values |= dict(seconds=0.0, started=self._now(), ended=None, reason="")
        with self._database.writing() as connection:
            number = inserted(connection, schema.searches, values)
        self._locks.take(_lock(number))
        return SearchRecord(**{**values, "id": number, "about": json.loads(values["about"])})

    def take(self, search: int, records: Sequence[StepRecord]) -> None:
        """See ``GraphStore.take``."""
        with self._database.writing() as connection:
            for record in records:
                values = rows.of_step(record) | {"search": search}
                if record.proposal is not None:
                    values["proposal"] = self._candidate(connection, record.proposal)
                connection.execute(insert(schema.steps).values(values))

    def propose(self, search: int, number: int, proposal: Proposal, event: int) -> None:
        """See ``GraphStore.propose``."""
        with self._database.writing() as connection:
            values = dict(state="proposed", proposal=self._candidate(connection, proposal), proposed=event)
            connection.execute(update(schema.steps).where(_step(search, number)).values(values))

    def complete(self, connection: Connection, given: Completion, node: int) -> None:
        """A step is done: part of the transaction that inserts its node."""
        values = dict(state="done", node=node, done=given.event)
        connection.execute(update(schema.steps).where(_step(given.search, given.number)).values(values))
        connection.execute(update(schema.searches).where(schema.searches.c.id == given.search).values(seconds=given.seconds))

    def end(self, search: int, reason: str, seconds: float) -> None:
        """See ``GraphStore.end``."""
        with self._database.writing() as connection:
            values = dict(ended=self._now(), reason=reason, seconds=seconds)
            connection.execute(update(schema.searches).where(schema.searches.c.id == search).values(values))
            open_ = and_(schema.steps.c.search == search, schema.steps.c.state != "done")
            connection.execute(update(schema.steps).where(open_).values(state="dropped"))

    def release(self, search: int) -> None:
        """See ``GraphStore.release``."""
        self._locks.drop(_lock(search))

    def close(self) -> None:
        """Let go of every search."""
        self._locks.close()

    def all(self, *, spec: str | None = None, target: str | None = None, run: int | None = None) -> list[SearchRecord]:
        """See ``GraphStore.searches``."""
        query = select(schema.searches).order_by(schema.searches.c.id)
        for name, value in dict(spec=spec, target=target, run=run).items():
            if value is not None:
                query = query.where(schema.searches.c[name] == value)
        with self._database.reading() as connection:
            return [rows.search(row) for row in connection.execute(query)]

    def steps(self, search: int) -> list[StepRecord]:
        """See ``GraphStore.steps``."""
        query = select(schema.steps).where(schema.steps.c.search == search).order_by(schema.steps.c.number)
        with self._database.reading() as connection:
            return [rows.step(row, self._read) for row in connection.execute(query)]

    def _candidate(self, connection: Connection, proposal: Proposal) -> str:
        """A proposal as an artifact, its texts as artifacts of their own; its address."""
        (source,) = self._keep(connection, [proposal.source])
        transcript = self._keep(connection, [proposal.transcript])[0] if proposal.transcript else None
        (kept,) = self._keep(connection, [rows.candidate_json(proposal, source, transcript)])
        return kept


def _step(search: int, number: int) -> Any:
    return and_(schema.steps.c.search == search, schema.steps.c.number == number)


def _lock(search: int) -> str:
    return f"search-{search}"
