"""One Markdown document with front matter, and a tree of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kevolve import registry
from kevolve.knowledge.terms import ANY, ARCHITECTURES, BOTTLENECKS, EVIDENCE, FAMILIES, KINDS, PHASES, TOPICS, VENDORS

OURS = Path(__file__).parent / "documents"
INDEX = "index.md"  # generated, and no document
_FENCE = "---"
_BYTES_A_TOKEN = 4  # about what tokenisers make of English and code


class BadDocument(Exception):
    """A document that cannot be used; the message names the file, the field or line, what was expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document. ``id``: its path below its tree without ``.md``; empty scopes mean all; ``tokens``: of ``text``, estimated.

    ``provenance``: what a written-back skill says of where it comes from (``skills.py``); empty otherwise.
    """

    id: str
    title: str
    vendor: tuple[str, ...]  # empty: any
    architectures: tuple[str, ...]
    languages: tuple[str, ...]
    families: tuple[str, ...]
    topic: str
    bottlenecks: tuple[str, ...]
    phases: tuple[str, ...]
    source: tuple[str, ...]
    evidence: str
    text: str  # without the front matter
    tokens: int
    provenance: Mapping[str, Any]


def estimated_tokens(text: str) -> int:
    """About as many tokens as a model's tokeniser would make of ``text``."""
    return -(-len(text.encode()) // _BYTES_A_TOKEN)


class _Known(NamedTuple):
    """What a tree may name besides the fixed words: vendors and languages that it has folders for, or that are registered."""

    vendors: tuple[str, ...]
    languages: tuple[str, ...]


def read_tree(folder: Path, *, below: str = "") -> list[Document]:
    """The documents of a tree in the order of their ids, which begin with ``below``.

    Raises ``BadDocument`` for the first one that is none, ``FileNotFoundError`` where there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of documents: {folder}")
    known = _known(folder)
    return [parse(path.read_text(encoding="utf-8"), path, identifier(path, folder, below), known) for path in files(folder)]


def files(folder: Path) -> list[Path]:
    """The Markdown files of a tree that are documents, sorted; index and README files are none."""
    found = (path for path in folder.rglob("*.md") if path.name not in (INDEX, "README.md"))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def identifier(path: Path, folder: Path, below: str = "") -> str:
    """``samples/reduction/row-triton``."""
    return below + path.relative_to(folder).with_suffix("").as_posix()


def parse(text: str, path: Path, id: str, known: _Known | None = None) -> Document:
    """The document in ``text``. Raises ``BadDocument``; ``path`` is what its message names."""
    head, body = _split(text, path)
    fields = _fields(head, path)
    return _document(_Front(fields, _lines(head), path), id, body, known or _known(OURS))


def _known(folder: Path) -> _Known:
    vendors, languages = _folders(folder / "hardware"), _folders(folder / "languages")
    return _Known(
        tuple(dict.fromkeys((*VENDORS, *vendors))), tuple(dict.fromkeys((*_own_languages(), *registry.names("languages"), *languages)))
    )


@cache
def _own_languages() -> tuple[str, ...]:
    return _folders(OURS / "languages")


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()


# --- front matter ---


def _split(text: str, path: Path) -> tuple[str, str]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != _FENCE:
        raise BadDocument(
            f"{path}:1: expected front matter, a line {_FENCE!r} first, got {lines[0][:60]!r}" if lines else f"{path}: is empty"
        )
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE), None)
    if end is None:
        raise BadDocument(f"{path}: the front matter has no end: expected a second line {_FENCE!r}")
    body = "\n".join(lines[end + 1 :]).strip()
    if not body:
        raise BadDocument(f"{path}:{end + 1}: expected a text below the front matter, got none")
    return "\n".join(lines[1:end]), body + "\n"


def _fields(head: str, path: Path) -> dict[str, Any]:
    import yaml

    try:
        fields = yaml.load(head, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the C one where PyYAML has it: ten times as fast
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 2}" if mark is not None else ""
        raise BadDocument(f"{path}{line}: the front matter is no YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(fields, dict):
        raise BadDocument(f"{path}:2: expected `name: value` lines as front matter, got {type(fields).__name__}")
    return {str(name): value for name, value in fields.items()}


def _lines(head: str) -> dict[str, int]:
    """The file's line of each field."""
    return {line.partition(":")[0].strip(): number for number, line in enumerate(head.splitlines(), 2) if line[:1].strip()}


class _Front:
    """Front matter being read: every complaint names the file, the line and the field."""

    def __init__(self, fields: Mapping[str, Any], lines: Mapping[str, int], path: Path) -> None:
        self._fields, self._numbers, self._path = fields, lines, path

    def wrong(self, name: str, expected: str) -> BadDocument:
        """The error for a field's value."""
        line = f":{self._numbers[name]}" if name in self._numbers else ""
        got = repr(self._fields[name]) if name in self._fields else "nothing"
        return BadDocument(f"{self._path}{line}: {name}: expected {expected}, got {got:.200}")

    def text(self, name: str) -> str:
        """A line of text that must be there."""
        value = self._fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "a line of text")
        return value.strip()

    def one_of(self, name: str, words: Sequence[str]) -> str:
        """One of ``words``, which must be there."""
        value = self._fields.get(name)
        if value not in words:
            raise self.wrong(name, f"one of {', '.join(words)}")
        return str(value)

    def texts(self, name: str, allowed: Sequence[str] | Callable[[str], bool] | None, expected: str = "") -> tuple[str, ...]:
        """A list of texts, or one text; empty where the field is absent."""
        value = self._fields.get(name, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise self.wrong(name, "a list of words")
        fits = (lambda _: True) if allowed is None else allowed if callable(allowed) else allowed.__contains__
        if not all(fits(item) for item in values):
            raise self.wrong(name, expected or f"of {', '.join(allowed)}" if not callable(allowed) and allowed else expected)
        return tuple(values)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Fields below a field; empty where it is absent."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, "`name: value` lines below it")
        return value

    def unknown(self, names: Sequence[str]) -> Iterator[str]:
        """Fields that are none of ``names``."""
        return (name for name in self._fields if name not in names)


_NAMES = "title vendor architectures languages families topic bottlenecks phases source evidence provenance".split()


def _document(front: _Front, id: str, body: str, known: _Known) -> Document:
    for name in front.unknown(_NAMES):
        raise front.wrong(name, f"no field of this name, but {', '.join(_NAMES)}")
    kind = id.split("/")[0]
    if kind not in KINDS:
        raise BadDocument(f"{front._path}: expected its first folder to be one of {', '.join(KINDS)}, got {kind!r}")
    vendor = front.texts("vendor", (ANY, *known.vendors))
    vendor = () if ANY in vendor else vendor
    sources = front.texts("source", None)
    if not sources:
        raise front.wrong("source", "where it is from: a public address, or what measured it")
    return Document(
        id=id,
        title=front.text("title"),
        vendor=vendor,
        architectures=_architectures(front, vendor),
        languages=front.texts("languages", known.languages),
        families=front.texts("families", FAMILIES),
        topic=front.one_of("topic", TOPICS),
        bottlenecks=front.texts("bottlenecks", BOTTLENECKS),
        phases=front.texts("phases", PHASES),
        source=sources,
        evidence=front.one_of("evidence", EVIDENCE),
        text=body,
        tokens=estimated_tokens(body),
        provenance=front.mapping("provenance"),
    )


def _architectures(front: _Front, vendor: Sequence[str]) -> tuple[str, ...]:
    """Any word for a vendor that is not ours to know, else one of that vendor's generations."""
    if any(name not in VENDORS for name in vendor):
        return front.texts("architectures", None)
    ours = [name for maker in (vendor or VENDORS) for name in ARCHITECTURES[maker]]
    return front.texts("architectures", ours)
