"""What models are told of a language is true: the kernel in each guide is one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kevolve.languages.cpp import Cpp
from kevolve.languages.cuda import Cuda
from kevolve.languages.guide import GUIDES, guide
from kevolve.languages.triton import Triton
from kevolve.targets.cpu import CPU

LANGUAGES = {language.name: language for language in (Cpp(), Cuda(), Triton())}


def example(name: str) -> str:
    found = re.search(r"```\w+\n(.*?)```", guide(LANGUAGES[name]), re.DOTALL)
    assert found is not None
    return found[1]


def test_every_guide_is_of_a_language():
    assert {path.stem for path in GUIDES.iterdir()} <= set(LANGUAGES)


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_kernel_of_a_guide_parses_and_may_be_built(name: str):
    assert LANGUAGES[name].parse(example(name), "scale_rows") is None
    assert LANGUAGES[name].policy(example(name), ()) is None


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_guide_says_how_a_number_is_left_to_the_tuner(name: str):
    marked = re.findall(r"^.*(?:#|//) tune: \w+(?:, \w+)+$", example(name), re.MULTILINE)
    assert marked


def test_the_kernel_in_cpp_is_right_on_any_layout():
    if LANGUAGES["cpp"].missing() is not None:
        pytest.skip(str(LANGUAGES["cpp"].missing()))
    built = LANGUAGES["cpp"].build(example("cpp"), entry="scale_rows", target=CPU(), cache=Path(os.environ["KEVOLVE_CACHE"]), timeout_s=100)
    assert built.diagnostics == ""
    call = LANGUAGES["cpp"].load(built.artifact, entry="scale_rows", target=CPU()).call
    x, weight = torch.randn(9, 7).t(), torch.randn(18)[::2]
    assert torch.equal(torch.from_dlpack(call(x, weight, 2.0)), (x * weight * 2.0).contiguous())
    assert torch.from_dlpack(call(torch.empty(0, 9), weight, 2.0)).shape == (0, 9)


def test_a_language_without_a_guide_has_its_own_or_a_line_about_its_files():
    assert guide(SimpleNamespace(name="mine", suffix=".m", comment="%", guide="Write it so.")) == "Write it so."
    assert "one `.m` file; comments begin with `%`" in guide(SimpleNamespace(name="mine", suffix=".m", comment="%"))
