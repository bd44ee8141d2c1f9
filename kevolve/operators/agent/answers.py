"""What a model's plain reply says: one fenced block with the kernel or its edits, and lines that name what is expected of it.

The text is somebody else's: it is read with patterns and never run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from kevolve.operators.agent.edits import MOST_CHARACTERS, Edit
from kevolve.operators.agent.sections import one_line

EDIT = "edit"
_OPENS = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_SEARCH, _MIDDLE, _REPLACE = re.compile(r"^<{5,9} ?SEARCH\s*$"), re.compile(r"^={5,9}\s*$"), re.compile(r"^>{5,9} ?REPLACE\s*$")
_KEY = r"^[\s>*_#-]*(?P<key>hypothesis|predicted[ _-]gain|idea)[\s*_]*[:=][\s*_]*(?P<value>.*)$"
_LINE = re.compile(_KEY, re.IGNORECASE)
_NUMBER = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>%|x|×)?")
MOST_GAIN = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply as read. ``kernel`` or ``edits`` where ``problem`` is empty; ``predicted_gain`` is a factor over the parent."""

    kernel: str | None = None
    edits: tuple[Edit, ...] = ()
    hypothesis: str = ""
    predicted_gain: float | None = None
    idea: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    info: str
    text: str
    closed: bool


def read(text: str, *, words: frozenset[str], parses: Callable[[str], bool] = lambda source: True) -> Answer:
    """The answer that ``text`` holds. ``words``: info strings (lower case) of a block in the kernel's language.

    ``parses`` decides between several such blocks: quoted fragments have no entry function.
    """
    blocks, prose = _split(text)
    said = _said(prose)
    edits = [block for block in blocks if _word(block) == EDIT]
    kernels = [block for block in blocks if _word(block) in words] or [block for block in blocks if not block.info]
    whole = kernels if len(kernels) < 2 else [block for block in kernels if parses(block.text)]
    try:
        if edits and not (whole and kernels):
            return replace(said, edits=tuple(edit for block in edits for edit in _edits(block)))
        if len(whole) == 1 and not edits:
            return replace(said, kernel=_kernel(whole[0]))
    except _Unusable as problem:
        return replace(said, problem=str(problem))
    found = f"{len(whole)} of them and {len(edits)} of edits" if edits else f"{len(whole)}" if kernels or not blocks else "others only"
    return replace(said, problem=f"expected one fenced block with the whole kernel, or `edit` blocks; got {found}")


def stated(text: str) -> Answer:
    """Only what the lines ``hypothesis:``, ``predicted gain:`` and ``idea:`` of ``text`` say."""
    return _said(_split(text)[1])


class _Unusable(Exception):
    """A block that cannot be taken; the message says why."""


def _kernel(block: _Block) -> str:
    if not block.closed:
        raise _Unusable("the block with the kernel is never closed: the reply ended before it did")
    if not block.text.strip():
        raise _Unusable("the block with the kernel is empty")
    if len(block.text) > MOST_CHARACTERS:
        raise _Unusable(f"the kernel has {len(block.text):,} characters; expected at most {MOST_CHARACTERS:,}")
    return block.text


def _split(text: str) -> tuple[list[_Block], list[str]]:
    """The fenced blocks, and the lines outside of them."""
    blocks: list[_Block] = []
    prose: list[str] = []
    fence, info, held = "", "", list[str]()
    for line in text.replace("\r\n", "\n").split("\n"):
        if not fence:
            opened = _OPENS.match(line)
            if opened is None:
                prose.append(line)
            else:
                fence, info, held = opened["fence"], opened["info"].strip(), []
        elif line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            blocks.append(_Block(info=info, text="\n".join([*held, ""]), closed=True))
            fence = ""
        else:
            held.append(line)
    if fence:
        blocks.append(_Block(info=info, text="\n".join([*held, ""]), closed=False))
    return blocks, prose


def _word(block: _Block) -> str:
    """The info string's first word: ``cpp``, ``edit``."""
    return re.split(r"[\s{,:]", block.info.lower(), maxsplit=1)[0] if block.info else ""


def _edits(block: _Block) -> Iterator[Edit]:
    """The edits between SEARCH, ======= and REPLACE markers. Raises ``_Unusable``."""
    state, held, search, count = "", list[str](), "", 0
    for number, line in enumerate(block.text.split("\n")[:-1], 1):
        if _SEARCH.match(line) and not state:
            state, held = "search", []
        elif _MIDDLE.match(line) and state == "search":
            state, search, held = "replace", "\n".join(held), []
        elif _REPLACE.match(line) and state == "replace":
            count += 1
            yield Edit(search=search, replace="\n".join(held))
            state = ""
        elif state:
            held.append(line)
        elif line.strip():
            raise _Unusable(
                f"the edit block's line {number} stands outside of <<<<<<< SEARCH … ======= … >>>>>>> REPLACE: {one_line(line, 80)!r}"
            )
    if state or not count or not block.closed:
        missing = {"search": "=======", "replace": ">>>>>>> REPLACE"}.get(state, "<<<<<<< SEARCH" if not count else "the closing fence")
        raise _Unusable(f"an edit block ends before its {missing}")


def _said(prose: Sequence[str]) -> Answer:
    """What the lines ``hypothesis:``, ``predicted gain:`` and ``idea:`` say; each goes on to the next empty line."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in prose:
        match = _LINE.match(line)
        if match is not None:
            key = re.sub(r"[ _-]", " ", match["key"].lower())
            current = found.setdefault(key, [])
            current.append(match["value"])
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line)
    hypothesis = one_line(" ".join(found.get("hypothesis", [])), 1_000)
    gain = gain_of(" ".join(found.get("predicted gain", [])))
    return Answer(hypothesis=hypothesis, predicted_gain=gain, idea=one_line(" ".join(found.get("idea", [])), 160))


def gain_of(said: object) -> float | None:
    """A predicted gain as a factor: ``1.3``, ``"1.3x"``, ``"about 30%"`` (1.3); None for what is none."""
    if isinstance(said, bool) or said is None:
        return None
    if isinstance(said, int | float):
        value = float(min(said, 2 * MOST_GAIN))  # an integer of JSON may be too large for a float
    else:
        match = _NUMBER.search(str(said)[:200])
        if match is None:
            return None
        value = float(match["number"])
        value = 1.0 + value / 100.0 if match["unit"] == "%" else value
    return value if math.isfinite(value) and 0.0 < value <= MOST_GAIN else None
