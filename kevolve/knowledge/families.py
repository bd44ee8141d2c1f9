"""Which families an operator belongs to, by the library operators that its reference dispatches to."""

from __future__ import annotations

from collections.abc import Iterable

# An operator's name holds one of the words; the order is that of the answer: what decides a kernel's structure first.
_FAMILIES = (
    ("attention", ("scaled_dot_product",)),
    ("convolution", ("conv",)),
    ("matmul", ("mm", "matmul", "linear", "einsum", "addmv", "::mv", "::dot")),
    ("normalisation", ("norm", "softmax", "rsqrt", "var_mean")),
    ("scan", ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")),
    ("search", ("searchsorted", "bucketize")),
    ("jagged", ("repeat_interleave", "split_with_sizes", "segment_reduce", "jagged")),
    ("embedding", ("embedding",)),
    ("gather-scatter", ("gather", "scatter", "index", "take", "put_")),
    ("quantisation", ("quantize", "round")),
    ("reduction", ("sum", "mean", "amax", "amin", "::max", "::min", "var", "prod", "argm", "logsumexp", "nll_loss", "topk", "sort")),
)
_NOT = {"matmul": ("comm", "summ"), "reduction": ("cumsum", "maximum", "minimum")}


def families_of(operators: Iterable[str]) -> tuple[str, ...]:
    """The families of a reference that dispatches to ``operators`` (``aten::sum``, …); ``pointwise`` where nothing else fits.

    A product, a softmax and a product are attention.
    """
    names = [name.lower() for name in operators]
    found = [family for family, words in _FAMILIES if any(_holds(name, family, words) for name in names)]
    products = sum(_holds(name, "matmul", ("mm", "matmul")) for name in names)
    if products >= 2 and any("softmax" in name for name in names) and "attention" not in found:
        found.insert(0, "attention")
    return tuple(found) or ("pointwise",)


def _holds(name: str, family: str, words: Iterable[str]) -> bool:
    return any(word in name for word in words) and not any(other in name for other in _NOT.get(family, ()))
