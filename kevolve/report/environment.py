"""The ``environment`` part of a run record: device, versions, toolchains, isolation, commit."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kevolve.report.record import Environment

if TYPE_CHECKING:
    from kevolve.languages import Language
    from kevolve.targets import Target

PACKAGES = ("kevolve", "torch", "triton", "apache-tvm-ffi", "numpy", "hypothesis", "pytest", "pytest-benchmark")


def describe(target: Target, languages: Sequence[Language], *, isolation: Mapping[str, Any], root: Path, date: str) -> Environment:
    """The environment of a run on ``target``. ``date``: ISO 8601, UTC. ``root``: a folder of the repository under test."""
    device = dict(target.device())
    return Environment(
        device=device.pop("name", "unknown"),
        arch=device.pop("arch", "unknown"),
        date=date,
        versions={"python": platform.python_version(), **package_versions(PACKAGES), **device},
        toolchain={language.name: dict(language.versions()) for language in languages if language.missing() is None},
        isolation=dict(isolation),
        commit=commit(root),
    )


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions by name; packages that are not installed are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit(root: Path) -> str | None:
    """The commit checked out at ``root``, with ``+changes`` where tracked files differ; None without git or a repository."""
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return None
    return head + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
