"""The C++ samples compute what their patterns say: sizes around every tail, every layout, every dtype, against float64."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import tvm_ffi
from tvm_ffi.libinfo import find_include_path, find_libtvm_ffi

from kevolve.languages import native
from kevolve.languages.cpp import Cpp, compiler
from kevolve.operators.samples import library
from kevolve.operators.samples.library import SAMPLES
from suites.paper.test_paper_retrieval import inverted_index_inputs

BY_NAME = {sample.name: sample for sample in SAMPLES}
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-Wall", "-Werror", f"-I{find_include_path()}"]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
INPUTS = {
    "rms_norm_backward": ("dy", "x", "weight"),
    "layer_norm_backward": ("dy", "x", "weight"),
    "softmax": ("x",),
    "log_softmax": ("x",),
    "cross_entropy": ("logits", "target"),
    "map_id": ("values", "ids"),
    "mbdt": ("x", "borders"),
    "batch_event_truncate": ("outer_lengths", "inner_lengths", "values", "max_events"),
    "embedding_bag": ("table", "scale", "indices", "offsets"),
    "factorisation_machine": ("features", "ranks"),
    "personalised_feed_forward": ("rows", "w1", "b1", "norm1", "w2", "b2", "norm2"),
    "inverted_index": ("offsets", "documents", "weights", "terms", "term_weights", "count", "top"),
    "conv1d_padded": ("signal", "filters", "bias"),
    "conv2d_lines": ("image", "filters", "bias"),
    "attention_causal": ("queries", "keys", "values"),
    "attention_decode": ("q", "k", "v", "keys", "values", "place"),
    "sdpa_mlp": ("q", "k", "v", "gates", "ups", "downs"),
    "sdpa_mlp_decode": ("q", "k", "v", "keys", "values", "place", "gates", "ups", "downs"),
}
SWEEP = [*range(1, 35), *range(47, 50), *range(63, 66), *range(95, 98), *range(127, 130), 191, 193, 200]  # around every vector width
ROW_KERNELS = [name for name, inputs in INPUTS.items() if "x" in inputs and name != "mbdt"]


@pytest.fixture(scope="module")
def prelude(shared_folder: Path) -> Path:
    return shared_folder / "sample-preludes"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prelude: Path) -> Callable[..., Any]:
    """Builds a sample once and gives its entry function."""
    folder: Path = tmp_path_factory.mktemp("samples")
    modules: dict[str, Any] = {}

    def build(name: str, entry: str | None = None) -> Any:
        built_as, gradient = entry or name, entry == f"{name}_backward"
        if built_as not in modules:
            sample = BY_NAME[name]
            text = sample.render("cpp", entry=name, inputs=INPUTS[name], constants=sample.constants, knobs={}, gradient=gradient)
            modules[built_as] = compile_source(text, folder / built_as, prelude)
        return torch_outputs(getattr(modules[built_as], built_as))

    return build


def torch_outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """A tuple comes back as an array of the runtime's own tensors."""

    def call(*inputs: Any) -> Any:
        result = function(*inputs)
        return result if isinstance(result, torch.Tensor) else tuple(torch.from_dlpack(item) for item in result)

    return call


def compile_source(text: str, stem: Path, prelude: Path, cxx: str | None = None) -> Any:
    """Compile without optimisation flags that change results, and load. ``prelude``: a folder for the header that comes first."""
    source, library = stem.with_suffix(".cpp"), stem.with_suffix(".so")
    source.write_text(text)
    runtime, found = Path(find_libtvm_ffi()), cxx or compiler() or "g++"
    flags = [*FLAGS, "-Wno-pass-failed"] if "clang" in found else FLAGS  # it says so where it does not vectorise
    header = precompiled(found, flags, prelude)
    command = [found, *flags, "-shared", "-include", header, source, runtime, f"-Wl,-rpath,{runtime.parent}", "-o", library]
    ended(command)
    return tvm_ffi.load_module(str(library))


def precompiled(cxx: str, flags: list[str], folder: Path) -> Path:
    """The headers that every sample includes, compiled once a compiler for all workers: half of what a sample takes."""
    header = folder / Path(cxx).name / "prelude.h"
    made = header.with_suffix(".h.pch" if "clang" in cxx else ".h.gch")
    with native.locked(header.parent):
        if not made.exists():
            header.write_text("#include <tvm/ffi/extra/c_env_api.h>\n#include <tvm/ffi/tvm_ffi.h>\n#include <omp.h>\n")
            ended([cxx, *flags, "-x", "c++-header", header, "-o", made.with_suffix(".part")])
            made.with_suffix(".part").rename(made)
    return header


def ended(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def expect_close(got: Any, expected: Any, dtype: torch.dtype) -> None:
    """Equal dtype and shape; values within the dtype's tolerance of the output's scale; the same NaN and infinities."""
    got, expected = (value if isinstance(value, tuple) else (value,) for value in (got, expected))
    assert len(got) == len(expected)
    for mine, right in zip(got, expected, strict=True):
        assert mine.shape == right.shape
        if right.is_floating_point():
            scale = max(1.0, float(right[right.isfinite()].abs().max())) if right.isfinite().any() else 1.0
            torch.testing.assert_close(mine.double(), right.double(), rtol=0, atol=TOLERANCE[dtype] * scale, equal_nan=True)
        else:
            assert torch.equal(mine, right)


def wide(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value for value in inputs)


def row_inputs(name: str, rows: int, cols: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    vectors = {"weight", "bias"}
    shapes = [(cols,) if argument in vectors else (rows, cols) for argument in INPUTS[name]]
    return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)


def layouts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The same values, laid out otherwise."""
    yield tensor.T.contiguous().T if tensor.ndim == 2 else tensor
    padded = torch.zeros([size + 3 for size in tensor.shape], dtype=tensor.dtype)[tuple(slice(2, 2 + size) for size in tensor.shape)]
    yield padded.copy_(tensor)
    strided = torch.zeros([size * 2 for size in tensor.shape], dtype=tensor.dtype)[(slice(None, None, 2),) * tensor.ndim]
    yield strided.copy_(tensor)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("name", ROW_KERNELS)
def test_row_kernels_agree_with_float64_at_every_size(built: Any, name: str, dtype: torch.dtype) -> None:
    sample, kernel = BY_NAME[name], built(name)
    empty = [0] if "norm" not in name else []  # of empty rows there is no norm
    for cols in [*empty, *SWEEP, 255, 256, 257, 1000, 2049, 4099]:
        inputs = row_inputs(name, 3, cols, dtype, seed=cols)
        expect_close(kernel(*inputs), sample.patterns[0](*wide(inputs)), dtype)
    for rows in (0, 1, 65, 130):
        inputs = row_inputs(name, rows, 300, dtype)
        expect_close(kernel(*inputs), sample.patterns[0](*wide(inputs)), dtype)


@pytest.mark.skipif(Cpp().missing() is not None, reason=f"needs a C++ compiler: {Cpp().missing()}")
@pytest.mark.parametrize("name", sorted(INPUTS))
def test_the_other_compiler_takes_every_sample(name: str, tmp_path: Path, prelude: Path) -> None:
    """Where both g++ and clang++ are installed; the tests around this one run with the first of $CXX, g++ and clang++."""
    other = "g++" if "clang" in str(compiler()) else "clang++"
    if shutil.which(other) is None:
        pytest.skip(f"{other} is not installed")
    text = BY_NAME[name].render("cpp", entry=name, inputs=INPUTS[name], constants=BY_NAME[name].constants, knobs={})
    assert compile_source(text, tmp_path / name, prelude, other).implements_function(name)


@pytest.mark.parametrize("name", ROW_KERNELS)
def test_row_kernels_follow_strides_and_keep_the_dtype(built: Any, name: str) -> None:
    kernel = built(name)
    for dtype in TOLERANCE:
        inputs = row_inputs(name, 7, 37, dtype)
        expected = kernel(*inputs)
        for arranged in zip(*(list(layouts(value)) for value in inputs), strict=True):
            expect_close(kernel(*arranged), expected, dtype)
        repeated = tuple(value[:1].expand_as(value) for value in inputs)
        expect_close(kernel(*repeated), kernel(*(value.contiguous() for value in repeated)), dtype)
        outputs = expected if isinstance(expected, tuple) else (expected,)
        assert {output.dtype for output in outputs} == {dtype}


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_row_kernels_take_any_rank(built: Any, name: str) -> None:
    kernel = built(name)
    flat = row_inputs(name, 24, 10, torch.float32)
    cube = tuple(value.reshape(2, 3, 4, 10) if value.ndim == 2 else value for value in flat)
    swapped = tuple(value.transpose(0, 1).contiguous().transpose(0, 1) if value.ndim == 4 else value for value in cube)
    assert torch.equal(kernel(*cube), kernel(*flat).reshape(2, 3, 4, 10))
    assert torch.equal(kernel(*swapped), kernel(*cube))


def test_softmax_has_the_references_infinities(built: Any) -> None:
    inf = float("inf")
    x = torch.tensor([[0.0, -inf, 1.0], [inf, 0.0, 1.0], [-inf, -inf, -inf], [1e30, -1e30, 3.0], [-200.0, 0.0, 0.0]])
    expect_close(built("softmax")(x), torch.softmax(x.double(), -1), torch.float32)


def test_float16_is_read_and_rounded_as_torch_does(built: Any) -> None:
    """By a convolution that adds two channels: filters of ones, and one tap."""
    every = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(torch.float16)
    ones, zero = torch.ones(1, 2, 1, dtype=torch.float16), torch.zeros(1, dtype=torch.float16)
    for left in (every, every.flip(0), every[torch.randperm(1 << 16, generator=torch.Generator().manual_seed(0))], every * 0.5):
        pairs = torch.stack([left, every])
        got = built("conv1d_padded")(pairs[None], ones, zero)[:, :, 1:-1]  # without the padding
        torch.testing.assert_close(got[0, 0], pairs.float().sum(0).half(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_cross_entropy_and_its_gradient_agree_with_float64(built: Any, dtype: torch.dtype) -> None:
    forward, backward = built("cross_entropy"), built("cross_entropy", "cross_entropy_backward")
    for cols in [*SWEEP, 2047, 2048, 2049, 5000]:
        logits = torch.randn(5, cols, generator=torch.Generator().manual_seed(cols)).mul(4).to(dtype)
        target = torch.arange(5).mul(7) % cols
        exact = logits.double().requires_grad_()
        loss = torch.nn.functional.cross_entropy(exact, target)
        loss.backward()
        expect_close(forward(logits, target), loss.detach(), torch.float32)
        expect_close(backward(torch.tensor(1.0), logits, target), exact.grad, dtype)
        expect_close(backward(torch.tensor(2.0), logits.T.contiguous().T, target.repeat_interleave(2)[::2]), exact.grad * 2, dtype)


def test_cross_entropy_leaves_out_ignored_targets(built: Any) -> None:
    logits, target = torch.randn(4, 50), torch.tensor([3, -100, 7, -100])
    exact = logits.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(exact, target)
    loss.backward()
    expect_close(built("cross_entropy")(logits, target), loss.detach(), torch.float32)
    expect_close(built("cross_entropy", "cross_entropy_backward")(torch.tensor(1.0), logits, target), exact.grad, torch.float32)


def test_map_id_agrees_at_every_size(built: Any) -> None:
    kernel, pattern = built("map_id"), BY_NAME["map_id"].patterns[0]
    for size in [*SWEEP, 1000, 5000]:
        ids = torch.randperm(2 * size + 1)[:size].sort().values - size
        values = torch.randint(-size - 2, size + 3, (size - 1,))
        expected = pattern(values, ids)
        assert torch.equal(kernel(values, ids), expected)
        assert torch.equal(kernel(values.repeat_interleave(2)[::2], ids.repeat_interleave(3)[::3]), expected)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_mbdt_agrees_at_every_size(built: Any, dtype: torch.dtype) -> None:
    kernel, pattern = built("mbdt"), BY_NAME["mbdt"].patterns[0]
    for size in [0, *SWEEP, 511, 512, 513, 2048]:
        x, borders = torch.randn(3, size).to(dtype), torch.randn(3, (size * 7) % 73).to(dtype).sort(-1).values
        expected = pattern(x, borders)
        assert torch.equal(kernel(x, borders), expected)
        assert torch.equal(kernel(x.T.contiguous().T, borders.T.contiguous().T), expected)


def test_mbdt_gives_the_papers_example(built: Any) -> None:
    x, borders = torch.tensor([[0.1, 0.4, 0.8], [0.2, 0.5, 0.9]]), torch.tensor([[0.3, 0.6], [0.4, 0.7]])
    assert built("mbdt")(x, borders).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_batch_event_truncate_gives_the_papers_example(built: Any) -> None:
    outer, inner = torch.tensor([[3, 4, 1]]), torch.tensor([1, 0, 2, 0, 3, 1, 1, 1])
    got = built("batch_event_truncate")(outer, inner, torch.arange(1, 10), 2)
    assert [value.tolist() for value in got] == [[[2, 2, 1]], [1, 0, 0, 3, 1], [1, 4, 5, 6, 9]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_batch_event_truncate_agrees_at_every_size(built: Any, dtype: torch.dtype) -> None:
    kernel, pattern = built("batch_event_truncate"), BY_NAME["batch_event_truncate"].patterns[0]
    for users in [*range(12), 33, 300]:
        outer = torch.randint(0, 20, (3, users))
        inner = torch.randint(0, 4, (int(outer.sum()),))
        values = torch.arange(int(inner.sum())).to(dtype)
        for limit in (0, 1, 7, 30):
            expected = pattern(outer, inner, values, limit)
            strided = (outer.T.contiguous().T, inner.repeat_interleave(2)[::2], values.repeat_interleave(2)[::2])
            expect_close(kernel(outer, inner, values, limit), expected, torch.float32)
            expect_close(kernel(*strided, limit), expected, torch.float32)


def test_embedding_bag_agrees_at_every_size(built: Any) -> None:
    kernel, pattern = built("embedding_bag"), BY_NAME["embedding_bag"].patterns[0]
    for dim in [0, *SWEEP, 256, 300]:
        table, scale = torch.randint(-128, 128, (50, dim), dtype=torch.int8), torch.rand(50)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(0, 9, (dim % 30,)).cumsum(0)])
        indices = torch.randint(0, 50, (int(offsets[-1]),))
        expected = pattern(table, scale, indices, offsets)
        strided = (table.T.contiguous().T, *(value.repeat_interleave(2)[::2] for value in (scale, indices, offsets)))
        expect_close(kernel(table, scale, indices, offsets), expected, torch.float32)
        expect_close(kernel(*strided), expected, torch.float32)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_factorisation_machine_agrees_at_every_size(built: Any, dtype: torch.dtype) -> None:
    kernel, pattern = built("factorisation_machine"), BY_NAME["factorisation_machine"].patterns[0]
    sizes = [(batch, 5, 7, 9) for batch in (0, 1, 3)] + [(2, rows, 20, 40) for rows in (0, *range(1, 15), 30)]
    sizes += [(2, 7, dim, 5) for dim in (1, 15, 16, 17, 33)] + [(1, 5, 3, rank) for rank in SWEEP]
    for batch, rows, dim, rank in sizes:
        x, y = torch.randn(batch, rows, dim).to(dtype), torch.randn(batch, rows, rank).to(dtype)
        expect_close(kernel(x, y), pattern(*wide((x, y))), dtype)
        moved = (x.transpose(0, 2).contiguous().transpose(0, 2), y.repeat_interleave(2, -1)[..., ::2])
        expect_close(kernel(*moved), pattern(*wide((x, y))), dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_factorisation_machine_s_gradients_agree(built: Any, dtype: torch.dtype) -> None:
    kernel, pattern = built("factorisation_machine", "factorisation_machine_backward"), BY_NAME["factorisation_machine"].patterns[0]
    for batch, rows, dim, rank in [(0, 3, 4, 5), (3, 5, 7, 9), (1, 1, 1, 1), (2, 14, 33, 65), (2, 30, 100, 17)]:
        slope, x, y = (torch.randn(batch, rows, size).to(dtype) for size in (rank, dim, rank))
        leaves = [value.double().requires_grad_() for value in (x, y)]
        expected = torch.autograd.grad(pattern(*leaves), leaves, slope.double())
        for got, wanted in zip(kernel(slope, x, y), expected, strict=True):
            expect_close(got, wanted, dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_convolution_agrees_at_every_size(built: Any, dtype: torch.dtype) -> None:
    kernel, pattern = built("conv1d_padded"), BY_NAME["conv1d_padded"].patterns[0]
    sizes = [(batch, 3, 5, 7, 3) for batch in (0, 1, 4)] + [(2, channels, 3, 10, 3) for channels in range(1, 9)]
    sizes += [(2, 3, out, 10, 3) for out in range(1, 15)] + [(1, 2, 3, length, 3) for length in SWEEP]
    sizes += [(1, 2, 3, 12, taps) for taps in (1, 2, 4, 5)]
    for batch, channels, out, length, taps in sizes:
        x, weight = torch.randn(batch, channels, length).to(dtype), torch.randn(out, channels, taps).to(dtype)
        bias = torch.randn(out).to(dtype)
        expected = pattern(*wide((x, weight, bias)))
        expect_close(kernel(x, weight, bias), expected, dtype)
        moved = (x.transpose(0, 1).contiguous().transpose(0, 1), weight.repeat_interleave(2, -1)[..., ::2], bias.repeat_interleave(2)[::2])
        expect_close(kernel(*moved), expected, dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_convolution_of_lines_agrees_at_every_size(built: Any, dtype: torch.dtype) -> None:
    kernel, pattern = built("conv2d_lines"), BY_NAME["conv2d_lines"].patterns[0]
    sizes = [(batch, 2, 7, 3, 5, 3) for batch in (0, 1, 4)] + [(2, 1, 10, channels, 3, 3) for channels in range(1, 9)]
    sizes += [(1, 1, 10, 3, out, 3) for out in SWEEP] + [(1, 2, length, 2, 3, 3) for length in range(1, 15)]
    sizes += [(1, 1, 12, 2, 3, taps) for taps in (1, 2, 4, 5)]
    for batch, lines, length, channels, out, taps in sizes:
        x, weight = torch.randn(batch, lines, length, channels).to(dtype), torch.randn(out, 1, taps, channels).to(dtype)
        bias = torch.randn(out).to(dtype)
        expected = pattern(*wide((x, weight, bias)))
        expect_close(kernel(x, weight, bias), expected, dtype)
        moved = (x.transpose(1, 3).contiguous().transpose(1, 3), weight.repeat_interleave(2, -1)[..., ::2], bias.repeat_interleave(2)[::2])
        expect_close(kernel(*moved), expected, dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_personalised_feed_forward_agrees_at_every_size(built: Any, dtype: torch.dtype) -> None:
    kernel, pattern = built("personalised_feed_forward"), BY_NAME["personalised_feed_forward"].patterns[0]
    sizes = [(batch, 3, 5, 7) for batch in (0, 1, 4)] + [(2, rows, 6, 9) for rows in range(14)]
    sizes += [(1, 3, dim, 20) for dim in SWEEP] + [(1, 3, 20, hidden) for hidden in SWEEP]
    for batch, rows, dim, hidden in sizes:
        shapes = [(batch, rows, dim), (batch, dim, hidden), (batch, hidden), (hidden,), (batch, hidden, dim), (batch, dim), (dim,)]
        inputs = tuple(torch.randn(shape).to(dtype) for shape in shapes)
        expected = pattern(*wide(inputs))
        expect_close(kernel(*inputs), expected, dtype)
        moved = tuple(value.transpose(0, -1).contiguous().transpose(0, -1) for value in inputs[:-1])
        expect_close(kernel(*moved, inputs[-1].repeat_interleave(2)[::2]), expected, dtype)


def test_the_gelu_between_layers_keeps_both_its_tails(built: Any) -> None:
    """One element a row and a unit gain: the norm would hide a lost tail, but an epsilon as large as its square does not."""
    kernel, pattern = built("personalised_feed_forward"), BY_NAME["personalised_feed_forward"].patterns[0]
    x = torch.cat([torch.linspace(-13, 13, 4001), torch.tensor([1e-30, -1e-30, 0.0, 1e15, -1e15])]).view(1, -1, 1)
    one, vector = torch.ones(1, 1, 1), torch.zeros(1, 1)
    inputs = (x, one, vector, one[0, 0], one, vector, one[0, 0])
    expect_close(kernel(*inputs), pattern(*wide(inputs)), torch.float32)


def test_the_inverted_index_agrees_at_every_size(built: Any) -> None:
    kernel, pattern = built("inverted_index"), BY_NAME["inverted_index"].patterns[0]
    generator = torch.Generator().manual_seed(0)
    for count, per_document, batch, length, top in [
        *((count, 3, 2, 4, 10) for count in (*SWEEP, 20000, 40000)),
        (500, 0, 2, 3, 10), (500, 5, 0, 3, 10), (500, 5, 3, 0, 10), (500, 5, 3, 4, 1), (500, 5, 3, 4, 500), (40000, 1, 2, 9, 20000),
    ]:  # fmt: skip
        arguments = dict(count=count, vocabulary=40, per_document=per_document, batch=batch, length=length, top=top)
        inputs = inverted_index_inputs(arguments, generator)
        strided = (*(value.repeat_interleave(2, -1)[..., ::2] for value in inputs[:5]), *inputs[5:])
        every = pattern(*inputs[:5], count, count)
        scores = torch.zeros(batch, count).scatter_(1, every[1], every[0])
        for given in (inputs, strided):
            got, documents = kernel(*given)
            expect_close(got, every[0][:, : min(top, count)], torch.float32)
            expect_close(scores.gather(1, documents), every[0][:, : min(top, count)], torch.float32)
            assert all(len(set(row)) == len(row) for row in documents.tolist())


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_every_pattern_of_a_sample_computes_the_same(name: str) -> None:
    """Else a reference would be matched with a kernel for something else; seen on the sample's own example."""
    sample = BY_NAME[name]
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(example_value(described, generator) for described in sample.example())
    expected = sample.patterns[0](*inputs)
    for pattern in sample.patterns[1:]:
        torch.testing.assert_close(pattern(*inputs), expected)


def example_value(described: Any, generator: torch.Generator) -> Any:
    """A tensor for the few kinds of description that samples' examples use."""
    if isinstance(described, int):
        return described
    dtype = getattr(torch, described.dtype)
    if dtype.is_floating_point:
        values = torch.randn(described.shape, generator=generator)
    elif described.unique:
        values = torch.randperm(int(described.high - described.low), generator=generator)[: described.shape[0]] + int(described.low)
    else:
        low, high = (-128, 128) if described.low is None else (int(described.low), int(described.high))
        values = torch.randint(low, high, described.shape, generator=generator, dtype=dtype)
    return values.sort(-1).values if described.sorted else values


def test_rendering_names_what_it_does_not_know() -> None:
    sample, inputs = BY_NAME["rms_norm_backward"], INPUTS["rms_norm_backward"]
    with pytest.raises(ValueError, match=r"knobs: expected .*'grain'.*, got .*'warp'"):
        sample.render("cpp", entry="f", inputs=inputs, constants=sample.constants, knobs={"warp": 1})
    with pytest.raises(ValueError, match=r"constants: expected \['eps'\], got \[\]"):
        sample.render("cpp", entry="f", inputs=inputs, constants={}, knobs={})


def test_entry_and_arguments_have_the_users_names_and_order() -> None:
    text = BY_NAME["rms_norm_backward"].render(
        "cpp",
        entry="norm",
        inputs=("slope", "hidden", "gain"),
        signature=("gain", "hidden", "slope"),
        constants={"eps": 1e-5},
        knobs={"block_rows": 32},
    )
    assert " norm(TensorView gain, TensorView hidden, TensorView slope) {\n  return detail::compute(slope, hidden, gain);" in text
    assert "TVM_FFI_DLL_EXPORT_TYPED_FUNC(norm, norm);" in text
    assert "constexpr float kEps = 1e-05;" in text
    assert text.startswith("// norm: ")


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_every_value_of_every_knob_renders(name: str) -> None:
    sample = BY_NAME[name]
    for knob, values in sample.knobs["cpp"].items():
        texts = {sample.render("cpp", entry=name, inputs=INPUTS[name], constants=sample.constants, knobs={knob: value}) for value in values}
        assert len(texts) == len(values)


EXPONENTIAL = """
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
namespace {{ {helpers} }}
extern "C" void small(const float* x, float* y, long count) {{ for (long i = 0; i < count; ++i) y[i] = exponential_of_small(x[i]); }}
"""


@pytest.fixture(scope="module")
def exponential(tmp_path_factory: pytest.TempPathFactory) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of ``_exp.cpp.jinja`` over tensors."""
    folder = tmp_path_factory.mktemp("exponential")
    helpers = (Path(library.__file__).parent / "_exp.cpp.jinja").read_text()
    (folder / "exp.cpp").write_text(EXPONENTIAL.format(helpers=helpers))
    subprocess.run([compiler() or "g++", "-O3", "-march=native", "-fPIC", "-shared", "exp.cpp", "-o", "exp.so"], cwd=folder, check=True)
    loaded = ctypes.CDLL(str(folder / "exp.so"))

    def call(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty_like(x)
        loaded.small(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), ctypes.c_long(x.numel()))
        return y

    return call


def test_the_exponential_keeps_its_error_over_the_whole_range_that_it_claims(exponential):
    dense = torch.linspace(-86.9, 88.72, 2_000_003, dtype=torch.float64).to(torch.float32)
    ends = torch.tensor([-86.89999, -1e-30, 0.0, 1e-30, 88.37, 88.38, 88.4, 88.5, 88.72], dtype=torch.float32)
    x = torch.cat([dense[1:-1], ends])
    error = (exponential(x).double() / x.double().exp() - 1).abs()
    worst = int(error.argmax())
    assert error[worst] <= 2e-7, f"e^{x[worst]:.9g} is off by {error[worst]:.3g}"


def test_below_its_range_the_exponential_is_zero_and_of_nan_nan(exponential):
    assert exponential(torch.tensor([-float("inf"), -1e30, -87.0])).tolist() == [0.0] * 3
    payload = torch.tensor([0x7FC00000, 0x7FC00001, 0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    assert bool(exponential(payload).isnan().all())
