"""What is judged: a kernel's text and what its build left, or a callable that exists already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kevolve.evaluate.moved import Moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One kernel to judge. ``artifact`` is what ``Language.build`` left; ``callable``, instead, is ``"package.module:function"``.

    ``moved``: the callable is another text's, an older one.
    """

    name: str  # "rms_norm/cpu.cpp": what messages call it
    language: str
    entry: str  # the entry function's name
    source: str | None = None
    artifact: Path | None = None
    callable: str | None = None
    moved: Moved | None = None
    resources: Mapping[str, float] = field(default_factory=dict)  # registers, spill_bytes, shared_bytes, occupancy: what compilers said
    remarks: str = ""  # what compilers warned of, and of several kernels what each needs
    ahead: str = ""  # what was compiled before a device was held, and what could not be

    @property
    def imported(self) -> dict[str, Any]:
        """What a process is told to load a callable."""
        return {"path": self.callable, **({} if self.moved is None else {"moved": self.moved.to_json()})}

    @property
    def said(self) -> dict[str, Any]:
        """What an outcome's ``detail`` holds of these."""
        said = {"resources": dict(self.resources), "remarks": self.remarks, "ahead": self.ahead}
        return {name: value for name, value in said.items() if value}
