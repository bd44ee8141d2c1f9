"""The revision that kernels are compared with, as git knows it: which commit, and which files it held. Nothing is written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
_GIT_S = 60.0
_DEEPEN = "fetch the history: git fetch --unshallow (with actions/checkout: fetch-depth: 0; in GitLab: GIT_DEPTH: 0)"


class RevisionError(Exception):
    """There is nothing to compare with, for a reason that the user can mend; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A file as the revision held it. ``path``: below the repository's root."""

    path: Path
    text: str


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A commit of the repository at ``root``. ``chosen``: how it came to be this one, in words, where the user named none."""

    root: Path
    commit: str
    chosen: str = ""
    _texts: dict[Path, str | None] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The commit as people write it."""
        return self.commit[:9]

    def __str__(self) -> str:
        return f"{self.short} ({self.chosen})" if self.chosen else self.short

    def below(self, path: Path) -> Path:
        """``path`` below the root; as it is where it lies elsewhere."""
        path = path.resolve()
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path

    @cached_property
    def files(self) -> frozenset[Path]:
        """Every file that the commit holds, below the root."""
        listed = _git(self.root, "ls-tree", "-r", "-z", "--name-only", "--full-tree", self.commit).stdout
        return frozenset(Path(name) for name in listed.split("\0") if name)

    @cached_property
    def renames(self) -> Mapping[Path, Path]:
        """Old paths by new ones: what git takes for renamed, the working tree's tracked files included."""
        said = _git(self.root, "diff", "-M", "-z", "--name-status", "--diff-filter=R", self.commit, "--").stdout.split("\0")
        triples = zip(said[0::3], said[1::3], said[2::3], strict=False)
        return {Path(new): Path(old) for _, old, new in triples}

    def present(self, folder: Path) -> list[Path]:
        """The working tree's files in ``folder`` and below it, all below the root; what git ignores is none of them."""
        listed = _git(self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", str(folder)).stdout
        return [Path(name) for name in listed.split("\0") if name]

    def text(self, path: Path) -> str | None:
        """What ``path`` (below the root) held, or None where the commit has no such file."""
        if path not in self._texts:
            self._texts[path] = self._read(path) if path in self.files else None
        return self._texts[path]

    def _read(self, path: Path) -> str:
        return _git(self.root, "show", f"{self.commit}:{path.as_posix()}").stdout

    @property
    def is_head(self) -> bool:
        """Whether it is the commit that is checked out."""
        return _git(self.root, "rev-parse", "HEAD").stdout.strip() == self.commit


def resolve(folder: Path, wanted: str = "") -> Revision:
    """The commit ``wanted`` of the repository around ``folder``; none named: the merge base of HEAD with the main branch.

    Raises ``RevisionError``: no git, no repository, no such revision, or a history that does not reach far enough.
    """
    root = _root(folder)
    if _commit(root, "HEAD") is None:
        raise RevisionError(f"no commit to compare with: expected a history in {root}, got none yet; commit the kernels first")
    return _named(root, folder, wanted) if wanted else _merge_base(root)


def _root(folder: Path) -> Path:
    try:
        found = _git(folder, "rev-parse", "--show-toplevel", check=False)
    except FileNotFoundError:
        raise RevisionError("git is needed to find the old kernels, and there is none on the path; install git") from None
    if found.returncode:
        raise RevisionError(
            f"expected a git repository around {folder}, got none: {_last(found.stderr)}\n"
            "run in a checkout (in a container perhaps after: git config --global --add safe.directory <the checkout>)"
        )
    return Path(found.stdout.strip()).resolve()


def _named(root: Path, folder: Path, wanted: str) -> Revision:
    commit = _commit(root, wanted)
    if commit is not None:
        return Revision(root=root, commit=commit, chosen="" if commit.startswith(wanted) else wanted)
    said = f"unknown revision {wanted!r}: expected a commit, branch or tag of {root}"
    if (folder / wanted.partition("::")[0]).exists():
        raise RevisionError(f"{said}, got a path; write the paths first: pytest {wanted} --kevolve-gate")
    raise RevisionError(f"{said}; {_DEEPEN if _is_shallow(root) else f'perhaps: git fetch origin {wanted}'}")


def _merge_base(root: Path) -> Revision:
    branch = next((name for name in MAIN if _commit(root, name) is not None), None)
    if branch is None:
        then = _DEEPEN if _is_shallow(root) else "name a revision: --kevolve-gate=REV"
        raise RevisionError(f"no main branch to compare with: expected one of {', '.join(MAIN)} in {root}, got none; {then}")
    base = _git(root, "merge-base", "HEAD", branch, check=False).stdout.strip()
    if base:
        return Revision(root=root, commit=base, chosen=f"the merge base with {branch}")
    then = _DEEPEN if _is_shallow(root) else "name a revision: --kevolve-gate=REV"
    raise RevisionError(f"no merge base of HEAD and {branch} in {root}; {then}")


def _commit(root: Path, name: str) -> str | None:
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
    return found.stdout.strip() or None


def _is_shallow(root: Path) -> bool:
    return _git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"


def _git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """What git says, in English. Raises ``RevisionError`` where it must not fail and does."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}  # it would refresh the index beside us
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace", timeout=_GIT_S, check=False)
    if check and done.returncode:
        raise RevisionError(f"git {arguments[0]} failed in {folder}: {_last(done.stderr)}")
    return done


def _last(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "it said nothing")
