"""Which commit a gate compares with, what it held, and what becomes of a kernel since."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevolve import registry
from kevolve.gate.changes import Change, Kind, change, removed
from kevolve.gate.declared import spec_changed
from kevolve.gate.revision import RevisionError, resolve
from kevolve.search.accept import find_kernel
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Spec
from tests.gate.gitted import KERNEL, SPEC, commit, git, write
from tests.plain_kernel import NORMALISE

CPP, PYTHON = registry.load("languages", "cpp"), registry.load("languages", "triton")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "-q")
    write(folder, "test_spec.py", SPEC)
    write(folder, KERNEL, NORMALISE)
    commit(folder, "first")
    return folder


def spec_in(folder: Path, name: str = "normalise") -> Spec:
    return Spec(
        name=name,
        nodeid=f"test_spec.py::test_{name}",
        folder=folder,
        describe=lambda: (),
        reference=Reference(module="test_spec", qualname="normalise", file=folder / "test_spec.py", inputs=("x", "weight")),
        cases=(),
        vary={},
        choices={},
        hash="",
    )


def changed(folder: Path, name: str = "normalise", *, arch: str | None = None) -> Change:
    spec = spec_in(folder, name)
    file = find_kernel(spec, "cpu", arch, (CPP, PYTHON))
    assert file is not None
    return change(spec, file, resolve(folder, "main"), target="cpu", arches=(arch,), languages=(CPP, PYTHON))


def test_the_default_is_the_merge_base_with_the_remote_s_main_branch(repository: Path, tmp_path: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    git(clone, "checkout", "-q", "-b", "work")
    commit(clone, "work")
    commit(repository, "main goes on")
    git(clone, "fetch", "-q")
    found = resolve(clone)
    assert (found.commit, found.chosen) == (base, "the merge base with origin/HEAD")
    assert str(found) == f"{base[:9]} (the merge base with origin/HEAD)"
    assert not found.is_head


def test_a_named_revision_may_be_a_tag_a_branch_or_a_short_commit(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-a", "v1", "-m", "one")
    for name, shown in (("v1", f"{base[:9]} (v1)"), ("HEAD", f"{base[:9]} (HEAD)"), (base[:12], base[:9])):
        assert (resolve(repository, name).commit, str(resolve(repository, name))) == (base, shown)


def test_a_shallow_clone_is_told_to_fetch_more(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "-b", "work")
    commit(repository, "work")
    git(repository, "checkout", "-q", "main")
    git(tmp_path, "clone", "-q", "--depth=1", "--branch=work", f"file://{repository}", "shallow")
    for wanted in ("", "main"):
        with pytest.raises(RevisionError, match=r"git fetch --unshallow \(with actions/checkout: fetch-depth: 0"):
            resolve(tmp_path / "shallow", wanted)


def test_a_shallow_clone_without_the_merge_base_is_told_to_fetch_more(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "-b", "work")
    commit(repository, "work")
    git(repository, "checkout", "-q", "main")
    commit(repository, "main goes on")
    git(tmp_path, "clone", "-q", "--depth=1", "--no-single-branch", f"file://{repository}", "shallow")
    git(tmp_path / "shallow", "checkout", "-q", "work")
    with pytest.raises(RevisionError, match=r"no merge base of HEAD and origin/HEAD .*git fetch --unshallow"):
        resolve(tmp_path / "shallow")


@pytest.mark.parametrize(("wanted", "expected"), [("nowhere", "perhaps: git fetch origin nowhere"), ("test_spec.py", "got a path")])
def test_an_unknown_revision_is_an_error_with_the_next_step(repository: Path, wanted: str, expected: str) -> None:
    with pytest.raises(RevisionError, match=f"unknown revision '{wanted}': .*{expected}"):
        resolve(repository, wanted)


def test_no_repository_and_no_commit_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RevisionError, match=r"expected a git repository around .*, got none"):
        resolve(tmp_path)
    git(tmp_path, "init", "-q")
    with pytest.raises(RevisionError, match="commit the kernels first"):
        resolve(tmp_path)


def test_nothing_is_written_to_the_repository(repository: Path) -> None:
    write(repository, KERNEL, NORMALISE + "\n")
    before = {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")}
    changed(repository)
    assert {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")} == before


def test_an_edit_counts_before_it_is_committed_unless_it_is_layout_alone(repository: Path) -> None:
    assert changed(repository).kind is Kind.UNCHANGED
    write(repository, KERNEL, "// another header\n" + NORMALISE)
    assert changed(repository).kind is Kind.SAME
    write(repository, KERNEL, NORMALISE.replace("1e-6", "1e-5"))
    found = changed(repository)
    assert found.kind is Kind.CHANGED
    assert found.old is not None
    assert (found.old.source, found.old.entry, found.old.path) == (NORMALISE, "normalise", KERNEL)


def test_the_old_kernel_is_the_file_that_a_run_took_then(repository: Path) -> None:
    write(repository, KERNEL.with_name("cpu-x1.cpp"), NORMALISE)  # stands in for the general one now
    found = changed(repository, arch="x1")
    assert found.new.path.name == "cpu-x1.cpp"
    assert found.old is not None
    assert (found.old.path.name, found.kind) == ("cpu.cpp", Kind.UNCHANGED)


def test_a_spec_of_another_language_before_is_changed(repository: Path) -> None:
    (repository / KERNEL).unlink()
    write(repository, KERNEL.with_suffix(".py"), "def normalise(x, weight): ...\n")
    found = changed(repository)
    assert found.old is not None
    assert (found.kind, found.old.language, found.new.language) == (Kind.CHANGED, "cpp", "triton")


@pytest.mark.parametrize("staged", [True, False], ids=["as git says", "untracked, of the same text"])
def test_a_renamed_kernel_is_found_where_it_was(repository: Path, staged: bool) -> None:
    git(repository, "mv", "kernels/normalise", "kernels/scale")
    if not staged:
        git(repository, "reset", "-q")
    found = changed(repository, "scale")
    assert found.old is not None
    assert (found.kind, found.old.path, found.old.entry) == (Kind.RENAMED, KERNEL, "normalise")


def test_a_kernel_is_new_beside_others_and_the_baseline_where_there_were_none(repository: Path) -> None:
    write(repository, "kernels/scale/cpu.cpp", "int scale;\n")
    assert changed(repository, "scale").kind is Kind.NEW
    git(repository, "rm", "-q", "--cached", str(KERNEL))
    git(repository, "commit", "-q", "-m", "no kernels")
    assert changed(repository, "scale").kind is Kind.BASELINE


def test_removed_kernels_of_the_target_are_listed(repository: Path) -> None:
    write(repository, "kernels/normalise/other.cpp", "int other;\n")
    write(repository, "kernels/normalise/cpu.rows.cpp", "// when: rows\n")
    commit(repository, "more files")
    for path in (KERNEL, "kernels/normalise/other.cpp", "kernels/normalise/cpu.rows.cpp"):
        (repository / path).unlink()
    assert removed(resolve(repository, "main"), "cpu", (CPP,)) == [KERNEL]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("EPS = 1e-6", "EPS = 1e-3", True),
        ("x.pow(2)", "x.square()", True),
        ("min_speedup=0.001", "min_speedup=0.002", True),
        ("EPS = 1e-6", "# a comment\nEPS = 1e-6\n\nOTHER = 7", False),
        ("\nEPS", "\ndef test_other(): ...\nEPS", False),
    ],
)
def test_a_spec_changes_with_what_its_functions_depend_on(repository: Path, old: str, new: str, expected: bool) -> None:
    assert old in SPEC
    write(repository, "test_spec.py", SPEC.replace(old, new))
    assert spec_changed(spec_in(repository), resolve(repository, "main")) is expected
