"""Exact search and replace: what an edit does to a text, and why one does not apply."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

MOST_CHARACTERS = 400_000  # of a kernel; generated text has been seen to repeat itself for ever
_SHOWN = 2  # nearest places
_COMPARED, _LINE = 5_000, 200  # lines, and characters of each, that are compared to find them


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Put ``replace`` in the one place where ``search`` stands."""

    search: str
    replace: str


class EditFailed(Exception):
    """An edit that does not apply; the message is written for its author."""


def apply(source: str, edits: Sequence[Edit]) -> str:
    """``source`` after ``edits``, one after the other. Raises ``EditFailed``: then none is applied."""
    for number, edit in enumerate(edits, 1):
        which = f"edit {number} of {len(edits)}: " if len(edits) > 1 else ""
        source = _applied(source, edit, which)
        if len(source) > MOST_CHARACTERS:
            raise EditFailed(f"{which}the kernel would have {len(source):,} characters; expected at most {MOST_CHARACTERS:,}")
    return source


def _applied(source: str, edit: Edit, which: str) -> str:
    if not edit.search.strip():
        raise EditFailed(f"{which}the text to search for is empty; to write a whole new kernel, send the whole file")
    if edit.search == edit.replace:
        raise EditFailed(f"{which}the replacement is the same as the text that it replaces")
    places = _places(source, edit.search)
    if not places:
        nearest = _nearest(source, edit.search)
        raise EditFailed(f"{which}not found: the text to search for stands nowhere in the kernel, character for character.{nearest}")
    if len(places) > 1:
        lines = ", ".join(str(source.count("\n", 0, place) + 1) for place in places[:8])
        raise EditFailed(
            f"{which}found {len(places)} times (lines {lines}); expected once: take in more of the lines around the place that you mean"
        )
    return source[: places[0]] + edit.replace + source[places[0] + len(edit.search) :]


def _places(source: str, wanted: str) -> list[int]:
    """Where ``wanted`` begins, overlapping occurrences too."""
    found: list[int] = []
    at = source.find(wanted)
    while at != -1:
        found.append(at)
        at = source.find(wanted, at + 1)
    return found


def _nearest(source: str, wanted: str) -> str:
    """The lines of ``source`` most like the first line of ``wanted``, as they stand, with as many after them."""
    lines = source.splitlines()
    sought = wanted.strip("\n").splitlines()
    first = next((line.strip() for line in sought if line.strip()), "")[:_LINE]
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(first)
    scored: list[tuple[float, int]] = []
    for number, line in enumerate(lines[:_COMPARED]):
        matcher.set_seq1(line.strip()[:_LINE])
        if matcher.real_quick_ratio() > 0.6 and matcher.quick_ratio() > 0.6 and (ratio := matcher.ratio()) > 0.6:
            scored.append((ratio, number))
    best = sorted(scored, key=lambda item: (-item[0], item[1]))[:_SHOWN]
    if not best:
        return " No line is like its first line: read the kernel as it is now before the next edit."
    height = min(len(sought), 12)
    shown = "\n".join(f"--- line {number + 1}\n" + "\n".join(lines[number : number + height]) for _, number in best)
    return f" The nearest lines, as they stand:\n{shown}"
