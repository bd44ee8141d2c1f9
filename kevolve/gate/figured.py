"""Static figures of the old and the new text, as far as they can be had: what moved, and what grew too much."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kevolve import registry
from kevolve.evaluate.client import ChildFailed, ServerFailed, Workers
from kevolve.gate import messages
from kevolve.gate.changes import Change
from kevolve.languages import BuildError, Language
from kevolve.report.record import Figure
from kevolve.spec.spec import Spec
from kevolve.targets import Target

_MODULE = "kevolve.gate.static"


class Compare(Protocol):
    """What gives the figures of both texts, each with its allowance, and which of them are beyond it."""

    def compare(
        self,
        spec: Spec,
        language: Language,
        old: str,
        new: str,
        *,
        target: Target,
        workers: Workers,
        cache: Path,
        jobs: int,
        arches: Sequence[str] | None = None,
    ) -> tuple[Figure, ...]:
        """Figures of both texts. ``arches``: those to compile for; None: all that the target names."""
        ...

    def fails(self, figures: Sequence[Figure]) -> tuple[Figure, ...]:
        """Those beyond their allowance, the worst first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Figured:
    """Every figure, those beyond their allowance, and in words what moved or why there are none."""

    figures: tuple[Figure, ...] = ()
    beyond: tuple[Figure, ...] = ()
    cause: str = ""


def available() -> Compare | None:
    """What compares static figures in this installation, or None."""
    try:
        found: Compare = importlib.import_module(_MODULE)
    except ModuleNotFoundError as error:
        if error.name != _MODULE:
            raise
        return None
    return found


def figured(compare: Compare | None, spec: Spec, found: Change, *, target: Target, workers: Workers, cache: Path, jobs: int) -> Figured:
    """The figures of a changed kernel; none, with the reason, where there cannot be any."""
    if compare is None or found.old is None:
        return Figured(cause=messages.NO_FIGURES)
    if spec.kernel is not None:
        return Figured(cause=f"{messages.NO_FIGURES}: {spec.kernel} is a callable")
    if found.old.language != found.new.language:
        return Figured(cause=f"{messages.NO_FIGURES}: {found.old.language} before, {found.new.language} now")
    if found.old.entry != spec.name:
        return Figured(cause=f"{messages.NO_FIGURES}: its entry function was {found.old.entry}")
    language: Language = registry.load("languages", found.new.language)
    arches = None if found.new.arch is None else (found.new.arch,)  # a kernel of one architecture need not compile for others
    try:
        figures = compare.compare(
            spec, language, found.old.source, found.new.source, target=target, workers=workers, cache=cache, jobs=jobs, arches=arches
        )
    except (BuildError, ChildFailed, ServerFailed) as error:
        return Figured(cause=f"{messages.NO_FIGURES}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    if not any(figure.old or figure.new for figure in figures):  # neither text compiles or runs where that was tried: nothing was compared
        return Figured(cause=f"{messages.NO_FIGURES}{': neither text compiles or runs' if figures else ''}")
    return Figured(figures=figures, beyond=compare.fails(figures), cause=messages.cause(figures))
