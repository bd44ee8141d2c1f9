"""Candidates' texts as files addressed by their content: ``artifacts/ab/cd/abcd….txt``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kevolve.files import write_atomically


class ArtifactError(Exception):
    """An artifact that is not there, or whose content is not what its address says."""


def address(text: str) -> str:
    """The content address of ``text``: sha256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """A folder of texts by content address, two levels of folders deep."""

    folder: Path

    def path(self, sha256: str) -> Path:
        """Where the text with this address stands."""
        return self.folder / sha256[:2] / sha256[2:4] / f"{sha256}.txt"

    def put(self, text: str) -> str:
        """Keep ``text``; its address. Keeping a text twice writes it once; a damaged copy is mended."""
        sha256 = address(text)
        path = self.path(sha256)
        if not (path.exists() and path.stat().st_size == len(text.encode())):
            write_atomically(path, text)
        return sha256

    def holds(self, sha256: str, size: int | None) -> bool:
        """Whether the text is there and, where its size in bytes is known, whole as far as that tells; nothing is read."""
        try:
            found = self.path(sha256).stat().st_size
        except FileNotFoundError:
            return False
        return size in (None, found)

    def get(self, sha256: str) -> str:
        """The text with this address. Raises ``ArtifactError`` where it is missing or damaged."""
        path = self.path(sha256)
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError as error:
            raise ArtifactError(f"no artifact {sha256[:12]}: expected it at {path}") from error
        except UnicodeDecodeError as error:
            raise ArtifactError(f"damaged artifact {path}: expected UTF-8 text ({error})") from error
        if address(text) != sha256:
            raise ArtifactError(f"damaged artifact {path}: expected sha256 {sha256[:12]}, got {address(text)[:12]}")
        return text
