"""What a run's models may look up: our documents with a user's, and the diagnosis by which they are chosen; or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kevolve.operators.agent.bench import Knowledge

OFF = "none"  # in place of a folder: `--kevolve-knowledge none`


class UnusableKnowledge(Exception):
    """Documents that cannot be read; the message says which and why."""


def retrieval(folders: Sequence[Path], cache: Path | None) -> tuple[Knowledge | None, Callable[..., Any] | None]:
    """The library over ``folders`` and the function that diagnoses a step; both None where a folder is called ``none``.

    ``cache``: where the library keeps its index. Raises ``UnusableKnowledge`` for a folder or a document that is none.
    """
    if any(folder.name == OFF and not folder.exists() for folder in folders):
        return None, None
    bad: type[Exception] = import_module("kevolve.knowledge.documents").BadDocument
    try:
        library: Knowledge = import_module("kevolve.knowledge.library").Library(tuple(folders), cache=cache)
    except (OSError, bad) as error:
        raise UnusableKnowledge(f"--kevolve-knowledge: {error}") from error
    diagnose: Callable[..., Any] = import_module("kevolve.knowledge.diagnosis").diagnose
    return library, diagnose
