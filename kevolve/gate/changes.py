"""What became of a spec's kernel since a revision: the file that was the kernel then, beside the one that is it now."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kevolve import registry
from kevolve.gate.declared import spec_changed
from kevolve.gate.revision import Revision
from kevolve.languages import Language
from kevolve.search.accept import KernelFile, choose, folder_of, parse
from kevolve.spec.spec import Spec

_FOLDER = "kernels"


class Kind(enum.Enum):
    """How a kernel compares with the revision's, by its text alone."""

    UNCHANGED = "unchanged"
    SAME = "same"  # comments and layout apart
    CHANGED = "changed"
    RENAMED = "renamed"
    NEW = "new"
    BASELINE = "baseline"  # the revision has no kernel of the target at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """The kernel at the revision. ``path``: below the repository's root; ``entry``: its entry function's name."""

    path: Path
    language: str
    entry: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One spec's kernel then and now. ``respecified``: the spec or its reference says something else than then."""

    kind: Kind
    new: KernelFile
    old: Old | None
    respecified: bool

    @property
    def idle(self) -> bool:
        """Whether nothing that is tested has changed."""
        return self.kind in (Kind.UNCHANGED, Kind.SAME) and not self.respecified


def change(
    spec: Spec, new: KernelFile, revision: Revision, *, target: str, arches: Sequence[str | None], languages: Sequence[Language]
) -> Change:
    """Find what ``new`` was at ``revision``: the file that a run would have taken there, else the one it was renamed from."""
    old = _chosen(spec, revision, target, arches, languages) or _renamed(new, revision, target, languages)
    respecified = spec_changed(spec, revision)
    if old is None:
        kind = Kind.NEW if any(kernels(revision.files, target, languages)) else Kind.BASELINE
        return Change(kind=kind, new=new, old=None, respecified=respecified)
    return Change(kind=_kind(new, old, revision), new=new, old=old, respecified=respecified)


def _kind(new: KernelFile, old: Old, revision: Revision) -> Kind:
    language: Language = registry.load("languages", new.language)
    if old.path.parent != revision.below(new.path.parent):
        return Kind.RENAMED
    if old.language != new.language:
        return Kind.CHANGED
    if new.source == old.source:
        return Kind.UNCHANGED
    return Kind.SAME if language.normalise(new.source) == language.normalise(old.source) else Kind.CHANGED


def _chosen(spec: Spec, revision: Revision, target: str, arches: Sequence[str | None], languages: Sequence[Language]) -> Old | None:
    folder = revision.below(folder_of(spec))
    names = [path.name for path in revision.files if path.parent == folder]
    chosen = next(filter(None, (choose(names, target, arch, languages) for arch in arches)), None)
    return None if chosen is None else _old(revision, folder / chosen[0], chosen[1])


def _renamed(new: KernelFile, revision: Revision, target: str, languages: Sequence[Language]) -> Old | None:
    """From where it came: as git says, or a kernel that is gone and has the same text (git does not look at untracked files)."""
    language: Language = registry.load("languages", new.language)
    path = revision.renames.get(revision.below(new.path))
    if path is None:
        gone = removed(revision, target, languages)
        path = next((each for each in gone if each.suffix == new.path.suffix and revision.text(each) == new.source), None)
    return None if path is None or parse(path.name, target, language) is None else _old(revision, path, language)


def _old(revision: Revision, path: Path, language: Language) -> Old:
    return Old(path=path, language=language.name, entry=path.parent.name, source=revision.text(path) or "")


def removed(revision: Revision, target: str, languages: Sequence[Language]) -> list[Path]:
    """The revision's kernels of ``target`` that the working tree no longer has, below the root."""
    return [path for path in kernels(revision.files, target, languages) if not (revision.root / path).exists()]


def kernels(files: Iterable[Path], target: str, languages: Sequence[Language]) -> list[Path]:
    """Those of ``files`` that are kernels of ``target`` by their place and name."""
    return sorted(path for path in files if _is_kernel(path, target, languages))


def _is_kernel(path: Path, target: str, languages: Sequence[Language]) -> bool:
    if len(path.parts) < 3 or path.parts[-3] != _FOLDER:
        return False
    return any((parsed := parse(path.name, target, language)) is not None and parsed[1] is None for language in languages)
