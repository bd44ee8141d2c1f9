"""Compare interpreted Triton samples with float64 formulas: ``python -m tests.operators.interpreted FAMILY`` under TRITON_INTERPRET=1.

A process of its own: Triton decides at import whether its own library is interpreted. Prints one line a disagreement.
"""

from __future__ import annotations

import functools
import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from kevolve.languages.triton import Triton
from kevolve.operators.samples.library import SAMPLES
from kevolve.operators.samples.sample import Sample
from kevolve.targets.cpu import CPU
from reference_ops import attention, convolutions, interformer, recommendation, retrieval, transformer
from suites.paper.test_paper_retrieval import inverted_index_inputs

EPS = 1e-6
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
# Around one program's tile, one step and one vector; knobs are set small, so that every size crosses some boundary.
TAILS = (0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 65, 70, 127, 128, 129, 130)
SMALL_ROW_KNOBS: dict[str, Any] = {"tile": 128, "longest": 64, "block": 32, "programs": 3, "wide": 64}
Case = tuple[str, tuple[Any, ...], Callable[..., Any], dict[str, Any]]  # label, inputs, formula, knobs


def sample_of(name: str) -> Sample:
    return next(sample for sample in SAMPLES if sample.name == name)


def source(name: str, **knobs: Any) -> str:
    """The sample's text in Triton with real arguments."""
    sample = sample_of(name)
    inputs = tuple(f"argument_{position}" for position in range(len(sample.example())))
    constants = dict.fromkeys(sample.constants, EPS)
    return sample.render("triton", entry=name, inputs=inputs, constants=constants, knobs=knobs, gradient=True)


@functools.cache
def loaded(name: str, knobs: tuple[tuple[str, Any], ...]) -> Any:
    """The sample's functions, checked and built as a candidate's would be."""
    language, text, cache_folder = Triton(), source(name, **dict(knobs)), Path(tempfile.mkdtemp())
    for problem in (language.missing(), language.parse(text, name), language.policy(text, sample_of(name).calls.get("triton", ()))):
        if problem is not None:
            raise AssertionError(f"{name}: {problem}")
    built = language.build(text, entry=name, target=CPU(), cache=cache_folder, timeout_s=10)
    return language.load(built.artifact, entry=name, target=CPU())


def rms(x: torch.Tensor) -> torch.Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()


def layer(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True)) * (x.var(-1, keepdim=True, unbiased=False) + EPS).rsqrt()


def rms_gradients(dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x, weight = x.requires_grad_(), weight.requires_grad_()
    return torch.autograd.grad(rms(x) * weight, (x, weight), dy)


def layer_gradients(dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x, weight, bias = x.requires_grad_(), weight.requires_grad_(), torch.zeros_like(weight).requires_grad_()
    return torch.autograd.grad(layer(x) * weight + bias, (x, weight, bias), dy)


BACKWARD = ("rms_norm_backward", "layer_norm_backward")
ROW_FORMULAS: dict[str, tuple[Callable[..., Any], int, int]] = {  # formula, inputs of shape [rows, cols], of shape [cols]
    "rms_norm_backward": (rms_gradients, 2, 1),
    "layer_norm_backward": (layer_gradients, 2, 1),
    "softmax": (lambda x: x.softmax(-1), 1, 0),
    "log_softmax": (lambda x: x.log_softmax(-1), 1, 0),
}


def row_cases(name: str) -> Iterator[Case]:
    """Tails in both directions, every dtype, defaults and small knobs, layouts that are not contiguous, other ranks."""
    formula, matrices, vectors = ROW_FORMULAS[name]
    sample = next(sample for sample in SAMPLES if sample.name == name)
    small = {knob: value for knob, value in SMALL_ROW_KNOBS.items() if knob in sample.knobs["triton"]}
    few = 0 if vectors == 0 else 1  # empty rows have no mean to go by
    shapes = [(3, cols) for cols in TAILS if cols >= few] + [(rows, 5) for rows in TAILS]
    settings = [(shape, FLOATS[index % 3], small) for index, shape in enumerate(shapes)]
    settings += [((5, 37), dtype, {}) for dtype in FLOATS] + [((2, 300), dtype, small) for dtype in FLOATS] + [((0, 4), torch.float32, {})]
    for (rows, cols), dtype, knobs in settings:
        inputs = [torch.randn(rows, cols).to(dtype) for _ in range(matrices)] + [torch.randn(cols).to(dtype) for _ in range(vectors)]
        yield f"{dtype} {rows}x{cols} {knobs}", tuple(inputs), formula, knobs
    for cols, transform in itertools.product(
        (5, 70),
        (
            lambda x: x.t().contiguous().t(),
            lambda x: torch.cat([x, x], 1)[:, 1 : 1 + x.shape[1]],
            lambda x: x[:1].expand(x.shape[0], -1),
        ),
    ):
        inputs = [transform(torch.randn(6, cols)) for _ in range(matrices)] + [torch.randn(2 * cols)[::2] for _ in range(vectors)]
        yield f"strides {inputs[0].stride()} {inputs[0].shape}", tuple(inputs), formula, small
    if name not in BACKWARD:
        for shape in ((7,), (2, 3, 7)):
            inputs = [torch.randn(shape) for _ in range(matrices)] + [torch.randn(7) for _ in range(vectors)]
            yield f"shape {shape}", tuple(inputs), formula, {}


def cross_entropy_cases() -> Iterator[Case]:
    """The loss and its gradient, as a tuple."""

    def formula(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = logits.requires_grad_()
        loss = functional.cross_entropy(logits, target)
        return loss, *torch.autograd.grad(loss, logits)

    shapes = [(3, cols) for cols in TAILS if cols > 0] + [(rows, 5) for rows in (0, 1, 2, 17)] + [(5, 300)]
    for index, (rows, cols) in enumerate(shapes):
        dtype = FLOATS[index % 3]
        yield f"{dtype} {rows}x{cols}", (torch.randn(rows, cols).to(dtype), torch.randint(0, cols, (rows,))), formula, {"block": 32}
    yield "transposed", (torch.randn(50, 6).t(), torch.randint(0, 50, (12,))[::2]), formula, {}
    masked = torch.where(torch.rand(4, 70) < 0.7, -torch.inf, 1.0)
    masked[:, 69] = 0.0
    yield "masked", (masked, torch.full((4,), 69)), formula, {"block": 16}
    yield "loss as logits", (torch.randn(4, 70).to(torch.bfloat16), torch.full((4,), 69)), formula, {"loss": "as_logits"}


def sorted_ids() -> Iterator[tuple[str, torch.Tensor]]:
    """Ids that a table of their ranges takes: dense, random, in clusters, to both ends of 64 bits, all but one in one range."""
    yield "dense", torch.arange(5, 1029)
    yield "random", torch.randint(0, 1 << 40, (1500,)).unique()
    yield "clustered", (torch.randint(0, 1 << 40, (6, 1)) + torch.arange(250)).flatten().unique()
    ends = torch.tensor([-(1 << 63) + 1, (1 << 63) - 2])
    yield "wide", torch.cat([ends[:1], torch.randint(-(1 << 62), 1 << 62, (1100,)).unique(), ends[1:]])
    yield "lopsided", torch.cat([torch.arange(-1100, 0), torch.tensor([1 << 50])])


def search_cases(name: str) -> Iterator[Case]:
    """Known, unknown, below all, above all; borders counted and searched; values equal to borders, infinite and NaN."""
    if name == "map_id":
        for unique, batch in [(1, 9), *((size, 70) for size in TAILS if size > 1), *((33, size) for size in TAILS)]:
            ids = torch.randperm(3 * unique)[:unique].sort().values + 2
            yield f"{unique} ids, {batch}", (torch.randint(0, 3 * unique + 4, (batch,)), ids), recommendation.map_id, {"block": 32}
        ids = torch.arange(40).mul(1 << 40)[::2]
        yield "strided", (torch.arange(-3, 45).mul(1 << 40)[::3], ids), recommendation.map_id, {}
        for label, known in sorted_ids():
            drawn = known[torch.randint(0, len(known), (1700,))]
            values = torch.cat([drawn + torch.randint(0, 2, drawn.shape), known[:1] - 1, known[-1:] + 1])
            yield f"table of {label}", (values, known), recommendation.map_id, {"lookups": 1, "block": 256}
        return
    for features, batch, known in [(3, size, 4) for size in TAILS] + [(2, 33, size) for size in range(20)] + [(2, 40, 200)]:
        dtype = FLOATS[known % 3]
        x = torch.randint(-9, 10, (features, batch)).to(dtype)
        if batch > 3:
            x[:, 0], x[:, 1], x[:, 2] = torch.inf, -torch.inf, torch.nan
        borders = torch.randint(-8, 9, (features, known)).to(dtype).sort(-1).values
        yield f"{features} {batch} {known}", (x, borders), recommendation.mbdt, {"block": 32, "count_up_to": 8}
    yield "strided", (torch.randn(50, 4).t(), torch.randn(4, 30).sort(-1).values[:, ::2]), recommendation.mbdt, {}


def truncate_cases() -> Iterator[Case]:
    """Users without events, events without values, one user, many blocks of a scan."""
    for features, users, longest, limit in itertools.product((1, 3), (0, 1, 13), (0, 3, 20), (0, 1, 4, 50)):
        outer = torch.randint(0, longest + 1, (features, users))
        inner = torch.randint(0, 3, (int(outer.sum()),))
        values = torch.randn(int(inner.sum()))
        knobs = {"users": 4, "block": 8, "sums": 2}
        yield f"{features} {users} {longest} {limit}", (outer, inner, values, limit), recommendation.batch_event_truncate, knobs
    outer = torch.tensor([[3, 1], [4, 0], [1, 2]]).t()
    inner, values = torch.ones(22, dtype=torch.int64)[::2], torch.arange(22, dtype=torch.int32)[::2]
    yield "strided", (outer, inner, values, 2), recommendation.batch_event_truncate, {}


def embedding_cases() -> Iterator[Case]:
    """Empty bags, dims around a slice, rows around a step."""

    def formula(table: torch.Tensor, scale: torch.Tensor, indices: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        rows = table[indices] * scale[indices][:, None]
        bags = [rows[first:last].sum(0) for first, last in itertools.pairwise(offsets.tolist())]
        return torch.stack(bags) if bags else rows[:0]

    for bags, dim, pooling in [(4, dim, 9) for dim in TAILS if dim > 0] + [(size, 5, 3) for size in TAILS] + [(3, 8, 40), (3, 8, 0)]:
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(0, 2 * pooling + 1, (bags,)).cumsum(0)])
        table, scale = torch.randint(-128, 128, (50, dim), dtype=torch.int8), torch.rand(50)
        inputs = (table, scale, torch.randint(0, 50, (int(offsets[-1]),)), offsets)
        yield f"{bags} {dim} {pooling}", inputs, formula, {"cols": 32, "elements": 128}
    table, scale = torch.randint(-128, 128, (20, 18), dtype=torch.int8).t(), torch.rand(36)[::2]
    indices, offsets = torch.randint(0, 18, (14,))[::2], torch.tensor([0, 0, 3, 3, 5, 5, 7, 7])[::2]
    yield "strided", (table, scale, indices, offsets), formula, {}


def feed_forward_cases() -> Iterator[Case]:
    """Sizes around a tile in every direction, in many settings."""
    name = "personalised_feed_forward"
    sizes = [(2, rows, 9, 11) for rows in (1, 15, 16, 17, 65, 130)] + [(1, 5, dim, 9) for dim in (1, 16, 63, 64, 65, 130)]
    # of one hidden column the norm leaves the sign alone, and divides by what cancels in float32's gelu: not there
    sizes += [(1, 5, 20, hidden) for hidden in (63, 1, 64, 65, 130, 192)] + [(0, 3, 4, 5), (3, 0, 4, 5), (2, 24, 40, 48)]
    for index, (size, knobs) in enumerate(zip(sizes, settings_of(name, len(sizes)), strict=True)):
        dtype = FLOATS[index % 3]
        inputs = network(*size, dtype)
        yield f"{dtype} {size} {knobs}", inputs, interformer.pffn, knobs
    moved = tuple(value.transpose(0, -1).contiguous().transpose(0, -1) for value in network(3, 5, 6, 7, torch.float32))
    yield "strides", moved, interformer.pffn, {}


def network(batch: int, rows: int, dim: int, hidden: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """A personalised feed-forward network's inputs."""
    shapes = [(batch, rows, dim), (batch, dim, hidden), (batch, hidden), (hidden,), (batch, hidden, dim), (batch, dim), (dim,)]
    return tuple(torch.randn(shape).to(dtype) for shape in shapes)


def index_cases() -> Iterator[Case]:
    """Parts and groups that documents fill and do not, more asked for than there are, no postings, no terms; scores alone are unique."""

    def formula(*inputs: Any) -> torch.Tensor:
        narrow = (value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value for value in inputs)
        return retrieval.inverted_index(*narrow)[0]  # its sums are of the type that torch.zeros has

    generator = torch.Generator().manual_seed(3)
    sizes = [(count, 3, 2, 4, 10) for count in (1, 9, 255, 256, 257, 3000)] + [(500, 0, 2, 3, 10), (500, 5, 0, 3, 10), (500, 5, 3, 0, 10)]
    sizes += [(500, 5, 3, 4, 1), (500, 5, 1, 4, 500)]
    for size, knobs in zip(sizes, settings_of("inverted_index", len(sizes)), strict=True):
        arguments = dict(zip(("count", "per_document", "batch", "length", "top"), size, strict=True))
        yield (
            f"{size} {knobs}",
            inverted_index_inputs(arguments | {"vocabulary": 40}, generator),
            formula,
            knobs | {"block": 128, "direct": 200},
        )


def settings_of(name: str, count: int) -> list[dict[str, Any]]:
    """The default setting, then others, in which every value of every knob comes up."""
    knobs = next(sample for sample in SAMPLES if sample.name == name).knobs["triton"]
    return [
        {knob: values[(number // (1 + place % 2)) % len(values)] for place, (knob, values) in enumerate(knobs.items())}
        for number in range(count)
    ]


def product_cases(name: str) -> Iterator[Case]:
    """Sizes around a tile in every direction, in many settings; the interpreter's products know no bfloat16."""
    if name == "factorisation_machine":
        sizes: list[tuple[int, ...]] = [(2, rows, 9, 11) for rows in (1, 15, 16, 17, 64, 65, 70)] + [
            (1, 20, dim, 9) for dim in (1, 32, 33, 70)
        ]
        sizes += [(1, 5, 8, rank) for rank in (1, 31, 32, 33, 70, 130)] + [(0, 3, 4, 5), (3, 0, 4, 5), (2, 24, 40, 48)]
    else:
        sizes = [(2, channels, 5, 9) for channels in (1, 16, 17, 33, 70)] + [(1, 5, out, 9) for out in (1, 31, 33, 65)]
        sizes += [(1, 3, 4, length) for length in (1, 2, 63, 64, 65, 130)] + [(0, 3, 4, 5), (2, 24, 40, 48)]
    for index, (size, knobs) in enumerate(zip(sizes, settings_of(name, len(sizes)), strict=True)):
        dtype = FLOATS[2 * (index % 2)]
        made = [torch.randn(shape).to(dtype) for shape in product_shapes(name, size)]
        yield f"{dtype} {size} {knobs}", tuple(made), FORMULAS[name], knobs
    moved = [torch.randn(shape).transpose(0, -1).contiguous().transpose(0, -1) for shape in product_shapes(name, (3, 5, 6, 7))]
    yield "strides", tuple(moved), FORMULAS[name], {}


def line_cases() -> Iterator[Case]:
    """As ``product_cases``, several lines to an image."""
    sizes = [(2, 2, length, 5, 9) for length in (1, 2, 63, 64, 65)] + [(1, 1, 9, channels, 5) for channels in (1, 16, 17, 33, 70)]
    sizes += [(1, 3, 9, 5, out) for out in (1, 63, 64, 65, 130)] + [(0, 1, 3, 4, 5), (2, 1, 48, 24, 40)]
    for index, (size, knobs) in enumerate(zip(sizes, settings_of("conv2d_lines", len(sizes)), strict=True)):
        dtype = FLOATS[index % 3]
        yield f"{dtype} {size} {knobs}", images(*size, dtype), convolutions.conv2d_channels_last, knobs
    moved = tuple(value.transpose(0, -1).contiguous().transpose(0, -1) for value in images(3, 2, 7, 5, 6, torch.float32))
    yield "strides", moved, convolutions.conv2d_channels_last, {}


def images(batch: int, lines: int, length: int, channels: int, out: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Images with channels last, weights and bias."""
    return tuple(torch.randn(shape).to(dtype) for shape in [(batch, lines, length, channels), (out, 1, 3, channels), (out,)])


def product_shapes(name: str, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    batch, one, two, three = size
    if name == "factorisation_machine":
        return [(batch, one, two), (batch, one, three)]
    return [(batch, one, three), (two, one, 3), (two,)]


def attention_cases(name: str) -> Iterator[Case]:
    """Places around a block, heads that share and do not, dimensions around a tile; as many parts of a cache as programs."""
    knobs: tuple[dict[str, Any], ...] = ({"block_q": 64, "block_k": 64}, {}) if name in PROMPTS else ({"programs": 8}, {})
    if name == "sdpa_mlp_decode":
        knobs = ({"programs": 8, "outs": 4, "depth": 64, "dot_depth": 64, "splits": 4, "block": 64},)
    sizes = [
        (0, 1, 1, 3, 4),
        (2, 1, 1, 1, 1),
        (1, 2, 3, 7, 5),
        (1, 2, 4, 64, 64),
        (1, 1, 2, 65, 63),
        (2, 1, 1, 130, 33),
        (1, 1, 17, 20, 130),
    ]
    for index, (batch, shared, group, length, dim) in enumerate(sizes):
        dtype = FLOATS[index % 3]
        made = attention_inputs(name, batch, shared, group, length, dim)
        for setting in knobs:
            inputs = tuple(value.to(dtype) if isinstance(value, torch.Tensor) else value for value in made)
            yield f"{dtype} {(batch, shared, group, length, dim)} {setting}", inputs, FORMULAS[name], setting
    for first, second in ((1, 2), (-1, -2)):
        moved = [
            value.transpose(first, second).contiguous().transpose(first, second)
            if isinstance(value, torch.Tensor) and value.ndim > 2
            else value
            for value in attention_inputs(name, 2, 3, 2, 9, 8)
        ]
        yield f"axes {first} and {second} swapped", tuple(moved), FORMULAS[name], {}


PROMPTS = ("attention_causal", "sdpa_mlp")


def attention_inputs(name: str, batch: int, shared: int, group: int, length: int, dim: int) -> list[Any]:
    if name in PROMPTS:
        inputs: list[Any] = [torch.randn(batch, heads, length, dim) for heads in (shared * group, shared, shared)]
    else:
        token = [torch.randn(batch, heads, dim) for heads in (shared * group, shared, shared)]
        inputs = [*token, *(torch.randn(batch, shared, length, dim) for _ in "kv"), max(0, length - 1 - batch)]
    hidden = shared * group * dim
    shapes = [(70, hidden), (70, hidden), (hidden, 70)] if name.startswith("sdpa_mlp") else []
    return inputs + [torch.randn(shape) / shape[1] ** 0.5 for shape in shapes]


def attention_decode(*inputs: Any) -> tuple[torch.Tensor, ...]:
    """The result, and the caches it was written into."""
    return attention.attention_decode(*inputs), *inputs[3:5]


def sdpa_mlp_decode(*inputs: Any) -> tuple[torch.Tensor, ...]:
    """As ``attention_decode``."""
    return transformer.sdpa_mlp_decode(*inputs), *inputs[3:5]


MUTATED = dict.fromkeys(("attention_decode", "sdpa_mlp_decode"), (3, 4))  # inputs that are outputs too
FORMULAS: dict[str, Callable[..., Any]] = {
    "attention_causal": attention.attention,
    "attention_decode": attention_decode,
    "sdpa_mlp_decode": sdpa_mlp_decode,
    "sdpa_mlp": transformer.sdpa_mlp,
    "factorisation_machine": lambda x, y: factorisation_machine(x, y),
    "conv1d_padded": convolutions.conv1d,
}


def cases(name: str) -> Iterator[Case]:
    """All cases of one sample."""
    if name in ROW_FORMULAS:
        return row_cases(name)
    if name in ("map_id", "mbdt"):
        return search_cases(name)
    if name.startswith(("attention", "sdpa")):
        return attention_cases(name)
    if name in FORMULAS:
        return product_cases(name)
    others = {
        "cross_entropy": cross_entropy_cases,
        "batch_event_truncate": truncate_cases,
        "embedding_bag": embedding_cases,
        "personalised_feed_forward": feed_forward_cases,
        "inverted_index": index_cases,
        "conv2d_lines": line_cases,
    }
    return others[name]()


def wide(value: Any) -> Any:
    """In float64, on its own storage."""
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def slope_of(output: torch.Tensor) -> torch.Tensor:
    """A gradient of an output, the same in every dtype: of one number 1, else halves between -1 and 1."""
    halves = torch.arange(output.numel()) % 5 / 2 - 1
    return halves.view(output.shape).to(output.dtype) if output.ndim else torch.ones_like(output)


def factorisation_machine(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The result, and the gradients of both inputs."""
    x, y = x.requires_grad_(), y.requires_grad_()
    out = recommendation.wukong_fm(x, y)
    return out, *torch.autograd.grad(out, (x, y), slope_of(out))


def outputs_of(name: str, inputs: tuple[Any, ...], knobs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    kernel = loaded(name, tuple(knobs.items()))
    outputs = kernel.call(*inputs)
    if name == "inverted_index":
        return (found_scores(outputs, inputs),)
    if kernel.backward is not None:
        gradients = kernel.backward(slope_of(outputs), *inputs)
        outputs = (outputs, *(gradients if isinstance(gradients, tuple) else (gradients,)))
    return (*(outputs if isinstance(outputs, tuple) else (outputs,)), *(inputs[place] for place in MUTATED.get(name, ())))


def found_scores(outputs: tuple[torch.Tensor, ...], inputs: tuple[Any, ...]) -> torch.Tensor:
    """The scores returned, where the documents have them and none is named twice; NaN elsewhere."""
    scores, documents = outputs
    right = retrieval.inverted_index_scores(*inputs).gather(1, documents)
    again = [[row.index(place) < at for at, place in enumerate(row)] for row in documents.tolist()]
    repeated = torch.tensor(again, dtype=torch.bool).reshape(scores.shape)
    return torch.where(torch.isclose(scores, right) & ~repeated, scores, torch.nan)


def disagreement(got: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, scale: float) -> str | None:
    """None, or what differs: integers exactly, floats within a few units in the last place of the largest, or of ``scale``."""
    if got.shape != expected.shape or got.dtype != dtype:
        return f"expected {dtype} {tuple(expected.shape)}, got {got.dtype} {tuple(got.shape)}"
    if not got.is_floating_point():
        return None if torch.equal(got, expected) else f"{int((got != expected).sum())} of {got.numel()} differ"
    largest = expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 1.0
    tolerance = 8 * torch.finfo(dtype).eps * max(scale, largest)
    equal = torch.isclose(got.double(), expected.double(), rtol=0, atol=tolerance, equal_nan=True)
    return None if equal.all() else f"{int((~equal).sum())} of {got.numel()} differ by more than {tolerance:.1e}"


def disagreements(name: str) -> tuple[list[str], int]:
    """What differs, a line each, and the number of cases."""
    torch.manual_seed(7)
    found, count = [], 0
    for label, inputs, formula, knobs in cases(name):
        count += 1
        kept = [value.clone() if isinstance(value, torch.Tensor) else value for value in inputs]
        got = outputs_of(name, inputs, knobs)
        expected = formula(*(wide(value.clone() if isinstance(value, torch.Tensor) else value) for value in kept))
        expected = expected if isinstance(expected, tuple) else (expected,)
        floating = next((value.dtype for value in inputs if isinstance(value, torch.Tensor) and value.is_floating_point()), torch.float32)
        for position, (one, other) in enumerate(zip(got, expected, strict=True)):
            dtype = floating if other.is_floating_point() else other.dtype
            if name == "cross_entropy" and position == 0 and "loss" not in knobs:
                dtype = torch.float32
            # the gradients of one column are differences of nearly equal numbers
            problem = disagreement(one, other, dtype, 1.0 if name in BACKWARD else 1e-3)
            found += [f"{name}[{label}] output {position}: {problem}"] if problem else []
        untouched = [pair for place, pair in enumerate(zip(kept, inputs, strict=True)) if place not in MUTATED.get(name, ())]
        tensors = [(one, other) for one, other in untouched if isinstance(one, torch.Tensor)]
        if not all(one.nan_to_num().equal(other.nan_to_num()) for one, other in tensors):
            found.append(f"{name}[{label}] changed its inputs")
    return found, count


def main() -> None:
    warnings.simplefilter("ignore")  # the interpreter computes with numpy, which warns of 0/0 in rows that are masked
    for name in sys.argv[1:]:
        found, count = disagreements(name)
        print("\n".join([*found, f"{name}: {count} cases, {len(found)} disagreements"]))


if __name__ == "__main__":
    main()
