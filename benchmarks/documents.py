"""Generated parts of documents, between markers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def put(path: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``. Raises ``ValueError`` where there are no markers."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    made, found = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", path.read_text(), flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"{path}: expected {begin} and {end} once, found them {found} times")
    path.write_text(made)


def command(module: str, arguments: Sequence[str]) -> str:
    """How a document was made: the command line, absolute paths by their last name."""
    shown = (Path(given).name if given.startswith("/") else given for given in arguments)
    return " ".join(["python", "-m", module, *(f'"{given}"' if " " in given else given for given in shown)])
