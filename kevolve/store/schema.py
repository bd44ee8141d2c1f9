"""The database's tables, as the current version has them; ``migrations.py`` brings older files here."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

VERSION = 3

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("started", String(32), nullable=False),  # ISO 8601, UTC
    Column("arguments", Text, nullable=False),  # JSON
    Column("environment", Text, nullable=False),  # JSON
    sqlite_autoincrement=True,
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("created", String(32), nullable=False),
    Column("bytes", Integer),  # of its UTF-8 text; unknown for those of older versions
)

searches = Table(  # one search of a run for one spec on one target
    "searches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", Integer, ForeignKey("runs.id"), nullable=False),
    Column("spec", String, nullable=False),
    Column("spec_hash", String, nullable=False),
    Column("target", String, nullable=False),
    Column("policy", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("about", Text, nullable=False),  # JSON: what a search for another spec must know to begin from this one's kernels
    Column("seconds", Float, nullable=False),  # spent so far, over all its processes
    Column("started", String(32), nullable=False),
    Column("ended", String(32)),  # None: it runs, or was killed
    Column("reason", Text, nullable=False),
    Index("searches_of_spec", "spec", "target"),
    sqlite_autoincrement=True,
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", Integer, ForeignKey("runs.id"), nullable=False),
    Column("spec", String, nullable=False),
    Column("spec_hash", String, nullable=False),
    Column("target", String, nullable=False),
    Column("language", String, nullable=False),
    Column("operator", String, nullable=False),
    Column("idea", Text, nullable=False),
    Column("family", String, nullable=False),
    Column("knobs", Text, nullable=False),  # JSON
    Column("memory", String, nullable=False),
    Column("source_hash", String(64), ForeignKey("artifacts.sha256"), nullable=False),
    Column("normal_hash", String(64), nullable=False),
    Column("status", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Column("fitness", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("created", String(32), nullable=False),
    Column("decision", Text, nullable=False),  # JSON: what the policy saw and chose, so that a run can be replayed
    Column("model", String, nullable=False),
    Column("hypothesis", Text, nullable=False),
    Column("predicted_gain", Float),
    Column("usage", Text, nullable=False),  # JSON: tokens by kind, dollars
    Column("propose_seconds", Float, nullable=False),
    Column("transcript_hash", String(64)),
    Column("problem", Text, nullable=False),
    Column("step", Integer, nullable=False),  # its number within its search; 0 for nodes of older versions
    Index("nodes_of_spec", "spec", "target", "spec_hash"),
    sqlite_autoincrement=True,
)

edges = Table(
    "edges",
    metadata,
    Column("parent", Integer, ForeignKey("nodes.id"), primary_key=True),
    Column("child", Integer, ForeignKey("nodes.id"), primary_key=True),
    Column("position", Integer, nullable=False),  # among the child's parents
    Index("edges_by_child", "child"),
)

steps = Table(
    "steps",
    metadata,
    Column("search", Integer, ForeignKey("searches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String, nullable=False),  # asked | proposed | done | dropped
    Column("parents", Text, nullable=False),  # JSON, as the policy chose them
    Column("memory", String, nullable=False),
    Column("operator", String, nullable=False),
    Column("model", String, nullable=False),
    Column("language", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("most", Text, nullable=False),  # JSON: what it may spend
    Column("decision", Text, nullable=False),  # JSON
    Column("proposal", String(64)),  # an artifact: the candidate as JSON, once there is one
    Column("node", Integer, ForeignKey("nodes.id")),
    # The order in which the search heard of things: it decided the rest, so that a replay must keep it.
    Column("proposed", Integer),
    Column("done", Integer),
    Index("steps_by_node", "node"),
)
