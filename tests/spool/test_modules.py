"""The files that go with a spec are found by following its imports."""

from __future__ import annotations

import sys

import pytest

from kevolve.spool import modules


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def write(**texts: str) -> None:
        for name, text in texts.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_imports_are_followed_absolute_relative_and_inside_functions(project):
    project(
        went="import torch, json, kevolve\nfrom goods.part import thing\ndef late():\n    import went_late\n",
        went_late="",
        goods__part="from . import other\nfrom .deep.leaf import x\nthing = 1\n",
        goods__other="from .. import nothing\n",
        goods__deep__leaf="x = 1\n",
        goods__unused="",
    )
    assert sorted(modules.sources(["went"])) == ["goods/deep/leaf.py", "goods/other.py", "goods/part.py", "went.py", "went_late.py"]


def test_the_packages_around_a_module_come_with_it(project, tmp_path):
    project(pack__inner__leaf="x = 1\n")
    (tmp_path / "pack" / "__init__.py").write_text("from pack import side\n")
    (tmp_path / "pack" / "side.py").write_text("")
    assert sorted(modules.sources(["pack.inner.leaf"])) == ["pack/__init__.py", "pack/inner/leaf.py", "pack/side.py"]


def test_a_module_that_is_nowhere_is_left_to_the_import_to_tell(project):
    project(lonely="import surely_not_there\nfrom surely_not.there import x\n")
    assert sorted(modules.sources(["lonely"])) == ["lonely.py"]


def test_an_installed_package_that_is_linked_to_an_installers_cache_stays_behind(project, tmp_path, monkeypatch):
    cache, site_packages = tmp_path / "cache" / "linked", tmp_path / "site-packages"
    for folder in (cache, site_packages):
        folder.mkdir(parents=True)
    (cache / "__init__.py").write_text("from linked import part\n")
    (cache / "part.py").write_text("")
    (site_packages / "linked").symlink_to(cache)
    monkeypatch.syspath_prepend(str(site_packages))
    project(mine="import linked.part\n")
    assert "linked/part.py" in modules.sources(["mine"])  # what stands in no folder of packages is the project's own
    monkeypatch.setattr(modules.site, "getsitepackages", lambda: [str(site_packages)])
    assert sorted(modules.sources(["mine"])) == ["mine.py"]
