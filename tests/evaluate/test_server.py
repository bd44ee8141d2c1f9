"""The clean process: planted files and variables have no effect on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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


def test_the_server_has_one_thread_when_it_forks(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        child.call("ping", deadline_s=30)
        server = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
