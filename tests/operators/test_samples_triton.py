"""The Triton samples: right when interpreted, compilable for every GPU generation they are meant for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve.operators.samples.library import SAMPLES
from tests.operators.interpreted import FLOATS, loaded, network, source

ROOT = Path(__file__).parents[2]
NAMES = [sample.name for sample in SAMPLES if "triton" in sample.templates]
GROUPS = [
    ["rms_norm_backward", "layer_norm_backward"],
    ["softmax", "log_softmax"],
    ["cross_entropy", "map_id", "mbdt", "batch_event_truncate", "embedding_bag"],
    ["factorisation_machine", "conv1d_padded"],
    ["personalised_feed_forward", "inverted_index"],
    ["conv2d_lines"],
    ["attention_causal", "attention_decode", "sdpa_mlp_decode", "sdpa_mlp"],
]
NEIGHBOURS = [  # compiled for sm_80 and sm_100 too
    *("rms_norm_backward", "embedding_bag", "personalised_feed_forward", "inverted_index", "conv2d_lines"),
    *("attention_causal", "attention_decode", "sdpa_mlp_decode", "sdpa_mlp"),
]
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int8: "*i8",
}


def test_every_sample_has_a_triton_template() -> None:
    assert sorted(NAMES) == sorted(sample.name for sample in SAMPLES)
    assert sorted(NAMES) == sorted(name for group in GROUPS for name in group)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_no_helper_of_a_sample_has_the_name_of_an_operator_that_it_may_be_asked_for(sample: Any) -> None:
    """The entry has the spec's name, and would stand in the helper's place."""
    named = re.compile(r"^def (\w+)", re.MULTILINE)
    functions = set(named.findall(source(sample.name))) - {sample.name, f"{sample.name}_backward"}
    operators = {name for file in (ROOT / "reference_ops").glob("*.py") for name in named.findall(file.read_text())}
    assert functions & operators == set()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_interpreted_samples_agree_with_float64(group: list[str]) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.operators.interpreted", *group]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.endswith(" 0 disagreements")] == [], done.stderr
    assert [line.partition(":")[0] for line in lines] == group, done.stderr


def inputs_of(name: str, dtype: torch.dtype) -> tuple[Any, ...]:
    """Inputs of a size that leads to every kernel of the file under small knobs: rows too long to be held whole."""
    x, vector = torch.zeros(8, 512, dtype=dtype), torch.zeros(512, dtype=dtype)
    integers = torch.ones(64, dtype=torch.int64)
    special: dict[str, tuple[Any, ...]] = {
        "rms_norm_backward": (x, x, vector),
        "layer_norm_backward": (x, x, vector),
        "cross_entropy": (x, integers[:8]),
        "map_id": (integers, integers),
        "mbdt": (x, x[:, :64]),
        "batch_event_truncate": (integers.view(2, 32), integers, vector[:64], 3),
        "embedding_bag": (torch.zeros(64, 128, dtype=torch.int8), torch.zeros(64), integers, integers),
        "factorisation_machine": (x.view(2, 8, 256), x.view(2, 8, 256)),
        "attention_causal": (x.view(1, 8, 4, 128), *[x[:2].view(1, 2, 4, 128)] * 2),
        "attention_decode": (x[:2].view(1, 8, 128), *[x[:1].view(1, 4, 128)] * 2, *[torch.zeros(1, 4, 256, 128, dtype=dtype)] * 2, 255),
        "sdpa_mlp_decode": (
            *(x.view(2, 16, 128), *[x[:4].view(2, 8, 128)] * 2, *[torch.zeros(2, 8, 256, 128, dtype=dtype)] * 2, 255),
            *(*[torch.zeros(512, 2048, dtype=dtype)] * 2, torch.zeros(2048, 512, dtype=dtype)),
        ),
        "sdpa_mlp": (
            *(x.view(1, 8, 4, 128), *[x[:2].view(1, 2, 4, 128)] * 2),
            *(*[torch.zeros(64, 1024, dtype=dtype)] * 2, torch.zeros(1024, 64, dtype=dtype)),
        ),
        "conv1d_padded": (x.view(2, 16, 128), vector[:384].view(8, 16, 3), vector[:8]),
        "conv2d_lines": (x.view(2, 1, 128, 16), vector[:384].view(8, 1, 3, 16), vector[:8]),
        "personalised_feed_forward": network(1, 8, 64, 192, dtype),
        "inverted_index": (integers, integers, vector[:64].float(), integers.view(8, 8), vector[:64].view(8, 8).float(), 5000, 100),
    }
    sample = next(sample for sample in SAMPLES if sample.name == name)
    return special.get(name, (x, *([vector] * (len(sample.example()) - 1))))


def compile_launches(
    name: str, inputs: tuple[Any, ...], knobs: dict[str, Any], arch: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Compile each kernel that a call launches, instead of launching it: PTX by kernel name."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    compiled: dict[str, str] = {}

    def compile_instead(kernel: Any, *arguments: Any, grid: Any, warmup: bool, num_warps: int, **constants: Any) -> None:
        values = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
        given = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
        plain = {parameter.name for parameter in kernel.params if parameter.do_not_specialize}  # of the rest a launch specialises
        ones = {key for key, value in values.items() if isinstance(value, int) and value == 1 and key not in plain}
        constexprs = {key: values[key] for key in values if key in given | ones}
        signature = {key: "constexpr" if key in constexprs else _type(value) for key, value in values.items()}
        aligned = [i for i, (key, value) in enumerate(values.items()) if key not in {*constexprs, *plain} and _divisible_by_16(value)]
        attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
        launched = ASTSource(kernel, signature, constexprs, attributes)
        made = triton.compile(launched, target=GPUTarget("cuda", arch, 32), options={"num_warps": num_warps})
        compiled[kernel.__name__] = made.asm["ptx"]

    with monkeypatch.context() as patched:
        patched.setattr(JITFunction, "run", compile_instead)
        patched.setattr(torch.Tensor, "new_empty", torch.Tensor.new_zeros)  # sizes that a kernel would have computed are read back
        kernel = loaded(name, tuple(knobs.items()))
        kernel.call(*inputs)
        if kernel.backward is not None:
            kernel.backward(torch.zeros_like(inputs[1]) if name == "factorisation_machine" else torch.zeros(()), *inputs)
    return compiled


def _divisible_by_16(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0)


def _type(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def knobs_of(name: str, *, small: bool) -> dict[str, Any]:
    """No knobs, or those that lead a row of 512 into the kernels for long rows."""
    sample = next(sample for sample in SAMPLES if sample.name == name)
    return {"longest": 128} if small and "longest" in sample.knobs["triton"] else {}


@pytest.fixture
def _compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not said
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_compiles_for_sm90_without_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compile_launches(name, inputs_of(name, torch.bfloat16), knobs_of(name, small=False), 90, monkeypatch)
    compiled |= compile_launches(name, inputs_of(name, torch.bfloat16), knobs_of(name, small=True), 90, monkeypatch)
    assert compiled
    assert all(".target sm_90" in ptx for ptx in compiled.values())


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("name", ["rms_norm_backward", "layer_norm_backward", "softmax", "log_softmax", "cross_entropy"])
def test_rows_are_read_and_written_sixteen_bytes_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compile_launches(name, inputs_of(name, torch.bfloat16), {}, 90, monkeypatch)
    assert any(re.search(r"ld\.global\S*\.v4\.b32", ptx) and re.search(r"st\.global\S*\.v4\.b32", ptx) for ptx in compiled.values())


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize(
    "name", ["rms_norm_backward", "layer_norm_backward", "log_softmax", "cross_entropy", "mbdt", "batch_event_truncate"]
)
def test_sizes_and_strides_of_one_compile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = tuple(_shrunk(value) for value in inputs_of(name, torch.float32))
    assert compile_launches(name, inputs, {}, 90, monkeypatch)


def _shrunk(value: Any) -> Any:
    """One element along every axis."""
    return value[(slice(1),) * value.ndim].contiguous() if isinstance(value, torch.Tensor) else 1


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("arch", [80, 100])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_samples_compile_for_the_neighbouring_generations(name: str, arch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compile_launches(name, inputs_of(name, FLOATS[0]), {}, arch, monkeypatch)
    assert all(f".target sm_{arch}" in ptx for ptx in compiled.values())
