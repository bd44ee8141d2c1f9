"""The Triton language: what it refuses, builds and loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kevolve.languages.triton import Triton

TARGET: Any = None  # nothing of the target is asked for when kernels are interpreted

DOUBLE = '''
import torch
import triton
import triton.language as tl


@triton.jit
def scale(x, out, count, factor: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < count).to(tl.float32) * factor, mask=at < count)


def double(x):
    """Twice x."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if out.numel():
        scale[(triton.cdiv(x.numel(), 64),)](x.contiguous(), out, x.numel(), factor=2, BLOCK=64)
    return out


def double_backward(grad):
    return double(grad)
'''


@pytest.fixture
def triton() -> Triton:
    return Triton()


def test_it_names_itself_and_its_version(triton: Triton) -> None:
    assert (triton.name, triton.suffix, triton.comment) == ("triton", ".py", "#")
    assert triton.missing() is None
    assert list(triton.versions()) == ["triton"]


def test_a_real_kernel_passes_parse_and_policy(triton: Triton) -> None:
    assert triton.parse(DOUBLE, "double") is None
    assert triton.policy(DOUBLE, ()) is None


def test_a_jitted_entry_is_refused(triton: Triton) -> None:
    refused = triton.parse(DOUBLE, "scale")
    assert refused == "line 8: scale is device code; expected a Python function that allocates the outputs and launches it"


@pytest.mark.parametrize(
    "line, named",
    [
        ("torch.softmax(x, -1)", "torch.softmax"),
        ("torch.nn.functional.softmax(x, -1)", "torch.nn.functional.softmax"),
        ("torch.ops.aten.softmax(x, -1)", "torch.ops.aten.softmax"),
        ("torch.compile(double)(x)", "torch.compile"),
        ("torch.cuda.Stream()", "torch.cuda.Stream"),
        ("torch.utils.cpp_extension.load('x')", "torch.utils.cpp_extension.load"),
        ("triton.runtime.driver", "triton.runtime.driver"),
        ("tl.inline_asm_elementwise('x')", "triton.language.inline_asm_elementwise"),
        ("x.softmax(-1)", ".softmax"),
        ("x.copy_(x)", ".copy_"),
        ("x.data", ".data"),
        ("scale.fn(x)", ".fn"),
    ],
)
def test_work_done_by_the_library_is_refused(triton: Triton, line: str, named: str) -> None:
    refused = triton.policy(DOUBLE + f"\n\ndef more(x):\n    return {line}\n", ())
    assert refused is not None
    assert f"{named} is not among" in refused


@pytest.mark.parametrize(
    "allow, line",
    [
        ("aten::mm", "torch.mm(x, x)"),
        ("aten::mm", "x @ x"),
        ("aten::mm", "x.matmul(x)"),
        ("aten::bmm.out", "torch.bmm(x, x)"),
        ("aten::_softmax", "torch.nn.functional.softmax(x, -1)"),
        ("aten::sort", "torch.ops.aten.sort(x)"),
    ],
)
def test_what_the_spec_allows_may_be_called_by_its_usual_names(triton: Triton, allow: str, line: str) -> None:
    source = f"import torch\ndef f(x):\n    return {line}\n"
    assert triton.policy(source, ()) is not None
    assert triton.policy(source, (allow,)) is None


@pytest.mark.parametrize(
    "line",
    [
        "torch.empty_strided(x.shape, x.stride(), dtype=torch.float32)",
        "x.transpose(0, 1).contiguous().view(-1)",
        "torch.zeros((x.shape[0],), dtype=torch.int32)",
        "torch.finfo(x.dtype).max",
        "x.new_empty((x[0].item(),))",
        "[part.data_ptr() for part in x.split(4)]",
    ],
)
def test_allocation_views_and_metadata_are_allowed(triton: Triton, line: str) -> None:
    assert triton.policy(f"import torch\ndef f(x):\n    return {line}\n", ()) is None


def test_the_artifact_is_named_by_its_contents_and_built_once(triton: Triton, tmp_path: Path) -> None:
    first = triton.build(DOUBLE, entry="double", target=TARGET, cache=tmp_path / "new", timeout_s=1)
    again = triton.build(DOUBLE, entry="double", target=TARGET, cache=tmp_path / "new", timeout_s=1)
    other = triton.build(DOUBLE + "\n", entry="double", target=TARGET, cache=tmp_path / "new", timeout_s=1)
    assert first.artifact.read_text() == DOUBLE
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert first.artifact == again.artifact != other.artifact


def test_concurrent_builds_leave_one_whole_file(triton: Triton, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        built = list(pool.map(lambda _: triton.build(DOUBLE, entry="double", target=TARGET, cache=tmp_path, timeout_s=1), range(32)))
    assert [path.read_text() for path in tmp_path.iterdir()] == [DOUBLE]
    assert len({one.artifact for one in built}) == 1


def test_an_artifact_changed_after_its_build_is_not_run(triton: Triton, tmp_path: Path) -> None:
    artifact = triton.build(DOUBLE, entry="double", target=TARGET, cache=tmp_path, timeout_s=1).artifact
    artifact.write_text("raise SystemExit('planted')\n")
    with pytest.raises(ValueError, match="is not what was built: expected contents with SHA-256"):
        triton.load(artifact, entry="double", target=TARGET)


LOAD = """
import json, sys
from pathlib import Path
import torch
from kevolve.languages.triton import Triton
loaded = Triton().load(Path(sys.argv[1]), entry="double", target=None)
x = torch.arange(70.0).to(torch.bfloat16)
print(json.dumps([
    torch.equal(loaded.call(x), x * 2), torch.equal(loaded.backward(x), x * 2), loaded.prepare is None, loaded.call.__module__,
]))
"""


def test_a_loaded_kernel_runs_interpreted_under_a_private_name_and_leaves_no_bytecode(triton: Triton, tmp_path: Path) -> None:
    artifact = triton.build(DOUBLE, entry="double", target=TARGET, cache=tmp_path, timeout_s=1).artifact
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", LOAD, artifact], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True, True, f"_kevolve_kernel_{artifact.stem[:16]}"]
    assert list(tmp_path.iterdir()) == [artifact]


LOOP = """
import torch
import triton
import triton.language as tl


@triton.jit
def add_up(x, out, cols, BLOCK: tl.constexpr):
    total = 0.0
    for start in range(0, cols, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.sum(tl.load(x + at, mask=at < cols, other=0.0))
    tl.store(out, total)


def total(x: torch.Tensor) -> torch.Tensor:
    out = torch.empty(1)
    add_up[(1,)](x, out, x.shape[0], BLOCK=16)
    return out
"""
LOAD_LOOP = """
import sys
from pathlib import Path
import torch
from kevolve.languages.triton import Triton
for _ in range(2):
    print(Triton().load(Path(sys.argv[1]), entry="total", target=None).call(torch.ones(70)).item())
"""


def test_a_loop_up_to_an_argument_is_interpreted_with_every_pair_of_triton_and_numpy(triton: Triton, tmp_path: Path) -> None:
    artifact = triton.build(LOOP, entry="total", target=TARGET, cache=tmp_path, timeout_s=1).artifact
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", LOAD_LOOP, artifact], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["70.0", "70.0"], done.stderr


def test_importing_the_language_imports_neither_torch_nor_triton() -> None:
    code = "import sys, kevolve.languages.triton; print('torch' in sys.modules, 'triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "False"], done.stderr
