"""Foreign text (names of tests, paths, messages, models' words) made fit for Markdown and for GitHub's log.

In Markdown it stands in code spans and fences only: nothing in them is markup, a mention, a reference or a quick action.
"""

from __future__ import annotations

import re
import string

from kevolve.report import words

_LONGEST_RUN = re.compile(r"`+")
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in string.punctuation}
_COMMAND = re.compile(r"^(\s*):(:)", re.MULTILINE)


def span(text: str, most: int = 200) -> str:
    """``text`` in one line as inline code that is safe in a table's cell too; empty for none. Cut to ``most`` characters."""
    shown = words.line(text, most)
    if not shown:
        return ""
    if "|" in shown:  # parsers disagree on how a pipe is escaped inside of backticks: each sign as an entity leaves no doubt
        return f"<code>{shown.translate(_ENTITIES)}</code>"
    fence = "`" * (1 + max(map(len, _LONGEST_RUN.findall(shown)), default=0))
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def block(text: str, most: int = 4000, language: str = "") -> str:
    """``text`` as a fenced block, cut to ``most`` characters with a count of the rest. ``language``: ours, such as ``diff``."""
    shown = words.block(text)
    if len(shown) > most:
        shown = f"{shown[:most]}\n… {len(shown) - most:,} more characters"
    fence = "`" * max(3, 1 + max(map(len, _LONGEST_RUN.findall(shown)), default=0))
    return f"{fence}{language}\n{shown}\n{fence}"


def data(text: str) -> str:
    """The message of a GitHub workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def parameter(text: str) -> str:
    """A property of a GitHub workflow command."""
    return data(text).replace(":", "%3A").replace(",", "%2C")


def commandless(text: str) -> str:
    """Lines for a log in which GitHub's runner finds no workflow command: it takes ``::`` after blanks and ``##[`` anywhere for one."""
    lines = re.split(r"\r\n|\r|\n", text)
    return "\n".join(_COMMAND.sub(r"\1: \2", line) for line in lines).replace("##[", "# #[")
