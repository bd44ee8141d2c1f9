"""Kernel files beside the tests: finding the one for a target, and writing a new one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kevolve.files import write_atomically
from kevolve.languages import Language
from kevolve.search.header import Header, read, render
from kevolve.spec.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFile:
    """``kernels/<spec>/<target>[-<arch>][.<variant>].<ext>``. ``when``: the condition in a variant's header, in the author's words."""

    path: Path
    language: str
    arch: str | None = None
    variant: str | None = None
    when: str | None = None
    variants: tuple[KernelFile, ...] = ()  # specialised files beside this one

    @property
    def source(self) -> str:
        """The file's text."""
        return self.path.read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What acceptance wrote. ``diff`` (unified) only with ``review``; ``old`` is the file a review leaves in place."""

    path: Path
    diff: str | None = None
    old: Path | None = None


def folder_of(spec: Spec) -> Path:
    """Where a spec's kernels stand."""
    return spec.folder / "kernels" / spec.name


def find_kernel(spec: Spec, target: str, arch: str | None, languages: Sequence[Language]) -> KernelFile | None:
    """The kernel of ``spec`` for ``target``: the file for this very ``arch``, else the one for any; None where there is neither.

    A file for another arch is never chosen. Between files equally specific the first of ``languages`` wins. Variants (with a ``when:``
    line in their header) are listed in ``variants``: the plain file stands for the spec, and dispatch among them is its own affair.
    """
    found = list(_files(spec, target, languages))
    for wanted in dict.fromkeys((arch, None)):
        plain = [file for file in found if file.arch == wanted and file.variant is None]
        if plain:
            variants = tuple(file for file in found if file.variant is not None and file.arch in (None, arch))
            chosen = plain[0]
            return KernelFile(path=chosen.path, language=chosen.language, arch=chosen.arch, variants=variants)
    return None


def choose(names: Iterable[str], target: str, arch: str | None, languages: Sequence[Language]) -> tuple[str, Language] | None:
    """Which of a folder's file names ``find_kernel`` takes, and its language; None where it takes none."""
    parsed = [(name, language, parts) for language in languages for name in sorted(names) if (parts := parse(name, target, language))]
    for wanted in dict.fromkeys((arch, None)):
        for name, language, parts in parsed:
            if parts == (wanted, None):
                return name, language
    return None


def parse(name: str, target: str, language: Language) -> tuple[str | None, str | None] | None:
    """Architecture and variant that a kernel file's name says; None for any other file, and for one left for review."""
    pattern = rf"{re.escape(target)}(?:-(?P<arch>[^.]+))?(?:\.(?P<variant>[^.]+))?{re.escape(language.suffix)}"
    matched = re.fullmatch(pattern, name)
    return None if matched is None or matched["variant"] == "new" else (matched["arch"], matched["variant"])


def _files(spec: Spec, target: str, languages: Sequence[Language]) -> Iterator[KernelFile]:
    folder = folder_of(spec)
    for language in languages:
        for path in sorted(folder.glob(f"*{language.suffix}")):
            parts = parse(path.name, target, language)
            if parts is None:
                continue
            arch, variant = parts
            when = None
            if variant is not None:
                when = " ".join(read(path.read_text(encoding="utf-8"), language.comment).get("when", ())) or None
            yield KernelFile(path=path, language=language.name, arch=arch, variant=variant, when=when)


def accept(
    spec: Spec, target: str, language: Language, source: str, header: Header, *, idea: str, arch: str | None = None, review: bool = False
) -> Accepted:
    """Write a kernel that passed its fresh full check, with its header, atomically. Nothing is ever deleted.

    ``arch``: for a kernel that is for one architecture only. ``review``: leave it as ``<target>.new<suffix>`` beside the old file and
    return the difference. Raises ``ValueError`` if the header would change the normalised source.
    """
    text = render(source, header, comment=language.comment, name=spec.name, idea=idea)
    if language.normalise(text) != language.normalise(source):
        raise ValueError(f"the header of {spec.name} would change the kernel: {language.name} does not ignore {language.comment!r} lines")
    stem = target if arch is None else f"{target}-{arch}"
    path = folder_of(spec) / f"{stem}{language.suffix}"
    if not review:
        write_atomically(path, text)
        return Accepted(path=path)
    new = path.with_name(f"{stem}.new{language.suffix}")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    names = (str(path) if path.exists() else "/dev/null", str(new))
    diff = "".join(difflib.unified_diff(before.splitlines(keepends=True), text.splitlines(keepends=True), *names))
    write_atomically(new, text)
    return Accepted(path=new, diff=diff, old=path if path.exists() else None)
