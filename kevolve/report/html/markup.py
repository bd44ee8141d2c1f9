"""Text to markup. Everything that a record holds is hostile here: names, messages, sources and prompts may be a model's or a kernel's.

``visible`` is what every text passes through: the templates' environment applies it to each expression, ``tag`` to each child and
attribute. It shows what a browser would hide or act upon (NUL, terminal escapes, marks that reverse the direction of reading).
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup, escape

from kevolve.report.text import shorten

LONGEST_TEXT = 100_000  # characters of one text; what is longer is cut and says so
LONGEST_NAME = 120
# Controls but newline and tab, format characters, line separators, halves of surrogate pairs, tags.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible(text: str, limit: int = LONGEST_TEXT) -> str:
    """``text`` with what cannot be seen written out (``␛``, ``⟨U+202E⟩``), cut to about ``limit`` characters."""
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit:,} more characters are in the record)"
    return _UNSEEN.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def lines(text: str) -> list[str]:
    """The lines of ``text`` as an editor counts them; ``splitlines`` would break, and so hide, more characters than that."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def safe(value: Any) -> Any:
    """What an expression of a template becomes before it is escaped; nothing for None."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element. ``class_`` is the attribute ``class``, ``stroke_width`` is ``stroke-width``; None leaves an attribute out."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Any) -> Markup:
    """Markup of parts one after the other, each escaped where it is none."""
    return Markup("").join(escape(safe(part)) for part in parts)


def percent(share: float) -> str:
    """``0.1234`` as ``12.3%``: positions that follow the width of the page."""
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def name(text: str, width: int = LONGEST_NAME) -> Markup:
    """A name that may break after underscores and slashes, cut in its middle to ``width`` characters."""
    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(visible(shorten(text, width))))))


def _value(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else escape(safe(value))


def anchor(name: str, taken: set[str]) -> str:
    """An id of letters, digits and hyphens that is not ``taken`` yet; it is taken then."""
    base = f"k-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')[:60]}"
    found, number = base, 2
    while found in taken:
        found, number = f"{base}-{number}", number + 1
    taken.add(found)
    return found
