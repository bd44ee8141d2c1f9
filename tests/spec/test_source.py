"""What a test function's text says, with what it names in its own module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kevolve.spec.declaration import build_spec
from kevolve.spec.source import sources
from kevolve.spec.spec import Case

MODULE = """
import functools
import math
import torch
import kevolve
from kevolve import Tensor, sizes

MOST = 128
VARY = dict(n=sizes(0, MOST))
GENERATOR = torch.Generator()


def double(x):
    return x * 2


def deepest(n):
    return n + 1


@functools.cache
def made(n):
    return deepest(n) - math.floor(1.0)


class Unused:
    size = 1


@kevolve.kernel(double, vary=VARY)
def test_double(n):
    def inputs(sizes, generator):
        return torch.randn(made(n), generator=generator)

    return inputs
"""


@pytest.fixture
def load(tmp_path: Path, request: pytest.FixtureRequest):
    def loaded(text: str, name: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        request.addfinalizer(lambda: sys.modules.pop(name))
        spec.loader.exec_module(module)
        return module

    return loaded


def test_helpers_and_plain_values_of_the_module_are_followed_by_name(load) -> None:
    own, *others = sources(load(MODULE, "kevolve_a").test_double)
    assert own.startswith("@kevolve.kernel(double, vary=VARY)\ndef test_double(n):")
    assert [text.splitlines()[0] for text in others] == [
        "VARY = {'n': Sizes(low=0, high=128)}",
        "def deepest(n):",
        "def double(x):",
        "@functools.cache",
    ]


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [("n + 1", "n + 2", True), ("MOST = 128", "MOST = 256", True), ("size = 1", "size = 2", False)],
)
def test_a_specs_hash_changes_with_what_its_description_calls(load, old: str, new: str, counts: bool) -> None:
    reference = "def double(x):\n    return x * 2\n"
    apart = MODULE.replace(reference, "from kevolve_reference import double\n")
    load(reference, "kevolve_reference")

    def hash_of(text: str, name: str) -> str:
        return build_spec(load(text, name).test_double, nodeid="t", cases=[Case(id="1", values={"n": 1})]).hash

    assert (hash_of(apart, "kevolve_b") != hash_of(apart.replace(old, new), "kevolve_c")) is counts


@pytest.mark.parametrize("folder", ["", "models/"])
def test_a_prompt_reads_on_in_the_projects_other_modules_and_not_in_installed_ones(tmp_path, monkeypatch, folder):
    """What a model is told of a reference: also the norm that it takes from a module beside it, with its constant; nothing of torch."""
    package = folder.rstrip("/").replace("/", ".") + "." if folder else ""
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "norms_beside.py").write_text("EPS = 1e-6\n\n\ndef norm(x):\n    return x * (x * x + EPS).rsqrt()\n")
    text = f"from torch.nn.functional import gelu\nfrom {package}norms_beside import norm\n\n\ndef layer(x):\n    return norm(gelu(x))\n"
    (tmp_path / folder / "layers_beside.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    layer = importlib.import_module(f"{package}layers_beside").layer
    try:
        assert sources(layer) == ["def layer(x):\n    return norm(gelu(x))\n"]
        own, *others = sources(layer, beyond=True)
        assert (own, others) == (sources(layer)[0], ["EPS = 1e-06", "def norm(x):\n    return x * (x * x + EPS).rsqrt()\n"])
    finally:
        for name in [name for name in sys.modules if name.startswith("models") or name.endswith("_beside")]:
            del sys.modules[name]
