"""How kernels are written and built: one module a language, registered under ``kevolve.languages``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

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


class Ahead(Protocol):
    """Inside it a candidate's launches are compiled instead of launched; in a child that holds no device."""

    timed: bool  # set while the entry runs on a case that will be timed
    item: int  # which of the inputs it runs on

    def fake(self, dtype: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> Any:
        """A tensor without contents to call the entry with; ``strides`` and ``offset`` in elements."""
        ...

    def finish(self, timeout_s: float, told: Callable[[], object]) -> None:
        """Wait for the compiler, ``timeout_s`` at the most before nothing more is begun. ``told``: called as each kernel is done."""
        ...

    def problems(self) -> list[str]:
        """Why launches would fail: what the compiler refused."""
        ...

    def disturbances(self) -> list[str]:
        """What kept the compiler from its work and is no fault of the kernels."""
        ...

    def archive(self) -> bytes:
        """What was compiled, for ``keep``."""
        ...

    def launches(self) -> list[tuple[int, str, str]]:
        """In order: the item, and the name and the archive's folder of the kernel that it launched."""
        ...

    @property
    def count(self) -> int:
        """How many specialisations were compiled."""
        ...

    @property
    def skipped(self) -> int:
        """How many were left to their first launch."""
        ...


@runtime_checkable
class CompilesAhead(Protocol):
    """What a language provides besides where kernels are specialised as they are launched, and can be compiled before that.

    ``ahead`` runs in the worker, the others in the judge; ``Language.load`` finds what was kept beside its artifact.
    """

    def ahead(self, arch: str, *, jobs: int, folder: Path) -> AbstractContextManager[Ahead]:
        """The context for architecture ``arch`` (``"sm90"``), ``jobs`` compilations at a time, into ``folder``."""
        ...

    def keep(self, artifact: Path, key: str, arch: str, archive: bytes) -> Mapping[str, float]:
        """Keep what a child compiled beside ``artifact`` under ``key``, and say what it needs. Raises ``BuildError`` on a forged one."""
        ...

    def kept(self, artifact: Path, key: str, arch: str) -> Mapping[str, float] | None:
        """What ``keep`` said of this ``key``, or None where nothing is kept."""
        ...


class Counts(Protocol):
    """What was counted of one call since the last ``take``."""

    def take(self) -> dict[str, int]:
        """Figures by name (``bytes_loaded``, ``flops`` …), and begin anew."""
        ...


@runtime_checkable
class Inspected(Protocol):
    """What a language provides besides whose kernels can be compared without a device, by figures that are the same every time.

    ``counting`` runs in the worker, on a target that interprets its kernels; ``inspected`` in the judge.
    """

    portable: Sequence[str]  # architectures that it compiles for besides those of the target

    def inspected(self, archive: bytes, arch: str) -> Mapping[str, Mapping[str, float]]:
        """By folder of an ``Ahead.archive``, figures by name. Raises ``BuildError`` on a forged one."""
        ...

    def counting(self) -> AbstractContextManager[Counts]:
        """Inside it calls are counted."""
        ...


@runtime_checkable
class Listed(Protocol):
    """What a language provides besides whose built kernels say something of themselves: its machine code is listed, not run."""

    def listed(self, artifact: Path) -> Mapping[str, float]:
        """Figures by name. Raises ``BuildError`` where it cannot be listed here, and why."""
        ...


@runtime_checkable
class BuildsFor(Protocol):
    """What a language provides besides whose compiler needs no device to build for one."""

    def build_for(self, source: str, *, arch: str, cache: Path, timeout_s: float) -> Built:
        """As ``Language.build``, for a named architecture (``"sm90"``). Raises ``BuildError``."""
        ...


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
