"""Which families of operators a reference belongs to, from its traced graph: what knowledge is asked for."""

from __future__ import annotations

from kevolve.operators.trace import Trace

GENERAL = "general"
_SCANS = frozenset("cumsum cumprod cummax cummin logcumsumexp".split())
_MATMULS = frozenset("mm bmm addmm baddbmm matmul linear mv dot addmv einsum _scaled_mm _int_mm addbmm".split())
_ATTENTION = frozenset(
    """
    scaled_dot_product_attention _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math
    """.split()
)
_CONVOLUTIONS = frozenset("convolution conv1d conv2d conv3d _convolution mkldnn_convolution convolution_backward".split())
_JAGGED = frozenset("repeat_interleave split_with_sizes nonzero masked_select segment_reduce _nested_tensor_from_mask".split())
_SEARCHES = frozenset("bucketize searchsorted sort argsort topk unique_dim _unique2 kthvalue".split())
_EMBEDDINGS = frozenset("embedding _embedding_bag _embedding_bag_forward_only embedding_bag embedding_dense_backward".split())
_GATHERS = frozenset(
    "index index_select gather take take_along_dim scatter scatter_add scatter_reduce index_add index_put index_copy masked_scatter".split()
)
_QUANTISED = frozenset("quantize_per_tensor quantize_per_channel dequantize fake_quantize_per_tensor_affine round".split())
_SMALL_INTEGERS = ("int8", "uint8", "float8")
_POINTWISE = frozenset("exp log tanh erf sin cos where maximum minimum relu gelu silu clamp abs sigmoid product sum lt le eq ne".split())


def families(trace: Trace) -> tuple[str, ...]:
    """The families of ``kevolve.knowledge``'s vocabulary, the most telling first; ``("general",)`` where nothing is recognised.

    A matrix product of a softmax is attention; a root of a row's mean of squares is a normalisation; rows behind an index that are
    summed are an embedding.
    """
    ops = _operators(trace)
    reduced = {op for op in ops if op.startswith("reduce_")}
    found = [name for name, known in _NAMED if ops & known]
    if ops & _MATMULS and _softmax(ops) and "attention" not in found:
        found.insert(0, "attention")
    if _normalises(trace):
        found.append("normalisation")
    if trace.indexed_inputs and ops & _GATHERS and (reduced or ops & {"index_put", "index_add", "scatter_add"}) and "search" not in found:
        found.append("embedding")
    if ops & _GATHERS:
        found.append("gather-scatter")
    if ops & _QUANTISED or any(_dtype(value).startswith(_SMALL_INTEGERS) for value in trace.values):
        found.append("quantisation")
    if reduced:
        found.append("reduction")
    if not found and ops & _POINTWISE:
        found.append("pointwise")
    return tuple(dict.fromkeys(found)) or (GENERAL,)


_NAMED = (
    ("attention", _ATTENTION),
    ("convolution", _CONVOLUTIONS),
    ("matmul", _MATMULS),
    ("jagged", _JAGGED),
    ("search", _SEARCHES),
    ("embedding", _EMBEDDINGS),
    ("scan", _SCANS),
)


def _operators(trace: Trace) -> frozenset[str]:
    """The operators' plain names, as they were recorded."""
    return frozenset(term.op for term in trace.algebra.terms.values())


def _dtype(value: object) -> str:
    return str(getattr(value, "dtype", "")).removeprefix("torch.")


def _softmax(ops: frozenset[str]) -> bool:
    """Whether exponentials are divided by their sum."""
    return bool(ops & {"_softmax", "softmax"}) or ("exp" in ops and "reduce_sum" in ops)


def _normalises(trace: Trace) -> bool:
    """Whether something is multiplied by the inverse root of what a sum went into."""
    terms = trace.algebra.terms
    for term in terms.values():
        for argument, exponent in zip(term.arguments, term.weights, strict=False):
            if term.op == "product" and exponent in (-0.5, -1.5) and _holds_sum(trace, argument):
                return True
    return any(term.op in ("native_layer_norm", "native_batch_norm", "native_group_norm", "rms_norm") for term in terms.values())


def _holds_sum(trace: Trace, digest: str, depth: int = 3) -> bool:
    term = trace.algebra.terms[digest]
    return term.op == "reduce_sum" or (depth > 0 and any(_holds_sum(trace, argument, depth - 1) for argument in term.arguments))
