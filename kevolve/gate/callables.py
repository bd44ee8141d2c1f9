"""A kernel that is a callable of the user's own (``kernel="package.module:function"``): whether it changed, and how it was at a revision.

Its text is its module's, with every module of the repository that this one imports, and the sources of other languages beside and below
it. The old one is imported from a copy of the revision's whole tree, in a process that has not imported the new one.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from modulefinder import ModuleFinder
from pathlib import Path

from kevolve.evaluate.moved import Moved, is_own
from kevolve.gate.changes import Change, Kind, Old
from kevolve.gate.declared import spec_changed
from kevolve.gate.revision import Revision
from kevolve.search.accept import KernelFile
from kevolve.spec.spec import Spec

LANGUAGE = "python"
_NATIVE = frozenset((".c", ".cc", ".cpp", ".cu", ".cuh", ".cxx", ".h", ".hip", ".hpp", ".inl", ".metal", ".ptx"))
_ARCHIVE_S = 600.0


def callable_change(spec: Spec, revision: Revision) -> Change | None:
    """What became of the callable of ``spec``; None where its module is none of the repository's."""
    assert spec.kernel is not None
    below = [folder for folder in map(Path, filter(None, sys.path)) if is_own(folder.resolve(), revision.root)]
    module = spec.kernel.partition(":")[0]
    file = _file_of(module, below)
    if file is None:
        return None
    new = KernelFile(path=file, language=LANGUAGE)
    source = revision.text(revision.below(file))
    respecified = spec_changed(spec, revision)
    if source is None:
        return Change(kind=Kind.NEW, new=new, old=None, respecified=respecified)
    old = Old(path=revision.below(file), language=LANGUAGE, entry=spec.name, source=source)
    return Change(kind=_kind(module, file, below, revision), new=new, old=old, respecified=respecified)


def export(revision: Revision, folder: Path) -> Moved:
    """The revision's tree, copied to ``folder``, which does not exist yet. Raises ``OSError``, ``subprocess.SubprocessError``."""
    command = ["git", "-C", str(revision.root), "archive", "--format=tar", revision.commit]
    archive = subprocess.run(command, capture_output=True, timeout=_ARCHIVE_S, check=True).stdout
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return Moved(origin=revision.root, root=folder.resolve())


def _file_of(module: str, path: Sequence[Path]) -> Path | None:
    """The file of a module that is found below ``path``, without importing its packages."""
    folders = [str(folder) for folder in path]
    file = None
    for part in module.split("."):
        found = PathFinder.find_spec(part, folders)
        if found is None:
            return None
        folders = list(found.submodule_search_locations or ())
        file = found.origin
    return Path(file).resolve() if file is not None and file.endswith(".py") else None


def _kind(module: str, file: Path, path: Sequence[Path], revision: Revision) -> Kind:
    """The greatest of the differences that any of its files shows."""
    try:
        imported = _imported(module, path)
    except (ImportError, SyntaxError):  # who runs it will say so
        return Kind.CHANGED
    found = {_difference(each, revision) for each in {file, *imported, *_native(file.parent, revision)}}
    return next(kind for kind in (Kind.CHANGED, Kind.SAME, Kind.UNCHANGED) if kind in found)


def _imported(module: str, path: Sequence[Path]) -> set[Path]:
    """The files of a module, of its packages, and of all that they import from below ``path``. Raises ``ImportError``, ``SyntaxError``."""
    finder = ModuleFinder(path=[str(folder) for folder in path])
    finder.import_hook(module)
    files = (getattr(found, "__file__", None) for found in finder.modules.values())
    unread = (_file_of(name, path) for name in finder.badmodules)  # installed ones, and what is no Python at the moment
    return {Path(each).resolve() for each in files if each} | {each for each in unread if each is not None}


def _native(folder: Path, revision: Revision) -> Iterator[Path]:
    """Sources of other languages in a folder and below it, now and then."""
    below = revision.below(folder)
    then = (each for each in revision.files if each.is_relative_to(below))
    yield from (revision.root / each for each in (*revision.present(below), *then) if each.suffix in _NATIVE)


def _difference(file: Path, revision: Revision) -> Kind:
    """How a file compares with the revision's."""
    old = revision.text(revision.below(file))
    new = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
    if old == new:
        return Kind.UNCHANGED
    return Kind.SAME if file.suffix == ".py" and old is not None and new is not None and _syntax(old) == _syntax(new) else Kind.CHANGED


def _syntax(text: str) -> str:
    """A module's statements, comments and layout apart; its text where it is none."""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return text
