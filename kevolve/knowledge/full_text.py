"""Documents in SQLite's full-text index (FTS5), ranked by bm25, kept in a file by the hash of what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from kevolve.knowledge.documents import Document
from kevolve.knowledge.excerpt import words_of

_SCHEMA = "5"
# bm25's weights, found with the facets' (`library`): a word of the title says most.
_TITLE, _TERMS, _FACETS, _TEXT = 8.0, 1.0, 0.5, 1.0
_MOST_WORDS = 96
# Said in almost every document or every message: they rank nothing.
_STOP = frozenset(
    """
    a about after again all also an and any are as at be been before but by can case cases did do does each every for
    from get got had has have here how if in into is it its kernel kernels less line many may more most must no nor not
    of off on one only or other out over own same see so some such than that the their them then there these they this
    those through to too two under until up use used using very was were what when where which while who why will with
    would you your
    """.split()
)


class FullText:
    """The index over ``documents``. Thread-safe."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database, self._lock = database, threading.Lock()
        rows = database.execute("SELECT rowid, document FROM documents ORDER BY rowid").fetchall()
        self.documents: Mapping[int, Document] = {number: _decoded(text) for number, text in rows}

    def ranked(self, query: str) -> list[tuple[int, float]]:
        """Row numbers and scores, above 0, best first, of the documents that match a query of FTS5."""
        if not query:
            return []
        weights = f"{_TITLE}, {_TERMS}, {_FACETS}, {_TEXT}"
        statement = f"SELECT rowid, -bm25(texts, {weights}) FROM texts WHERE texts MATCH ? ORDER BY 2 DESC, rowid"
        with self._lock:
            return [(int(number), float(score)) for number, score in self._database.execute(statement, (query,))]


def query(words: str, facets: Sequence[str] = ()) -> str:
    """FTS5's query for any of ``words`` and of ``facets``; a facet that is named twice counts twice."""
    wanted = [word for word in dict.fromkeys(words_of(words)) if word not in _STOP and len(word) > 1][:_MOST_WORDS]
    texts = f"({{title terms text}} : ({' OR '.join(_quoted(word) for word in wanted)}))" if wanted else ""
    named = f"({{facets}} : ({' OR '.join(_quoted(facet) for facet in facets)}))" if facets else ""
    return " OR ".join(part for part in (texts, named) if part)


def facet(kind: str, value: str) -> str:
    """One word for one value of a field: ``xfbottleneckmemory``. Letters and digits only, or the tokeniser would cut it."""
    return "xf" + "".join(filter(str.isalnum, f"{kind}{value}".lower()))


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def facets_of(document: Document) -> list[str]:
    """A document's facets: what its front matter names."""
    fields = {
        "vendor": document.vendor,
        "family": document.families,
        "bottleneck": document.bottlenecks,
        "phase": document.phases,
        "folder": (document.id.rpartition("/")[0],),
    }
    return [facet(kind, value) for kind, values in fields.items() for value in values]


def open_index(content_hash: str, documents: Callable[[], Iterable[Document]], cache: Path | None) -> FullText:
    """The index kept in ``cache`` under ``content_hash``, or one over ``documents()`` (in memory without a cache)."""
    if cache is None:
        return FullText(_filled(sqlite3.connect(":memory:", check_same_thread=False), documents()))
    path = cache / f"knowledge-{content_hash}.sqlite"
    if not path.exists():
        _write(path, documents())
    try:
        return FullText(sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False))
    except sqlite3.DatabaseError:  # a file that is none any more: a disk that was full, a copy cut short
        _write(path, documents())
        return FullText(sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False))


def content_hash(files: Iterable[tuple[str, bytes]]) -> str:
    """Of names and contents, and of how this module indexes them."""
    digest = hashlib.sha256(f"{_SCHEMA} {[field.name for field in fields(Document)]}".encode())
    for name, content in files:
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:24]


def _write(path: Path, documents: Iterable[Document]) -> None:
    """Atomically; indexes of former contents go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    part.unlink(missing_ok=True)
    _filled(sqlite3.connect(part), documents).close()
    part.replace(path)


def _filled(database: sqlite3.Connection, documents: Iterable[Document]) -> sqlite3.Connection:
    database.execute("CREATE TABLE documents (document TEXT)")
    database.execute("CREATE VIRTUAL TABLE texts USING fts5(title, terms, facets, text, tokenize = 'porter unicode61')")
    for number, document in enumerate(documents, 1):
        database.execute("INSERT INTO documents (rowid, document) VALUES (?, ?)", (number, json.dumps(asdict(document), default=str)))
        terms = " ".join((document.id.replace("/", " ").replace("-", " "), *document.bottlenecks, *document.families, document.topic))
        row = (number, document.title, terms, " ".join(facets_of(document)), document.text)
        database.execute("INSERT INTO texts (rowid, title, terms, facets, text) VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    return database


def _decoded(text: str) -> Document:
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()}
    return Document(**read)
