"""What a valid kernel looks like in a language, for whoever writes one: a Markdown file a language, under ``guides/``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kevolve.languages import Language

GUIDES = Path(__file__).with_name("guides")
_UNKNOWN = """\
A kernel is one `{suffix}` file; comments begin with `{comment}`. No guide to the language {name} is installed: go by the kernels that
you are shown.
"""


def guide(language: Language) -> str:
    """The rules of ``language``: its own ``guide`` (a text) where the language has one, else ``guides/<name>.md``."""
    own = getattr(language, "guide", None)
    if isinstance(own, str):
        return own
    file = GUIDES / f"{language.name}.md"
    if file.exists():
        return file.read_text(encoding="utf-8")
    return _UNKNOWN.format(name=language.name, suffix=language.suffix, comment=language.comment)
