"""What a store holds, for people: which graphs, which node is whose. Reading only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kevolve.evaluate.outcome import Status
from kevolve.search.node import Node
from kevolve.store.graph_store import GraphStore, StoreError

_WORKING = (Status.PASSED.value, Status.TOO_SLOW.value, Status.NOT_MEASURED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The nodes of one spec on one target. ``spec_hash``: of the version worked on last; ``older``: nodes of other versions.

    ``count``, ``working``, ``best`` (fitness), ``best_node`` and ``runs`` are that version's; ``last``: ISO 8601, UTC.
    """

    spec: str
    target: str
    spec_hash: str
    count: int
    working: int
    best: float | None
    best_node: int | None
    runs: int
    older: int
    last: str

    @property
    def name(self) -> str:
        """The spec's name: its test function's less ``test_``."""
        return self.spec.rpartition("::")[2].removeprefix("test_")


class Listing:
    """A store that is there already. Opened for reading: nothing is made, but an older version's file is brought up to date."""

    def __init__(self, folder: Path) -> None:
        """Raises ``StoreError``: no store there, or one that cannot be used."""
        if not (folder / "kevolve.db").is_file():
            raise StoreError(
                f"no search graph in {folder}: expected kevolve.db there; `pytest --kevolve-optimize` makes one, --store names another"
            )
        self.store = GraphStore(folder)

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def shelves(self) -> list[Shelf]:
        """Every spec and target, those worked on last at the end."""
        marks = ", ".join("?" for _ in _WORKING)
        counted = (
            f"SELECT spec, target, spec_hash, COUNT(*), COUNT(CASE WHEN status IN ({marks}) THEN 1 END), COUNT(DISTINCT run), MAX(id), "
            "MAX(created) FROM nodes GROUP BY spec, target, spec_hash ORDER BY MAX(id)"
        )
        versions: dict[tuple[str, str], list[Any]] = {}
        with self._reading() as connection:
            for row in connection.execute(counted, _WORKING):
                versions.setdefault((row[0], row[1]), []).append(row)
            found = [self._shelf(connection, rows) for rows in versions.values()]
        return sorted(found, key=lambda shelf: shelf.last)

    def _shelf(self, connection: sqlite3.Connection, rows: Sequence[Any]) -> Shelf:
        spec, target, spec_hash, count, working, runs, _, last = rows[-1]
        marks = ", ".join("?" for _ in _WORKING)
        chosen = (
            f"SELECT id, fitness FROM nodes WHERE spec = ? AND target = ? AND spec_hash = ? AND status IN ({marks}) "
            "ORDER BY fitness DESC, id LIMIT 1"
        )
        best = connection.execute(chosen, (spec, target, spec_hash, *_WORKING)).fetchone() or (None, None)
        return Shelf(
            spec=spec,
            target=target,
            spec_hash=spec_hash,
            count=count,
            working=working,
            best=best[1],
            best_node=best[0],
            runs=runs,
            older=sum(row[3] for row in rows[:-1]),
            last=last,
        )

    def family(self, number: int) -> list[Node]:
        """The nodes of the spec and target of node ``number``, all versions. Raises ``StoreError`` where there is no such node."""
        with self._reading() as connection:
            row = connection.execute("SELECT spec, target FROM nodes WHERE id = ?", (number,)).fetchone()
            last = connection.execute("SELECT MAX(id) FROM nodes").fetchone()[0]
        if row is None:
            raise StoreError(
                f"no node {number} in {self.store.path}: expected a number from 1 to {last or 0}; `kevolve search tree` shows them"
            )
        return self.store.nodes(row[0], row[1])

    def node(self, number: int) -> Node:
        """One node. Raises ``StoreError``: there is none, or its text is gone."""
        found = next((node for node in self.family(number) if node.id == number), None)
        if found is None:
            raise StoreError(
                f"node {number}: its text below {self.store.artifacts.folder} is missing or damaged; the search will try it anew"
            )
        return found

    def decisions(self, numbers: Sequence[int]) -> dict[int, Any]:
        """What the policy saw and chose, by node."""
        with self._reading() as connection:
            rows = [row for number in numbers for row in connection.execute("SELECT id, decision FROM nodes WHERE id = ?", (number,))]
        return {number: json.loads(decision) for number, decision in rows}

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        path = self.store.path.resolve()
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot read {path}: {error}") from error
