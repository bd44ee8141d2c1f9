"""Shared by the tests of kevolve itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of all workers of a run; what they both make in it is made under ``native.locked``."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "kevolve-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True, scope="session")
def shared_cache(shared_folder: Path) -> Path:
    """One cache for the projects that tests make, all workers of a run included: headers are compiled and peaks measured once."""
    pytest.MonkeyPatch().setenv("KEVOLVE_CACHE", str(shared_folder))
    return shared_folder


@pytest.fixture(autouse=True, scope="session")
def shared_bytecode(shared_folder: Path) -> None:
    """Where this environment keeps no bytecode, runs that tests start keep theirs here: each would rewrite all of hypothesis anew."""
    if sys.flags.dont_write_bytecode:
        pytest.MonkeyPatch().delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        pytest.MonkeyPatch().setenv("PYTHONPYCACHEPREFIX", str(shared_folder / "bytecode"))


@pytest.fixture(autouse=True)
def unworkerlike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that tests start are not workers of this run, nor steps of this workflow."""
    for name in ("PYTEST_XDIST_WORKER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
