"""Shared by the tests of kevolve itself."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FIRST = "test_wheel.py"  # makes an environment: minutes, in which the other workers have the rest to do


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != FIRST)


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


@pytest.fixture
def abacus_as(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts the modelled accelerator beside a project as pip leaves a package: ``abacus_as(target, where, **modules)``."""

    def installed(target: str, where: str = "abacus:Abacus", **modules: str) -> None:
        site = pytester.path / "site"
        info = site / f"{target}-1.0.dist-info"
        info.mkdir(parents=True)
        shutil.copy(Path(__file__).parent / "abacus" / "abacus.py", site)
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {target}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[kevolve.targets]\n{target} = {where}\n")
        monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)

    return installed
