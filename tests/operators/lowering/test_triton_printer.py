"""Triton files printed from references: right when interpreted, allowed by the policy, compilable for the GPUs they are meant for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import printed_triton
import pytest
import torch

from kevolve.evaluate.materialise import materialise
from kevolve.languages.triton import Triton
from kevolve.operators.lowering.index import Index
from kevolve.operators.lowering.lower import lower
from kevolve.operators.lowering.printing import Unprintable
from kevolve.operators.lowering.triton import printer as triton
from kevolve.operators.tune_lines import marked, problems
from kevolve.spec.spec import Draw, Spec

FOLDER = Path(__file__).parent
SPECS = {spec.name: spec for spec in printed_triton.SPECS}


def test_printed_files_agree_with_their_references_when_interpreted() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(FOLDER.parents[2]), str(FOLDER)])}
    command = [sys.executable, str(FOLDER / "printed_triton.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.endswith(" 0 disagreements")] == [], done.stderr
    assert [line.partition(":")[0] for line in lines] == list(SPECS), done.stderr


@pytest.mark.parametrize("name", SPECS)
def test_a_printed_file_is_allowed_and_can_be_tuned(name: str) -> None:
    text, language = printed_triton.printed(SPECS[name]), Triton()
    assert language.parse(text, name) is None
    assert language.policy(text, SPECS[name].allow) is None
    assert problems(text, language) == []
    assert marked(text, language) is not None
    assert max(map(len, text.splitlines())) <= 140


def compiled(spec: Spec, arch: str, folder: Path) -> int:
    """How many kernels one call launches for an architecture, compiled in place of launching them."""
    from kevolve.languages.triton_ahead import Compiler

    call = printed_triton.loaded(printed_triton.printed(spec), folder, spec.name)
    inputs = materialise(spec, Draw(values=spec.cases[0].values, seed=3))
    compiler = Compiler(arch, jobs=1, folder=folder)
    with compiler:
        call(*(compiler.fake(value.dtype, value.shape, value.stride(), 0) if _is_tensor(value) else value for value in inputs))
        compiler.finish(60)
    assert compiler.problems() == []
    return compiler.count


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


@pytest.mark.parametrize(
    "name, arch",
    [(name, "sm90") for name in ("squashed", "both_means", "best", "linear_relu", "bucket_counts")]
    + [(name, "gfx942") for name in ("softmax", "running")],
)
def test_printed_kernels_compile_ahead_of_time(name: str, arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert compiled(SPECS[name], arch, tmp_path) > 0


def test_rows_that_a_tile_holds_are_read_once() -> None:
    text = printed_triton.printed(SPECS["softmax"])
    short, long = text.partition("def softmax_kernel")[2].split("@triton.jit")[:2]
    assert (short.count("tl.load("), long.count("tl.load(")) == (1, 3)
    assert "if col_block >= " in text


def test_what_triton_has_no_operation_for_is_refused_in_words() -> None:
    scattered = lower(SPECS["bucket_counts"])
    for step in (step for kernel in scattered.kernels for step in kernel.steps if step.kind == "scatter"):
        step.combine = "prod"
    with pytest.raises(Unprintable, match="no atomic operation for a scatter by prod"):
        triton.source(scattered)
    changed = lower(SPECS["moved_average"])
    changed.mutated[0].shape = (Index.of(2),) * 5
    with pytest.raises(Unprintable, match="has 5 axes; four at most are written back"):
        triton.source(changed)


def test_how_many_places_are_searched_is_compiled_once_for_all_numbers_one_included() -> None:
    text = printed_triton.printed(SPECS["bucket_counts"])
    assert "sorted_place(borders_ptr, borders_0, " in text
    assert '@triton.jit(do_not_specialize=["borders_0"])' in text, "what masks memory is specialised"
