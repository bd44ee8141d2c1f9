"""What a run's models may look up: our documents with a user's, and the diagnosis by which they are chosen; or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from kevolve.operators.agent.bench import Knowledge

OFF = "none"  # in place of a folder: `--kevolve-knowledge none`


def is_off(folders: Sequence[Path]) -> bool:
    """Whether retrieval was switched off."""
    return any(folder.name == OFF and not folder.exists() for folder in folders)


class UnusableKnowledge(Exception):
    """Documents that cannot be read; the message says which and why."""


def retrieval(
    folders: Sequence[Path], cache: Path | None, *, skills: Path | None = None, today: date | None = None
) -> tuple[Knowledge | None, Callable[..., Any] | None]:
    """The library over ``folders`` and the function that diagnoses a step; both None where a folder is called ``none``.

    ``cache``: where the library keeps its index. ``skills``: what earlier runs wrote back, which counts for less the older it is
    (``today``). Raises ``UnusableKnowledge`` for a folder or a document that is none.
    """
    if is_off(folders):
        return None, None
    from kevolve.knowledge.diagnosis import diagnose
    from kevolve.knowledge.documents import BadDocument
    from kevolve.knowledge.library import Library

    try:
        return Library(tuple(folders), cache=cache, skills=skills, today=today), diagnose
    except (OSError, BadDocument) as error:
        raise UnusableKnowledge(f"--kevolve-knowledge: {error}") from error
