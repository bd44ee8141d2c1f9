"""Text that a model wrote, made fit to be shown: nothing in it moves the cursor, colours the screen or hides other text."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, what turns or hides text, surrogates, separators of lines


def line(text: str, most: int | None = None) -> str:
    """``text`` in one line, cut to ``most`` characters."""
    shown = "".join(_shown(character) for character in " ".join(text.split()))
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def block(text: str) -> str:
    """``text`` with its line ends and its tabs (as spaces)."""
    return "\n".join("".join(map(_shown, row)) for row in text.expandtabs(4).split("\n"))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
