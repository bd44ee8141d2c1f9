"""What is judged: a kernel's text and what its build left, or a callable that exists already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One kernel to judge. ``artifact`` is what ``Language.build`` left; ``callable``, instead, is ``"package.module:function"``."""

    name: str  # "rms_norm/cpu.cpp": what messages call it
    language: str
    entry: str  # the entry function's name
    source: str | None = None
    artifact: Path | None = None
    callable: str | None = None
