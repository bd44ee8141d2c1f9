"""Everything that is known, searched: our documents, a user's trees and the skills that former runs left."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from kevolve.knowledge import full_text
from kevolve.knowledge.diagnosis import Diagnosis
from kevolve.knowledge.documents import OURS, Document, files, identifier, read_tree
from kevolve.knowledge.excerpt import excerpt, words_of
from kevolve.knowledge.scope import Scope, admits
from kevolve.knowledge.standing import standing

SKILLS = "skills/"
EXCERPT_TOKENS = 700
# How often a facet of the query is named, found by trying on recorded outcomes (docs/knowledge.md): a diagnosis's first bottleneck
# matters most; then the phase, and what is written for the operator's first family.
_BOTTLENECKS = (4, 2, 1)
_FAMILY, _SAMPLES, _VENDOR, _PHASE = 2, 1, 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A document that answers a query. ``score``: higher is better, comparable within one answer only."""

    document: Document
    score: float
    excerpt: str


class UnknownDocument(KeyError):
    """An id that no document has; the message names near ones."""

    def __str__(self) -> str:
        return str(self.args[0])


class Library:
    """Our documents, those of ``folders`` and the skills below ``skills`` (``knowledge/skills`` of a user's repository).

    A later tree's document stands in place of an earlier one of the same id. ``cache``: the folder in which the index is kept, by
    the content of all documents; None: made anew in memory. ``today``: by which skills age (``standing``). Thread-safe.
    Raises ``BadDocument`` for a document that is none, ``FileNotFoundError`` for a folder that is not there.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (),
        *,
        cache: Path | None = None,
        skills: Path | None = None,
        today: date | None = None,
        ours: Path = OURS,
    ) -> None:
        missing = next((folder for folder in folders if not folder.is_dir()), None)
        if missing is not None:
            raise FileNotFoundError(f"no folder of documents: {missing}")
        self._today = today
        self._trees = [(ours, ""), *((folder, "") for folder in folders)]
        if skills is not None and skills.is_dir():
            self._trees.append((skills, SKILLS))
        self._index = full_text.open_index(full_text.content_hash(self._contents()), self._read, cache)

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        for folder, below in self._trees:
            for path in files(folder):
                yield f"{folder}\0{identifier(path, folder, below)}", path.read_bytes()

    def _read(self) -> list[Document]:
        found = {document.id: document for folder, below in self._trees for document in read_tree(folder, below=below)}
        return [found[id] for id in sorted(found)]

    @cached_property
    def documents(self) -> Mapping[str, Document]:
        """All, by id."""
        return {document.id: document for document in self._index.documents.values()}

    def search(self, wanted: Diagnosis | str, *, limit: int = 5, tokens: int = EXCERPT_TOKENS) -> list[Found]:
        """The documents that a diagnosis (or plain words) asks for, best first, each with an excerpt of at most ``tokens`` tokens."""
        if isinstance(wanted, str):
            return self.find(wanted, limit=limit, tokens=tokens)
        scope = scope_of(wanted)
        return self._found(wanted.words, _facets(wanted.bottlenecks, scope), scope, limit, tokens)

    def find(self, words: str, *, scope: Scope | Diagnosis | None = None, limit: int = 5, tokens: int = EXCERPT_TOKENS) -> list[Found]:
        """The documents that ``words`` are found in, of ``scope`` or of all: a model's own search. It asks in whatever phase it is."""
        asked = scope_of(scope) if isinstance(scope, Diagnosis) else scope or Scope()
        anytime = Scope(vendor=asked.vendor, architectures=asked.architectures, language=asked.language)
        return self._found(words, (), anytime, limit, tokens)

    def read(self, id: str) -> Document:
        """The document ``id``. Raises ``UnknownDocument``."""
        if id not in self.documents:
            near = difflib.get_close_matches(id, self.documents, n=3, cutoff=0.4)
            raise UnknownDocument(f"no document {id!r}: " + (f"perhaps {', '.join(near)}" if near else "search for one by its words"))
        return self.documents[id]

    def _found(self, words: str, facets: Sequence[str], scope: Scope, limit: int, tokens: int) -> list[Found]:
        ranked = self._index.ranked(full_text.query(words, facets))
        admitted = [(self._index.documents[number], score) for number, score in ranked if admits(self._index.documents[number], scope)]
        scored = sorted(
            ((document, score * standing(document.provenance, self._today)) for document, score in admitted), key=lambda item: -item[1]
        )
        wanted = set(words_of(words))
        return [Found(document=document, score=score, excerpt=excerpt(document.text, wanted, tokens)) for document, score in scored[:limit]]


def scope_of(diagnosis: Diagnosis) -> Scope:
    """What a diagnosis's documents must be for."""
    architectures = diagnosis.architectures or ((diagnosis.arch,) if diagnosis.arch else ())
    return Scope(
        vendor=diagnosis.vendor,
        architectures=architectures,
        language=diagnosis.language,
        families=diagnosis.families,
        phase=diagnosis.phase,
    )


def _facets(bottlenecks: Sequence[str], scope: Scope) -> list[str]:
    weighted = [(full_text.facet("bottleneck", name), weight) for name, weight in zip(bottlenecks, _BOTTLENECKS, strict=False)]
    weighted += [(full_text.facet("family", name), _FAMILY) for name in scope.families[:1]]
    weighted += [(full_text.facet("folder", f"samples/{name}"), _SAMPLES) for name in scope.families]
    weighted += [(full_text.facet("vendor", scope.vendor), _VENDOR)] if scope.vendor else []
    weighted += [(full_text.facet("phase", scope.phase), _PHASE)] if scope.phase else []
    return [name for name, weight in weighted for _ in range(weight)]
