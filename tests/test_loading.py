"""``kevolve.load``: an accepted kernel at run time, without pytest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import kevolve
from tests.plain_kernel import NORMALISE


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package and a module of the top level, each with a kernel beside it."""
    for folder in (tmp_path, tmp_path / "ops_library"):
        kernel = folder / "kernels" / "normalise" / "cpu.cpp"
        kernel.parent.mkdir(parents=True)
        kernel.write_text(NORMALISE)
    (tmp_path / "ops_library" / "__init__.py").write_text("")
    (tmp_path / "ops_library" / "test_ops.py").write_text("")
    (tmp_path / "ops_alone.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("path", ["ops_library.test_ops:test_normalise", "ops_alone:test_normalise"])
def test_a_kernel_is_loaded_through_its_module_and_computes_its_reference(library: Path, path: str) -> None:
    normalise = kevolve.load(path, cache=library / "cache")
    x, weight = torch.randn(3, 37), torch.randn(37)
    torch.testing.assert_close(normalise(x, weight), torch.nn.functional.rms_norm(x, (37,), weight, 1e-6))


def test_a_missing_kernel_names_what_was_expected_and_the_command_that_makes_it(library: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no cpu kernel of ops_alone:test_other: .*`pytest --kevolve-optimize -k test_other`"):
        kevolve.load("ops_alone:test_other")


def test_a_path_without_a_test_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected .package.module:test_name., got 'ops_alone'"):
        kevolve.load("ops_alone")
