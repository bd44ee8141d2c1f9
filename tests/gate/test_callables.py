"""A callable of the user's own behind the gate: its old text is the revision's whole tree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kevolve.evaluate.moved import is_own
from kevolve.gate.callables import callable_change, export
from kevolve.gate.changes import Kind
from kevolve.gate.revision import Revision
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Spec
from tests.gate.gitted import SPEC, commit, git, write

KERNELS = """
from acme.steps import scaled

def normalise(x, weight):
    return scaled(x.clone(), weight)
"""
STEPS = """
import torch

def scaled(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight
"""
SLOW = STEPS.replace("    return", "    for _ in range(40):\n        x.square().mean(-1, keepdim=True)\n    return")
GIVEN = SPEC.replace("@kevolve.kernel(normalise,", '@kevolve.kernel(normalise, kernel="acme.kernels:normalise",').replace(
    "(64, 128)", "(256, 512)"
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``acme`` below ``src``, and a branch for a pull request."""
    git(tmp_path, "init", "-q")
    write(tmp_path, "src/acme/__init__.py", "")
    write(tmp_path, "src/acme/kernels.py", KERNELS)
    write(tmp_path, "src/acme/steps.py", STEPS)
    write(tmp_path, "src/acme/other.py", "")
    write(tmp_path, "src/acme/csrc/kernel.cu", "// a kernel")
    write(tmp_path, "test_spec.py", GIVEN)
    write(tmp_path, "pyproject.toml", '[tool.pytest.ini_options]\npythonpath = ["src"]\n')
    write(tmp_path, ".gitignore", ".kevolve/\n.hypothesis/\n__pycache__/\nbuild/\n*.json\n")
    commit(tmp_path, "A kernel")
    git(tmp_path, "checkout", "-q", "-b", "change")
    monkeypatch.syspath_prepend(tmp_path / "src")
    return tmp_path


def _spec(folder: Path, kernel: str = "acme.kernels:normalise") -> Spec:
    return Spec(
        name="normalise",
        nodeid="test_spec.py::test_normalise",
        folder=folder,
        describe=lambda: (),
        reference=Reference(module="test_spec", qualname="normalise", file=folder / "test_spec.py", inputs=("x", "weight")),
        cases=(),
        vary={},
        choices={},
        hash="",
        kernel=kernel,
    )


def _kind(folder: Path) -> Kind | None:
    found = callable_change(_spec(folder), Revision(root=folder.resolve(), commit=git(folder, "rev-parse", "main")))
    return None if found is None else found.kind


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("src/acme/other.py", "x = 1\n", Kind.UNCHANGED),
        ("src/acme/kernels.py", f"# a comment\n{KERNELS}", Kind.SAME),
        ("src/acme/kernels.py", KERNELS.replace("clone", "contiguous"), Kind.CHANGED),
        ("src/acme/steps.py", SLOW, Kind.CHANGED),
        ("src/acme/__init__.py", "import torch\n", Kind.CHANGED),
        ("src/acme/csrc/kernel.cu", "// another kernel", Kind.CHANGED),
        ("src/acme/csrc/more.h", "// new", Kind.CHANGED),
        ("src/acme/build/made.h", "// of a build", Kind.UNCHANGED),  # ignored
        ("src/acme/steps.py", "def scaled(x, weight:\n", Kind.CHANGED),
    ],
)
def test_a_callable_changes_with_its_module_all_that_it_imports_and_the_sources_below(
    repository: Path, file: str, text: str, kind: Kind
) -> None:
    assert _kind(repository) is Kind.UNCHANGED
    write(repository, file, text)
    assert _kind(repository) is kind


def test_a_callable_whose_module_the_revision_lacks_is_new_and_an_installed_one_is_none_of_ours(repository: Path) -> None:
    revision = Revision(root=repository.resolve(), commit=git(repository, "rev-parse", "main"))
    write(repository, "src/acme/fresh.py", KERNELS)
    found = callable_change(_spec(repository, "acme.fresh:normalise"), revision)
    assert found is not None
    assert (found.kind, found.old) == (Kind.NEW, None)
    assert callable_change(_spec(repository, "torch:sigmoid"), revision) is None


def test_an_environment_that_is_installed_in_the_repository_is_none_of_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_own(tmp_path / "src/acme/kernels.py", tmp_path)
    assert not is_own(tmp_path / "venv/lib/python3.11/site-packages/torch/__init__.py", tmp_path)
    assert not is_own(tmp_path.parent / "acme.py", tmp_path)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "env"))
    assert not is_own(tmp_path / "env/lib/python3.11/ast.py", tmp_path)


def test_the_copy_of_a_revision_holds_its_files_and_not_the_working_trees(repository: Path, tmp_path: Path) -> None:
    write(repository, "src/acme/steps.py", SLOW)
    revision = Revision(root=repository.resolve(), commit=git(repository, "rev-parse", "main"))
    moved = export(revision, tmp_path / "copy")
    assert moved.origin == repository.resolve()
    assert (moved.root / "src/acme/steps.py").read_text() == STEPS


def test_a_callable_slowed_in_a_module_that_it_imports_fails_the_gate(repository: Path, pytester: pytest.Pytester) -> None:
    write(repository, "src/acme/steps.py", SLOW)
    write(repository, "src/acme/kernels.py", KERNELS.replace("clone", "contiguous"))
    record = repository / "record.json"
    options = ("-p", "no:cacheprovider", "--rootdir", repository, "-c", repository / "pyproject.toml", repository / "test_spec.py")
    for _ in range(3):
        result = pytester.runpytest_subprocess(*options, "--kevolve-gate", f"--kevolve-record={record}")
        if "by the judge's clock" not in result.stdout.str():  # on a machine with too much other work the reference cannot be timed
            break
    assert result.ret == 1
    (row,) = json.loads(record.read_text())["gate"]
    assert (row["case"], row["verdict"], row["old"]["path"]) == ("256-512", "slower", "src/acme/kernels.py")
    assert row["ratio"]["high"] < 0.9
    result.stdout.re_match_lines([r"E? *normalise\[256-512\] is slower than at .*", r".*cause .*acme.kernels:normalise is a callable"])
