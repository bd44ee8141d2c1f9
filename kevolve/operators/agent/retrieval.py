"""What a run's models may look up: our documents with a user's, and the diagnosis by which they are chosen; or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kevolve.operators.agent.bench import Knowledge

OFF = "none"  # in place of a folder: `--kevolve-knowledge none`


def retrieval(folders: Sequence[Path], cache: Path | None) -> tuple[Knowledge | None, Callable[..., Any] | None]:
    """The library over ``folders`` and the function that diagnoses a step; both None where a folder is called ``none``.

    ``cache``: where the library keeps its index. Raises what the library raises for a folder that is none.
    """
    if any(folder.name == OFF and not folder.exists() for folder in folders):
        return None, None
    library: Knowledge = import_module("kevolve.knowledge.library").Library(tuple(folders), cache=cache)
    diagnose: Callable[..., Any] = import_module("kevolve.knowledge.diagnosis").diagnose
    return library, diagnose
