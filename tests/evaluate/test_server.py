"""The clean process: planted files and variables have no effect on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kevolve.evaluate import landlock
from kevolve.evaluate.client import ServerFailed, Workers
from kevolve.targets.cpu import CPU


def test_planted_modules_and_variables_have_no_effect(cpu: CPU, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("sitecustomize", "usercustomize", "conftest", "torch", "json", "tvm_ffi", "kevolve"):
        (planted / f"{name}.py").write_text(f"open({str(tmp_path / 'reached')!r}, 'a').write({name!r})\n")
    (planted / "evil.pth").write_text(f"import os; open({str(tmp_path / 'reached')!r}, 'a').write('pth')\n")
    monkeypatch.setenv("PYTHONPATH", str(planted))
    monkeypatch.setenv("PYTHONSTARTUP", str(planted / "conftest.py"))
    monkeypatch.chdir(planted)
    with (
        Workers(sys_path=[str(planted), *sys.path], scratch=tmp_path / "scratch") as workers,
        workers.child(target=cpu, language="cpp") as child,
    ):
        child.call("enter", target="cpu", stage="check", deadline_s=30)
    assert not (tmp_path / "reached").exists()


def test_a_secret_in_the_environment_does_not_reach_the_server(cpu: CPU, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sesame")
    with Workers(sys_path=sys.path, scratch=tmp_path) as workers, workers.child(target=cpu, language="cpp") as child:
        assert b"sesame" not in Path(f"/proc/{child.pid}/environ").read_bytes()


def test_a_server_that_cannot_start_says_why(cpu: CPU, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Workers(sys_path=sys.path, scratch=tmp_path) as workers, pytest.raises(ServerFailed, match="did not start"):
        workers.child(target=cpu, language="cpp")


def test_a_target_that_only_the_judge_knows_is_no_candidates_failure(cpu: CPU, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "name", "absent", raising=False)
    with Workers(sys_path=sys.path, scratch=tmp_path) as workers, pytest.raises(ServerFailed, match="unknown target 'absent'"):
        workers.child(target=cpu, language="cpp")


def test_packages_that_are_links_to_elsewhere_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, store = tmp_path / "site-packages", tmp_path / "store"
    for name in ("whole", "by_file"):
        (store / name).mkdir(parents=True)
        (store / name / "__init__.py").write_text("")
    (site / "by_file").mkdir(parents=True)
    (site / "whole").symlink_to(store / "whole")
    (site / "by_file" / "__init__.py").symlink_to(store / "by_file" / "__init__.py")
    monkeypatch.syspath_prepend(str(site))
    read = landlock.readable({})
    assert {store / "whole", store / "by_file"} <= set(read)
    assert store not in read


def test_what_was_installed_into_a_folder_may_be_read_and_a_project_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "installed" / "some-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    for name in ("installed", "project"):
        monkeypatch.syspath_prepend(str(tmp_path / name))
    read = landlock.readable({})
    assert tmp_path / "installed" in read
    assert tmp_path / "project" not in read


def test_the_server_has_one_thread_when_it_forks(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        child.call("ping", deadline_s=30)
        server = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
