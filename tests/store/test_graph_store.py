"""The graph store: what is inserted is there, whatever happens next."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Usage
from kevolve.search.node import Proposal
from kevolve.store import schema
from kevolve.store.artifacts import ArtifactError, Artifacts, address
from kevolve.store.graph_store import GraphStore, StoreError

NOW = "2026-01-02T03:04:05.000+00:00"

VERSION_1 = f"""
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (1);
CREATE TABLE runs (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, uuid VARCHAR(36) NOT NULL UNIQUE, started VARCHAR(32) NOT NULL,
  arguments TEXT NOT NULL, environment TEXT NOT NULL);
CREATE TABLE nodes (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL REFERENCES runs (id), spec VARCHAR NOT NULL,
  spec_hash VARCHAR NOT NULL, target VARCHAR NOT NULL, language VARCHAR NOT NULL, operator VARCHAR NOT NULL, idea TEXT NOT NULL,
  family VARCHAR NOT NULL, knobs TEXT NOT NULL, memory VARCHAR NOT NULL, source_hash VARCHAR(64) NOT NULL,
  normal_hash VARCHAR(64) NOT NULL, status VARCHAR NOT NULL, stage VARCHAR NOT NULL, message TEXT NOT NULL, detail TEXT NOT NULL,
  fitness FLOAT NOT NULL, seconds FLOAT NOT NULL, created VARCHAR(32) NOT NULL);
CREATE INDEX nodes_of_spec ON nodes (spec, target, spec_hash);
CREATE TABLE edges (parent INTEGER NOT NULL REFERENCES nodes (id), child INTEGER NOT NULL REFERENCES nodes (id),
  position INTEGER NOT NULL, PRIMARY KEY (parent, child));
CREATE INDEX edges_by_child ON edges (child);
INSERT INTO runs VALUES (1, 'a-b-c', '{NOW}', '["suites"]', '{{"name": "laptop"}}');
INSERT INTO nodes VALUES
  (1, 1, 's', 'h', 'cpu', 'cpp', 'samples', 'first', 'f', '{{"grain": 4}}', 'parent', '{address("one")}', 'n1', 'PASSED', 'quick', '',
   '{{}}', 1.5, 2.0, '{NOW}'),
  (2, 1, 's', 'h', 'cpu', 'cpp', 'tuning', 'second', 'f', '{{"grain": 8}}', 'parent', '{address("two")}', 'n2', 'TIMEOUT', 'smoke', 'slow',
   '{{"a": 1}}', 0.0, 3.0, '{NOW}'),
  (3, 1, 's', 'h', 'cpu', 'cpp', 'tuning', 'third', 'f', '{{}}', 'parent', '{address("one")}', 'n1', 'PASSED', 'duplicate', '', '{{}}',
   1.5, 0.0, '{NOW}');
INSERT INTO edges VALUES (1, 2, 0), (1, 3, 0), (2, 3, 1);
"""


@pytest.fixture
def store(tmp_path: Path):
    with GraphStore(tmp_path / ".kevolve", now=lambda: NOW) as opened:
        yield opened


def proposal(source: str = "int x;", **fields) -> Proposal:
    return Proposal(**dict(language="cpp", source=source, operator="samples", idea="an idea", family="f", knobs={"grain": 4}) | fields)


def add(store: GraphStore, run: int, source: str = "int x;", **fields):
    values = dict(run=run, spec="s", spec_hash="h", target="cpu", proposal=proposal(source), normal_hash=address(source))
    values |= dict(outcome=Outcome(status=Status.PASSED, stage=Stage.QUICK, detail={"worst": [1]}), fitness=1.5, seconds=0.25)
    return store.add(**values | fields)


def test_a_node_comes_back_as_it_was_inserted(store):
    run = store.start_run(arguments=["suites", "--kevolve-optimize"], environment={"name": "laptop"})
    first = add(store, run, "one")
    second = add(store, run, "two", proposal=proposal("two", parents=(first.id,)))
    third = add(store, run, "three", proposal=proposal("three", parents=(second.id, first.id)))
    assert store.nodes("s", "cpu") == [first, second, third]
    assert third.proposal.parents == (2, 1)
    assert first.source_hash == address("one")
    assert store.source(first.source_hash) == "one"


def test_runs_have_an_identity_of_their_own(store):
    store.start_run(arguments=["a"], environment={"name": "laptop"})
    store.start_run(arguments=["b"], environment={})
    first, second = store.runs()
    assert (first["started"], first["arguments"], first["environment"]) == (NOW, ["a"], {"name": "laptop"})
    assert first["uuid"] != second["uuid"]


def test_nodes_are_told_apart_by_spec_target_and_spec_hash(store):
    run = store.start_run(arguments=[], environment={})
    kept = add(store, run, "one")
    add(store, run, "two", spec="t")
    add(store, run, "three", target="cuda")
    old = add(store, run, "four", spec_hash="older")
    assert store.nodes("s", "cpu", spec_hash="h") == [kept]
    assert store.nodes("s", "cpu") == [kept, old]


def test_an_unknown_parent_inserts_nothing(store):
    run = store.start_run(arguments=[], environment={})
    with pytest.raises(Exception, match="FOREIGN KEY"):
        add(store, run, "one", proposal=proposal("one", parents=(77,)))
    assert store.nodes("s", "cpu") == []
    assert add(store, run, "two").id == 1


def test_the_folder_ignores_itself_in_git_and_the_log_is_write_ahead(store):
    assert (store.folder / ".gitignore").read_text().splitlines()[-1] == "*"
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_processes_share_one_file(store):
    run = store.start_run(arguments=[], environment={})
    add(store, run, "one")
    with GraphStore(store.folder) as other:
        add(other, run, "two")
        assert [node.proposal.source for node in other.nodes("s", "cpu")] == ["one", "two"]
    assert [node.id for node in store.nodes("s", "cpu")] == [1, 2]


def test_equal_texts_are_one_artifact(store):
    run = store.start_run(arguments=[], environment={})
    add(store, run, "one")
    add(store, run, "one")
    assert len(list((store.folder / "artifacts").rglob("*.txt"))) == 1


def test_a_node_whose_artifact_is_damaged_is_left_out(store):
    run = store.start_run(arguments=[], environment={})
    add(store, run, "one")
    kept = add(store, run, "two")
    store.artifacts.path(address("one")).write_text("else")
    assert store.nodes("s", "cpu") == [kept]


def test_an_artifact_says_what_is_wrong_with_it(tmp_path):
    artifacts = Artifacts(folder=tmp_path)
    sha256 = artifacts.put("text\r\n")
    assert artifacts.path(sha256) == tmp_path / sha256[:2] / sha256[2:4] / f"{sha256}.txt"
    assert artifacts.get(sha256) == "text\r\n"
    artifacts.path(sha256).write_text("")
    with pytest.raises(ArtifactError, match="expected sha256"):
        artifacts.get(sha256)
    artifacts.put("text\r\n")
    assert artifacts.get(sha256) == "text\r\n"
    with pytest.raises(ArtifactError, match="expected it at"):
        artifacts.get("0" * 64)


def test_a_version_1_file_migrates_without_losing_a_row(tmp_path):
    artifacts = Artifacts(folder=tmp_path / "artifacts")
    artifacts.put("one")
    artifacts.put("two")
    with sqlite3.connect(tmp_path / "kevolve.db") as connection:
        connection.executescript(VERSION_1)
    connection.close()
    with GraphStore(tmp_path) as store:
        nodes = store.nodes("s", "cpu")
        assert [(node.id, node.proposal.parents, node.proposal.source) for node in nodes] == [
            (1, (), "one"),
            (2, (1,), "two"),
            (3, (1, 2), "one"),
        ]
        assert nodes[1].outcome == Outcome(status=Status.TIMEOUT, stage=Stage.SMOKE, message="slow", detail={"a": 1})
        assert (nodes[0].fitness, nodes[0].seconds, nodes[0].proposal.knobs) == (1.5, 2.0, {"grain": 4})
        assert store.runs()[0]["uuid"] == "a-b-c"
        assert add(store, 1, "three", proposal=proposal("three", parents=(3,))).id == 4
    with GraphStore(tmp_path) as again:
        assert len(again.nodes("s", "cpu")) == 4


def shape(folder: Path) -> dict[str, object]:
    """Columns, foreign keys and indexes of an opened store's file."""
    with GraphStore(folder):
        pass
    connection = sqlite3.connect(folder / "kevolve.db")
    ask = connection.execute
    found: dict[str, object] = {
        "indexes": sorted(ask("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall())
    }
    for table in schema.metadata.tables:
        found[table] = ask(f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')").fetchall()
        found[f"{table} keys"] = sorted(ask(f'SELECT "from", "table", "to" FROM pragma_foreign_key_list(\'{table}\')').fetchall())
    assert ask("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    return found


def test_a_migrated_file_has_the_tables_of_a_new_one(tmp_path):
    (tmp_path / "old").mkdir()
    with sqlite3.connect(tmp_path / "old" / "kevolve.db") as connection:
        connection.executescript(VERSION_1)
    connection.close()
    assert shape(tmp_path / "old") == shape(tmp_path / "new")


def test_a_failed_migration_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    from kevolve.store import migrations

    with sqlite3.connect(tmp_path / "kevolve.db") as connection:
        connection.executescript(VERSION_1)
    connection.close()

    def half(connection):
        connection.exec_driver_sql("DROP TABLE edges")
        raise RuntimeError("power cut")

    monkeypatch.setitem(migrations.STEPS, 1, half)
    with pytest.raises(RuntimeError, match="power cut"):
        GraphStore(tmp_path)
    monkeypatch.undo()
    Artifacts(folder=tmp_path / "artifacts").put("one")
    with GraphStore(tmp_path) as store:
        assert [node.proposal.parents for node in store.nodes("s", "cpu")] == [(), (1, 2)]


def test_a_newer_file_is_refused_with_what_to_do(store):
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(
        StoreError, match=r"written by a newer kevolve: expected schema version 3 or older, got 99; upgrade kevolve, or move"
    ):
        GraphStore(store.folder)


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but long enough to look like one" * 40, b"SQLite format 3\0" + b"\1" * 8000]
)
def test_a_corrupt_file_is_refused_and_kept(tmp_path, content):
    (tmp_path / "kevolve.db").write_bytes(content)
    with pytest.raises(StoreError, match="left as it is: move it aside"):
        GraphStore(tmp_path)
    assert (tmp_path / "kevolve.db").read_bytes() == content


def test_a_database_of_somebody_else_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "kevolve.db") as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="not a kevolve database: expected a table schema_version, got people"):
        GraphStore(tmp_path)


def test_a_closed_store_says_so(store):
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.nodes("s", "cpu")


def test_a_version_2_file_migrates_without_losing_a_row(tmp_path):
    from kevolve.store.migrations import _to_2

    artifacts = Artifacts(folder=tmp_path / "artifacts")
    artifacts.put("one")
    artifacts.put("two")
    engine = create_engine(f"sqlite:///{tmp_path / 'kevolve.db'}")
    with sqlite3.connect(tmp_path / "kevolve.db") as connection:
        connection.executescript(VERSION_1)
    connection.close()
    with engine.begin() as older:
        _to_2(older)
        older.execute(text("UPDATE schema_version SET version = 2"))
        older.execute(text("UPDATE nodes SET decision = '{\"asked\": 4}'"))
    engine.dispose()
    with GraphStore(tmp_path) as store:
        nodes = store.nodes("s", "cpu")
        assert [(node.id, node.proposal.parents, node.proposal.source, node.step) for node in nodes] == [
            (1, (), "one", 0),
            (2, (1,), "two", 0),
            (3, (1, 2), "one", 0),
        ]
        assert store.decision(2) == {"asked": 4}
        assert (nodes[0].proposal.model, nodes[0].proposal.usage, nodes[0].proposal.transcript) == ("", Usage(), "")
        assert store.searches() == []
        assert add(store, 1, "one").id == 4


def test_what_a_model_cost_and_predicted_comes_back(store):
    run = store.start_run(arguments=[], environment={})
    said = dict(model="one:a", hypothesis="fewer passes", predicted_gain=1.3, usage=Usage(input_tokens=5, usd=0.25), seconds=31.0)
    given = proposal("text", transcript='{"prompt": 1}', problem="the edit does not apply", memory="both", **said)
    node = add(store, run, proposal=given, normal_hash="unique")
    (read,) = store.nodes("s", "cpu")
    assert read == node
    assert {name: getattr(read.proposal, name) for name in said} == said
    assert (read.proposal.transcript, read.proposal.problem, read.proposal.memory) == ('{"prompt": 1}', "the edit does not apply", "both")


def test_texts_stay_on_disk_until_they_are_read(store, monkeypatch):
    run = store.start_run(arguments=[], environment={})
    for number in range(20):
        add(store, run, f"kernel {number}")
    read: list[str] = []
    with GraphStore(store.folder) as again:
        real = Artifacts.get
        monkeypatch.setattr(Artifacts, "get", lambda self, sha256: read.append(sha256) or real(self, sha256))
        nodes = again.nodes("s", "cpu")
        assert read == []
        assert nodes[7].proposal.source == "kernel 7"
    with pytest.raises(ArtifactError):
        store.source("0" * 64)


def test_a_node_holds_no_text_once_it_is_stored(store):
    run = store.start_run(arguments=[], environment={})
    node = add(store, run, "x" * 100_000)
    assert not any(isinstance(held, str) and len(held) > 1000 for held in vars(node.proposal).values())
    assert len(node.proposal.source) == 100_000
