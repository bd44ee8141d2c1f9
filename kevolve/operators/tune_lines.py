"""Kernels of any origin that say what may be tuned: ``BLOCK = 1024  # tune: 512, 1024, 2048``.

A line assigns a number or a word to a name and lists in its comment what else it may be. Only these values are ever rewritten. In C++
and its kin ``constexpr int UNROLL = 4;  // tune: 2, 4, 8`` and ``#define UNROLL 4  // tune: 2, 4, 8``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kevolve.search.node import Proposal

PREFIX = "tune:"  # of such families' names
MOST_CHOICES = 64
_MOST_TOLD = 5
_NUMBER = re.compile(r"[+-]?(\d+|(\d+\.\d*|\.\d+)([eE][+-]?\d+)?|\d+[eE][+-]?\d+)")
_WORD = re.compile(r"""[A-Za-z_][\w.:]*|"[\w.:-]*"|'[\w.:-]*'""")
_TOKEN = rf"(?:{_NUMBER.pattern}|{_WORD.pattern})"
# the last assignment of a line, up to what may follow it: `x = 4`, `int x = 4;`, `x=4,`, `#define x 4`
_ASSIGNED = re.compile(rf"(?:\b(?P<name>\w+)\s*(?::[^=]*)?=|^\s*#\s*define\s+(?P<macro>\w+))\s*(?P<value>{_TOKEN})\s*[;,)]*\s*$")


class Written(Protocol):
    """What is asked of a language."""

    name: str
    comment: str

    def normalise(self, source: str) -> str:
        """The text without comments and layout."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One value that may be tuned. ``choices``: each value and how it is written; ``begin``, ``end``: where the present one stands."""

    number: int  # from 1
    name: str
    value: Any
    choices: Mapping[Any, str]
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A kernel with lines that may be tuned, as ``tuning`` takes it. ``name`` is the same for every setting of its lines."""

    name: str
    language: str
    source: str
    lines: tuple[Line, ...]

    @property
    def knobs(self) -> Mapping[str, tuple[Any, ...]]:
        """Each line's choices, in the order in which they are written."""
        return {line.name: tuple(line.choices) for line in self.lines}

    @property
    def setting(self) -> dict[str, Any]:
        """The present values."""
        return {line.name: line.value for line in self.lines}

    def proposal(self, knobs: Mapping[str, Any], *, operator: str, parents: tuple[int, ...] = (), memory: str = "parent") -> Proposal:
        """The same kernel with other values. Raises ``KeyError`` on a value that its line does not offer."""
        written = ", ".join(f"{name} {value}" for name, value in knobs.items())
        return Proposal(
            language=self.language,
            source=rewritten(self.source, self.lines, knobs),
            operator=operator,
            idea=f"the same kernel with {written}",
            parents=parents,
            family=self.name,
            knobs=dict(knobs),
            memory=memory,
        )


def marked(source: str, language: Written) -> Marked | None:
    """The kernel as a family, or None where no line of it may be tuned."""
    if PREFIX not in source:
        return None
    lines = tuple(line for line in _read(source, language.comment) if isinstance(line, Line))
    if not lines:
        return None
    first = rewritten(source, lines, {line.name: next(iter(line.choices)) for line in lines})
    choices = [[line.name, list(line.choices.values())] for line in lines]
    digest = hashlib.sha256(json.dumps([language.name, language.normalise(first), choices]).encode()).hexdigest()
    return Marked(name=PREFIX + digest[:16], language=language.name, source=source, lines=lines)


def problems(source: str, language: Written) -> list[str]:
    """Why lines that say ``tune:`` are ignored, a sentence each; for whoever wrote them."""
    if PREFIX not in source:
        return []
    return [line for line in _read(source, language.comment) if isinstance(line, str)]


def warning(source: str, language: Written) -> str:
    """The same as one text for a model; empty where every marked line can be used."""
    found = problems(source, language)
    more = [f"and {len(found) - _MOST_TOLD} more"] if len(found) > _MOST_TOLD else []
    return "\n".join([f"Warning: lines marked `{PREFIX}` that no tuner can use:", *found[:_MOST_TOLD], *more]) if found else ""


def rewritten(source: str, lines: tuple[Line, ...], values: Mapping[str, Any]) -> str:
    """The source with the named values; everything else stays as it is. Raises ``KeyError`` on a value that is not offered."""
    for line in sorted(lines, key=lambda line: -line.begin):
        if line.name in values:
            source = source[: line.begin] + line.choices[values[line.name]] + source[line.end :]
    return source


def _read(source: str, comment: str) -> Iterator[Line | str]:
    """Each line that says ``tune:``, or why it is ignored."""
    begin, seen = 0, set[str]()
    for number, text in enumerate(source.splitlines(keepends=True), 1):
        code, found, listed = _parted(text.rstrip("\r\n"), comment)
        if found:
            line = _line(number, begin, code, listed)
            if isinstance(line, Line) and line.name in seen:
                line = f"line {number}: {line.name} has a line already; give each value a name of its own"
            elif isinstance(line, Line):
                seen.add(line.name)
            yield line
        begin += len(text)


def _parted(text: str, comment: str) -> tuple[str, bool, str]:
    """The code before the comment, whether that says ``tune:``, and what it lists."""
    match = re.search(rf"{re.escape(comment)}\s*{PREFIX}(.*)$", text)
    return (text[: match.start()], True, match.group(1)) if match else (text, False, "")


def _line(number: int, begin: int, code: str, listed: str) -> Line | str:
    assigned = _ASSIGNED.search(code)
    if assigned is None:
        return f"line {number}: expected NAME = VALUE before {PREFIX}, one number or word; got {code.strip() or 'nothing'!r}"
    name = assigned["name"] or assigned["macro"]
    texts = [text.strip() for text in listed.split(",")]
    odd = [text for text in texts if not (_NUMBER.fullmatch(text) or _WORD.fullmatch(text))]
    if odd:
        return f"line {number}: {name}: expected numbers and words between commas, got {odd[0]!r}"
    choices: dict[Any, str] = {}
    for text in texts:
        choices.setdefault(_value(text), text)
    if not 2 <= len(choices) <= MOST_CHOICES:
        return f"line {number}: {name}: expected 2 to {MOST_CHOICES} different values, got {len(choices)}"
    value = _value(assigned["value"])
    if value not in choices:
        return f"line {number}: {name}: expected its value {assigned['value']} among those listed ({', '.join(texts)})"
    return Line(
        number=number, name=name, value=value, choices=choices, begin=begin + assigned.start("value"), end=begin + assigned.end("value")
    )


def _value(text: str) -> Any:
    if not _NUMBER.fullmatch(text):
        return text
    try:
        return int(text)
    except ValueError:
        return float(text)
