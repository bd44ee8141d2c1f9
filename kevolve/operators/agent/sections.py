"""Named parts of a prompt, each with a budget of tokens; what does not fit is cut where everybody sees it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

BYTES_A_TOKEN = 3.5  # English runs at about 4, kernel code at about 3: an estimate for budgets, never a bill
_HEAD = 0.6  # of what is kept at both ends
_FENCE = re.compile(r"^(`{3,}|~{3,})")


def estimate(text: str) -> int:
    """About how many tokens ``text`` is: its bytes over ``BYTES_A_TOKEN``, rounded up; no tokeniser is asked."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a prompt before it is fitted.

    ``keep``: which end stays when it is over ``budget`` (tokens): the head, or both (a compiler's output ends in what matters).
    ``rest``: how the reader gets at what was cut, in words.
    """

    name: str
    text: str
    budget: int
    keep: Literal["head", "both"] = "head"
    rest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A part as it is sent. ``tokens``: estimated; ``left_out``: tokens that were cut."""

    name: str
    text: str
    tokens: int
    budget: int
    left_out: int = 0


def fit(section: Section) -> Fitted:
    """The section within its budget."""
    text = section.text.strip("\n")
    fitted = cut(text, section.budget, keep=section.keep, rest=section.rest)
    left_out = 0 if fitted == text else max(0, estimate(text) - estimate(fitted))
    return Fitted(name=section.name, text=fitted, tokens=estimate(fitted), budget=section.budget, left_out=left_out)


def cut(text: str, budget: int, *, keep: Literal["head", "both"] = "head", rest: str = "") -> str:
    """``text`` where it holds at most ``budget`` tokens, else its beginning (or both ends) and a line that says what is missing."""
    if estimate(text) <= budget:
        return text
    lines = text.split("\n")
    room = max(0, budget - estimate(_mark(len(lines), estimate(text), budget, rest)) - 2)
    head = _taken(lines, int(room * _HEAD) if keep == "both" else room)
    tail = _taken(lines[len(head) :][::-1], room - estimate("\n".join(head)))[::-1] if keep == "both" else []
    missing = lines[len(head) : len(lines) - len(tail)]
    mark = _mark(len(missing), estimate("\n".join(missing)), budget, rest)
    closing = [] if tail else [fence for fence in [_open_fence(head)] if fence]
    return "\n".join([*head, *closing, mark, *tail])


def _mark(lines: int, tokens: int, budget: int, rest: str) -> str:
    return (
        f"[… {lines} line{'' if lines == 1 else 's'}, about {tokens} tokens, cut here to keep within {budget}{f'; {rest}' if rest else ''}]"
    )


def _taken(lines: Sequence[str], room: int) -> list[str]:
    """The first lines that fit into ``room`` tokens; of a line that alone is too long, its beginning."""
    taken: list[str] = []
    left = int(room * BYTES_A_TOKEN)
    for line in lines:
        size = len(line.encode("utf-8", "replace")) + 1
        if size > left:
            return taken if taken or left < 8 else [line.encode("utf-8", "replace")[: left - 4].decode("utf-8", "ignore") + " …"]
        taken.append(line)
        left -= size
    return taken


def _open_fence(lines: Sequence[str]) -> str:
    """The fence that ``lines`` open and never close, else nothing."""
    opened = ""
    for line in lines:
        match = _FENCE.match(line)
        if match is None:
            continue
        if not opened:
            opened = match[1]
        elif match[1].startswith(opened) and line.strip() == match[1]:
            opened = ""
    return opened


def fenced(text: str, info: str = "") -> str:
    """``text`` as a fenced block whose fence is longer than any run of backticks in it, so that no text closes it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{info}\n{text.rstrip(chr(10))}\n{fence}"


def one_line(text: str, most: int = 200) -> str:
    """``text`` on one line of at most ``most`` characters, without control characters: for headers, logs and lists."""
    plain = " ".join("".join(char if char.isprintable() or char.isspace() else " " for char in text).split())
    plain = plain.rstrip("\\").strip()  # a backslash at its end would join a comment to the next line
    return plain if len(plain) <= most else plain[: most - 1].rstrip("\\ ") + "…"
