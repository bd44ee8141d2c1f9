"""The C++ samples of attention agree with float64 at sizes around every tail, in every layout and dtype, and write the caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reference_ops import attention, transformer
from tests.operators.test_samples_cpp import (  # noqa: F401 - fixtures among them
    BY_NAME,
    INPUTS,
    TOLERANCE,
    built,
    compile_source,
    expect_close,
    layouts,
    prelude,
    torch_outputs,
    wide,
)

ATTENTION_SIZES = [
    (0, 1, 1, 3, 4),
    (2, 1, 1, 1, 1),
    (2, 2, 3, 7, 5),
    (1, 2, 4, 64, 64),
    (2, 1, 1, 33, 128),
    (1, 3, 2, 100, 17),
    (1, 1, 8, 300, 33),
]


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_attention_agrees_at_every_size(built: Any, dtype: torch.dtype) -> None:  # noqa: F811 - a fixture
    kernel = built("attention_causal")
    for batch, shared, group, length, dim in [*ATTENTION_SIZES, *((1, 1, 2, length, 6) for length in range(1, 20))]:
        inputs = tuple(torch.randn(batch, heads, length, dim).to(dtype) for heads in (shared * group, shared, shared))
        expected = attention.attention(*wide(inputs))
        expect_close(kernel(*inputs), expected, dtype)
        for arranged in zip(*(list(layouts(value)) for value in inputs), strict=True):
            expect_close(kernel(*arranged), expected, dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_attention_of_a_token_writes_the_caches_and_agrees(built: Any, dtype: torch.dtype) -> None:  # noqa: F811 - a fixture
    kernel = built("attention_decode")
    for batch, shared, group, capacity, dim in ATTENTION_SIZES:
        for place in {0, capacity // 2, capacity - 1}:
            token = [torch.randn(batch, heads, dim).to(dtype) for heads in (shared * group, shared, shared)]
            caches = [torch.randn(batch, shared, capacity, dim).to(dtype) for _ in range(2)]
            exact = wide((*token, *(cache.clone() for cache in caches)))
            expected = attention.attention_decode(*exact, place)
            for arrange in range(3):
                moved = [list(layouts(value.clone()))[arrange] for value in (*token, *caches)]
                expect_close(kernel(*moved, place), expected, dtype)
                assert all(torch.equal(mine.double(), right) for mine, right in zip(moved[3:], exact[3:], strict=True))


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_mlp_after_attention_of_a_token_agrees(built: Any, dtype: torch.dtype) -> None:  # noqa: F811 - a fixture
    kernel = built("sdpa_mlp_decode")
    for batch, shared, group, capacity, dim, inner in [(0, 1, 1, 2, 3, 4), (1, 1, 1, 1, 1, 1), (3, 2, 3, 7, 5, 33), (2, 1, 4, 40, 16, 100)]:
        hidden, place = shared * group * dim, capacity - 1
        made = [torch.randn(batch, heads, dim) for heads in (shared * group, shared, shared)]
        caches = [torch.randn(batch, shared, capacity, dim) for _ in range(2)]
        weights = [torch.randn(shape) / shape[1] ** 0.5 for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]
        tensors = [value.to(dtype) for value in (*made, *caches, *weights)]
        exact = wide(tuple(value.clone() for value in tensors))
        expected = transformer.sdpa_mlp_decode(*exact[:5], place, *exact[5:])
        for arrange in range(3):
            moved = [list(layouts(value.clone()))[arrange] for value in tensors]
            expect_close(kernel(*moved[:5], place, *moved[5:]), expected, dtype)
            assert all(torch.equal(mine.double(), right) for mine, right in zip(moved[3:5], exact[3:5], strict=True))


def prompts(dtype: torch.dtype) -> Any:
    """Inputs of an MLP after attention, in every layout, and what is right: one vector, more than a panel of them, odd sizes."""
    for batch, shared, group, length, dim, inner in [(0, 1, 1, 2, 3, 4), (1, 1, 1, 1, 1, 1), (3, 2, 3, 7, 5, 33), (2, 1, 4, 70, 16, 100)]:
        hidden = shared * group * dim
        made = [torch.randn(batch, heads, length, dim) for heads in (shared * group, shared, shared)]
        weights = [torch.randn(shape) / shape[1] ** 0.5 for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]
        tensors = tuple(value.to(dtype) for value in (*made, *weights))
        expected = transformer.sdpa_mlp(*wide(tensors))
        for arranged in zip(*(list(layouts(value)) for value in tensors), strict=True):
            yield arranged, expected


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_mlp_after_attention_agrees(built: Any, dtype: torch.dtype) -> None:  # noqa: F811 - a fixture
    kernel = built("sdpa_mlp")
    for inputs, expected in prompts(dtype):
        expect_close(kernel(*inputs), expected, dtype)


def test_the_mlp_agrees_without_instructions_for_bfloat16(tmp_path: Path, prelude: Path) -> None:  # noqa: F811 - a fixture
    text = BY_NAME["sdpa_mlp"].render("cpp", entry="sdpa_mlp", inputs=INPUTS["sdpa_mlp"], constants={}, knobs={})
    assert text.count("__AVX512BF16__") == 2
    kernel = torch_outputs(compile_source(text.replace("__AVX512BF16__", "NEVER_DEFINED"), tmp_path / "widened", prelude).sdpa_mlp)
    for inputs, expected in prompts(torch.bfloat16):
        expect_close(kernel(*inputs), expected, torch.bfloat16)


def test_attention_of_large_scores_is_finite(built: Any) -> None:  # noqa: F811 - a fixture
    """Scores beyond 2^31, of which two may differ in rounding alone: powers are of differences."""
    q, k, v = (torch.randn(1, 2, 20, 8) * scale for scale in (1e15, 1e15, 1.0))
    expect_close(built("attention_causal")(q, k, v), attention.attention(q.double(), k.double(), v.double()), torch.float32)
