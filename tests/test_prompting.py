"""`kevolve prompt` and the option beneath it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import kevolve.evaluate.materialise
import kevolve.operators.canonical
import kevolve.operators.recorder
import kevolve.run
from kevolve import prompting
from kevolve.prompting import Rendered, mode_of, next_step
from kevolve.search.node import Graph
from kevolve.targets import Peaks
from kevolve.targets.cpu import CPU
from tests.operators.scripted import node

assert torch  # imported, as the parts above, before pytester takes its snapshot of modules: torch cannot be imported twice
assert kevolve

SPEC = """
import kevolve
import pytest
from kevolve import Tensor, sizes


def double(x):
    return x * 2


@kevolve.kernel(double, vary=dict(n=sizes(0, 64)))
@pytest.mark.parametrize("n", [64, 128])
def test_double(n):
    return Tensor(n)


def test_ordinary():
    raise AssertionError("an ordinary test was run")
"""
PROMPT = Rendered(
    spec="test_spec.py::test_double",
    step="draft, in cpp",
    system="the system text\n",
    text="the task\n",
    sections=(
        {"name": "rules", "tokens": 500, "budget": 1000, "left_out": 0},
        {"name": "kernel", "tokens": 9000, "budget": 9000, "left_out": 77},
    ),
)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setattr(CPU, "peaks", lambda self, cache: Peaks(operations={"float32": 1e12}))
    pytester.makepyfile(test_spec=SPEC)
    return pytester


def test_the_selected_specs_prompts_are_rendered_and_nothing_is_run(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--kevolve-prompt=out.json", "--kevolve-knowledge=none", "-p", "no:cacheprovider")
    assert result.ret == 0
    result.assert_outcomes()
    (rendered,) = prompting.read(project.path / "out.json")
    assert (rendered.spec, rendered.step) == ("test_spec.py::test_double", "draft, in cpp")
    assert "# Spec: double" in rendered.system
    assert "x: float32[128]" in rendered.system
    assert "float32 1 Tops/s" in rendered.system
    assert "Write the first kernel" in rendered.text
    assert not (project.path / ".kevolve" / "kevolve.db").exists()


def test_a_model_without_tools_is_told_how_to_answer(project: pytest.Pytester) -> None:
    project.runpytest_inprocess(
        "--kevolve-prompt=out.json", "--kevolve-knowledge=none", "--kevolve-model=command:agent", "-p", "no:cacheprovider"
    )
    (rendered,) = prompting.read(project.path / "out.json")
    assert "# How you answer" in rendered.system


def test_without_a_spec_among_the_tests_it_is_a_usage_error(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("--kevolve-prompt=out.json", "-k", "ordinary", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*expected a kernel spec among the selected tests, got none"])


def test_the_best_kernel_is_expanded_and_an_empty_graph_drafted() -> None:
    nodes = (node(1, fitness=1.2), node(2, "x", fitness=1.9), node(3, "y", fitness=1.5))
    step = next_step(Graph.of(nodes), "cpp")
    assert (step.parents, step.memory) == ((2,), "both")
    assert next_step(Graph.of(nodes), "triton").parents == ()


@pytest.mark.parametrize(
    ("models", "mode"),
    [
        ((), "tools"),
        (("anthropic:x=2", "command:y"), "tools"),
        (("openai:x@http://host/v1 #tools=no",), "blocks"),
        (("command:agent --print",), "blocks"),
        (("command:agent {workspace}",), "workspace"),
    ],
)
def test_the_first_model_decides_how_to_answer(models: tuple[str, ...], mode: str) -> None:
    assert mode_of(models) == mode


def test_the_prompt_goes_to_standard_output_and_its_sizes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_options: object) -> SimpleNamespace:
        asked.append(command)
        file = next(option.partition("=")[2] for option in command if option.startswith("--kevolve-prompt="))
        prompting.write([PROMPT], Path(file))
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert prompting.main(["test_spec.py", "--target", "cpu", "--language", "cpp", "--knowledge", "none"]) == 0
    said = capsys.readouterr()
    assert said.out == "the system text\n\nthe task\n"
    assert said.err.splitlines() == [
        "test_spec.py::test_double: draft, in cpp",
        "  rules             500 of   1000 tokens",
        "  kernel           9000 of   9000 tokens, 77 cut",
        "  all              9500 tokens (estimated)",
    ]
    assert {"--kevolve-target=cpu", "--kevolve-language=cpp", "--kevolve-knowledge=none"} <= set(asked[0])


def test_what_pytest_says_is_told_where_there_is_no_spec(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "test_none.py").write_text("def test_nothing():\n    pass\n")
    assert prompting.main([str(tmp_path / "test_none.py")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "expected a kernel spec among the selected tests, got none" in said.err


def test_prompts_survive_the_way_between_the_processes(tmp_path: Path) -> None:
    prompting.write([PROMPT], tmp_path / "file")
    assert prompting.read(tmp_path / "file") == [Rendered(**(json.loads((tmp_path / "file").read_text())[0]))]
