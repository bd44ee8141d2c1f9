"""The database's tables, as the current version has them; ``migrations.py`` brings older files here."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

VERSION = 2

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
