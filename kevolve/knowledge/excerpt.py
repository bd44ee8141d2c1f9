"""The part of a document that answers a query, within a number of tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence

from kevolve.knowledge.documents import estimated_tokens

_WORD = re.compile(r"[a-z0-9_]+")
_LEFT_OUT = "[…]"


def words_of(text: str) -> list[str]:
    """The words as the index sees them: lower case, cut at anything but letters, digits and underscores."""
    return _WORD.findall(text.lower())


def excerpt(text: str, wanted: Collection[str], tokens: int) -> str:
    """``text`` where it fits, else its best sections in their order; of one that is too long by itself, its beginning."""
    if estimated_tokens(text) <= tokens:
        return text.strip()
    parts = sections(text)
    ranked = sorted(range(len(parts)), key=lambda number: (-_worth(parts[number], wanted), number))
    chosen: set[int] = set()
    left = tokens
    for number in ranked:
        cost = estimated_tokens(parts[number]) + estimated_tokens(_LEFT_OUT)
        if cost <= left:
            chosen.add(number)
            left -= cost
    if not chosen:
        return _beginning(parts[ranked[0]], tokens)
    return _joined(parts, sorted(chosen))


def sections(text: str) -> list[str]:
    """The text cut before its headings; a heading inside a fenced block is code."""
    parts: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("#") and not fenced and any(parts[-1]):
            parts.append([])
        parts[-1].append(line)
    return ["\n".join(part).strip() for part in parts]


def _worth(part: str, wanted: Collection[str]) -> float:
    """How many of the wanted words it has, long sections discounted: they have some of everything."""
    found = words_of(part)
    return len(set(found) & set(wanted)) / math.sqrt(8 + math.sqrt(len(found)))


def _joined(parts: Sequence[str], chosen: Sequence[int]) -> str:
    pieces, last = [], -1
    for number in chosen:
        pieces += [_LEFT_OUT] if number != last + 1 else []
        pieces.append(parts[number])
        last = number
    return "\n\n".join([*pieces, _LEFT_OUT] if last != len(parts) - 1 else pieces)


def _beginning(part: str, tokens: int) -> str:
    """As many whole lines as fit; a fenced block that is cut is closed."""
    kept: list[str] = []
    for line in part.splitlines():
        if estimated_tokens("\n".join([*kept, line])) > tokens - 4:
            break
        kept.append(line)
    opened = sum(line.lstrip().startswith("```") for line in kept) % 2
    return "\n".join([*kept, *(["```"] if opened else []), _LEFT_OUT])
