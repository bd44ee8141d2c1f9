"""Shared by the tests of kevolve itself."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache for the projects that tests make, all workers of a run included: headers are compiled and peaks measured once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "kevolve-cache"
    folder.mkdir(exist_ok=True)
    pytest.MonkeyPatch().setenv("KEVOLVE_CACHE", str(folder))


@pytest.fixture(autouse=True)
def unworkerlike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that tests start are not workers of this run, nor steps of this workflow."""
    for name in ("PYTEST_XDIST_WORKER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
