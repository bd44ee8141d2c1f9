"""Steps from each version of the database to the next, run in one transaction when an older file is opened.

A released step never changes; a new version appends one. Version 1 had neither the ``artifacts`` table nor the policy's
``decision``; version 2 had no steps and knew nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

_V2_NODES = """
CREATE TABLE nodes_2 (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL REFERENCES runs (id), spec VARCHAR NOT NULL,
  spec_hash VARCHAR NOT NULL, target VARCHAR NOT NULL, language VARCHAR NOT NULL, operator VARCHAR NOT NULL,
  idea TEXT NOT NULL, family VARCHAR NOT NULL, knobs TEXT NOT NULL, memory VARCHAR NOT NULL,
  source_hash VARCHAR(64) NOT NULL REFERENCES artifacts (sha256), normal_hash VARCHAR(64) NOT NULL,
  status VARCHAR NOT NULL, stage VARCHAR NOT NULL, message TEXT NOT NULL, detail TEXT NOT NULL, fitness FLOAT NOT NULL,
  seconds FLOAT NOT NULL, created VARCHAR(32) NOT NULL, decision TEXT NOT NULL
)"""
_COLUMNS = (
    "id, run, spec, spec_hash, target, language, operator, idea, family, knobs, memory, source_hash, normal_hash, "
    "status, stage, message, detail, fitness, seconds, created"
)


def _to_2(connection: Connection) -> None:
    """Register artifacts in a table and keep the policy's decisions (older nodes: an empty one)."""
    for statement in (
        "CREATE TABLE artifacts (sha256 VARCHAR(64) NOT NULL PRIMARY KEY, created VARCHAR(32) NOT NULL)",
        "INSERT INTO artifacts (sha256, created) SELECT source_hash, min(created) FROM nodes GROUP BY source_hash",
        _V2_NODES,
        f"INSERT INTO nodes_2 ({_COLUMNS}, decision) SELECT {_COLUMNS}, '{{}}' FROM nodes",
        "DROP TABLE nodes",
        "ALTER TABLE nodes_2 RENAME TO nodes",
        "CREATE INDEX nodes_of_spec ON nodes (spec, target, spec_hash)",
    ):
        connection.execute(text(statement))


_V3_NODES = """
CREATE TABLE nodes_3 (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL REFERENCES runs (id), spec VARCHAR NOT NULL,
  spec_hash VARCHAR NOT NULL, target VARCHAR NOT NULL, language VARCHAR NOT NULL, operator VARCHAR NOT NULL,
  idea TEXT NOT NULL, family VARCHAR NOT NULL, knobs TEXT NOT NULL, memory VARCHAR NOT NULL,
  source_hash VARCHAR(64) NOT NULL REFERENCES artifacts (sha256), normal_hash VARCHAR(64) NOT NULL,
  status VARCHAR NOT NULL, stage VARCHAR NOT NULL, message TEXT NOT NULL, detail TEXT NOT NULL, fitness FLOAT NOT NULL,
  seconds FLOAT NOT NULL, created VARCHAR(32) NOT NULL, decision TEXT NOT NULL, model VARCHAR NOT NULL, hypothesis TEXT NOT NULL,
  predicted_gain FLOAT, usage TEXT NOT NULL, propose_seconds FLOAT NOT NULL, transcript_hash VARCHAR(64), problem TEXT NOT NULL,
  step INTEGER NOT NULL
)"""
_V3_SEARCHES = """
CREATE TABLE searches (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL REFERENCES runs (id), spec VARCHAR NOT NULL,
  spec_hash VARCHAR NOT NULL, target VARCHAR NOT NULL, policy VARCHAR NOT NULL, seed INTEGER NOT NULL, about TEXT NOT NULL,
  seconds FLOAT NOT NULL, started VARCHAR(32) NOT NULL, ended VARCHAR(32), reason TEXT NOT NULL
)"""
_V3_STEPS = """
CREATE TABLE steps (
  search INTEGER NOT NULL REFERENCES searches (id), number INTEGER NOT NULL, state VARCHAR NOT NULL, parents TEXT NOT NULL,
  memory VARCHAR NOT NULL, operator VARCHAR NOT NULL, model VARCHAR NOT NULL, language VARCHAR NOT NULL, seed INTEGER NOT NULL,
  most TEXT NOT NULL, decision TEXT NOT NULL, proposal VARCHAR(64), node INTEGER REFERENCES nodes (id), proposed INTEGER, done INTEGER,
  PRIMARY KEY (search, number)
)"""


def _to_3(connection: Connection) -> None:
    """Steps, and what a proposal cost and predicted (older nodes: nothing, no model wrote them)."""
    for statement in (
        "ALTER TABLE artifacts ADD COLUMN bytes INTEGER",
        _V3_SEARCHES,
        "CREATE INDEX searches_of_spec ON searches (spec, target)",
        _V3_NODES,
        f"INSERT INTO nodes_3 SELECT {_COLUMNS}, decision, '', '', NULL, '{{}}', 0.0, NULL, '', 0 FROM nodes",
        "DROP TABLE nodes",
        "ALTER TABLE nodes_3 RENAME TO nodes",
        "CREATE INDEX nodes_of_spec ON nodes (spec, target, spec_hash)",
        _V3_STEPS,
        "CREATE INDEX steps_by_node ON steps (node)",
    ):
        connection.execute(text(statement))


STEPS: dict[int, Callable[[Connection], None]] = {1: _to_2, 2: _to_3}  # by the version they start from


def migrate(connection: Connection, version: int, wanted: int) -> None:
    """Bring the tables from ``version`` to ``wanted``. The caller holds the transaction, with foreign keys not enforced."""
    for step in range(version, wanted):
        STEPS[step](connection)
    connection.execute(text("UPDATE schema_version SET version = :version"), {"version": wanted})
