"""How kernels are written and built: one module a language, registered under ``kevolve.languages``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kevolve.targets import Target


class BuildError(Exception):
    """The compiler refused; the message is its diagnostics, cut to what matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A built kernel: ``artifact`` is what ``load`` takes; ``resources`` what the compiler said of it (registers, spills…)."""

    artifact: Path
    seconds: float
    cached: bool = False
    diagnostics: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A kernel's functions inside the worker.

    ``call(*inputs) -> outputs`` as the reference. ``backward(*grad_outputs, *inputs) -> grads`` of the spec's ``grad=`` inputs in
    their order, where the file defines ``<entry>_backward``. ``prepare(*constants) -> replacements`` for the spec's
    ``constant=`` inputs, called once outside the timed window, where the file defines ``<entry>_prepare``.
    """

    call: Callable[..., Any]
    backward: Callable[..., Any] | None = None
    prepare: Callable[..., Any] | None = None


class Language(Protocol):
    """What a language module provides. ``parse``, ``policy``, ``normalise`` and ``build`` run in the judge, ``load`` in the worker.

    Where there is a ``begin(artifact)`` too, the worker calls it before it is confined, and ``load`` after: for a runtime that cannot
    begin in a confined process. It must run none of the candidate's code.
    """

    name: str
    suffix: str  # ".cpp"
    comment: str  # "//": begins a header line

    def missing(self) -> str | None:
        """None where kernels can be built here, else what is missing and the command that installs it."""
        ...

    def versions(self) -> Mapping[str, str]:
        """The toolchain, for the record and the build cache's key."""
        ...

    def parse(self, source: str, entry: str) -> str | None:
        """What is wrong with the text before any compiler runs (syntax, no such entry function), or None."""
        ...

    def policy(self, source: str, allow: Sequence[str]) -> str | None:
        """What the text may not do (shell, raw assembler, library wrappers not in ``allow``), or None."""
        ...

    def normalise(self, source: str) -> str:
        """The text without comments and layout: equal texts are duplicates."""
        ...

    def build(self, source: str, *, entry: str, target: Target, cache: Path, timeout_s: float) -> Built:
        """Build, or find it in ``cache`` (a folder) by source, options and toolchain. Thread-safe. Raises ``BuildError``."""
        ...

    def load(self, artifact: Path, *, entry: str, target: Target) -> Loaded:
        """Load what ``build`` left. In the worker only: this runs the candidate's code."""
        ...
