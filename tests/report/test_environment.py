import subprocess
from pathlib import Path

from kevolve.report.environment import commit, describe, package_versions


class Target:
    name = "toy"

    def device(self):
        return {"name": "Toy 1", "arch": "toy1", "driver": "7"}


class Language:
    def __init__(self, name, missing=None):
        self.name, self._missing = name, missing

    def missing(self):
        return self._missing

    def versions(self):
        return {"toyc": "3"}


def git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_environment_names_device_versions_toolchains_and_isolation(tmp_path):
    languages = [Language("toyscript"), Language("other", missing="no compiler")]
    found = describe(Target(), languages, isolation={"network": "off"}, root=tmp_path, date="2026-01-01T00:00:00Z")
    assert (found.device, found.arch, found.date, found.commit) == ("Toy 1", "toy1", "2026-01-01T00:00:00Z", None)
    assert found.versions["driver"] == "7"
    assert found.versions["pytest"]
    assert found.toolchain == {"toyscript": {"toyc": "3"}}
    assert found.isolation == {"network": "off"}


def test_packages_that_are_not_installed_are_left_out():
    assert list(package_versions(["pytest", "no-such-package-here"])) == ["pytest"]


def test_the_commit_says_whether_tracked_files_differ(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("1")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "a")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("x")
    assert commit(tmp_path) == head
    (tmp_path / "a.txt").write_text("2")
    assert commit(tmp_path) == f"{head}+changes"
