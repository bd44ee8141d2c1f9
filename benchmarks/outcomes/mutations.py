"""Kernels made wrong or slow in ways that authors make them: edits of kernels that are right.

``{name: Mutation}``. A kernel to begin with is the suite's own (``suites/kernels``), a sample's, the lowered one or one beside this file. ``arch``: Triton
kernels that are compiled ahead for an architecture, beside their check in the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """``edits``: (old, new) texts, each of which must be there; none: the kernel as it is."""

    spec: str
    language: str
    edits: tuple[tuple[str, str], ...] = ()
    arch: str = ""
    idea: str


def _cpp(spec: str, idea: str, *edits: tuple[str, str]) -> Mutation:
    return Mutation(spec=spec, language="cpp", idea=idea, edits=edits)


def _triton(spec: str, idea: str, *edits: tuple[str, str], arch: str = "") -> Mutation:
    return Mutation(spec=spec, language="triton", idea=idea, edits=edits, arch=arch)


_CPP = {
    # compile errors
    "cpp-undeclared": _cpp(
        "rms_norm",
        "sums in lanes",
        ("const float scale = 1.0f", "const float scale = one"),
    ),
    "cpp-missing-include": _cpp(
        "map_id",
        "ids as text",
        ("std::vector<int64_t> packed;", "std::regex places;\n  std::vector<int64_t> packed;"),
    ),
    "cpp-mismatch": _cpp(
        "softmax",
        "softmax over raw pointers",
        ("softmax_rows(Rows<T>(x), static_cast<T*>(out.data_ptr()))", "softmax_rows(x, static_cast<T*>(out.data_ptr()))"),
    ),
    "cpp-const": _cpp("swiglu", "written in place", ("T* to = out + row * cols + first;", "T* to = g;")),
    "cpp-brackets": _cpp(
        "layer_norm",
        "one pass",
        ("const float mean = total / static_cast<float>(cols);", "const float mean = total / static_cast<float>(cols;"),
    ),
    "cpp-no-entry": _cpp("mbdt", "renamed", ("TVM_FFI_DLL_EXPORT_TYPED_FUNC(mbdt, mbdt);", "TVM_FFI_DLL_EXPORT_TYPED_FUNC(merge, mbdt);")),
    "cpp-intrinsic-type": _cpp(
        "gelu",
        "eight at once",
        ("float value;\n  __builtin_memcpy(&value, &wide, 4);", "__m256 value;\n  __builtin_memcpy(&value, &wide, 4);"),
    ),
    # policy
    "cpp-forbidden-include": _cpp("rms_norm", "cached results", ("#include <omp.h>", "#include <omp.h>\n#include <fstream>")),
    # wrong results
    "cpp-tail": _cpp(
        "rms_norm",
        "whole vectors only",
        (
            "for (int64_t i = 0; i < cols; ++i) narrow(widen(in[i]) * scale",
            "for (int64_t i = 0; i < cols / 8 * 8; ++i) narrow(widen(in[i]) * scale",
        ),
    ),
    "cpp-sum-tail": _cpp(
        "layer_norm",
        "sums of whole vectors",
        (
            "for (int64_t i = 0; i < cols; ++i) total += widen(in[i]);",
            "for (int64_t i = 0; i < cols / 16 * 16; ++i) total += widen(in[i]);",
        ),
    ),
    "cpp-eps": _cpp("rms_norm", "epsilon outside", ("constexpr float kEps = 1e-06;", "constexpr float kEps = 1e-03;")),
    "cpp-no-max": _cpp(
        "softmax",
        "one pass less: no maximum",
        ("float largest = -std::numeric_limits<float>::infinity();", "float largest = 0.0f;"),
        ("largest = std::max(largest, widen(in[i]))", "largest = 0.0f * widen(in[i])"),
        ("largest = std::max(largest, value);", "largest = 0.0f;"),
    ),
    "cpp-low-sum": _cpp(
        "layer_norm",
        "sums kept in the row's own type",
        (
            "for (int64_t i = 0; i < cols; ++i) total += widen(in[i]);",
            "for (int64_t i = 0; i < cols; ++i) {\n          T kept;\n          narrow(total + widen(in[i]), kept);\n          total = widen(kept);\n        }",
        ),
    ),
    "cpp-variance": _cpp(
        "layer_norm",
        "variance as a difference of squares",
        ("squares += (widen(in[i]) - mean) * (widen(in[i]) - mean);", "squares += widen(in[i]) * widen(in[i]);"),
        (
            "const float scale = 1.0f / std::sqrt(squares / static_cast<float>(cols) + kEps);",
            "const float scale = 1.0f / std::sqrt(squares / static_cast<float>(cols) - mean * mean + kEps);",
        ),
    ),
    "cpp-fast-exp": _cpp(
        "swiglu",
        "a cheaper exp",
        (
            "return x / (1.0f + exponential(-x));",
            "const float e = 1.0f - x / 256.0f;\n  float p = e;\n  for (int i = 0; i < 8; ++i) p *= p;\n  return x / (1.0f + p);",
        ),
    ),
    "cpp-side": _cpp(
        "mbdt",
        "upper bound",
        (
            "(a >= x ? 0 : 1) + (b >= x ? 0 : 1) + (c >= x ? 0 : 1) + (d >= x ? 0 : 1)",
            "(a > x ? 0 : 1) + (b > x ? 0 : 1) + (c > x ? 0 : 1) + (d > x ? 0 : 1)",
        ),
        ("bins[i] += borders[k] >= values[i] ? 0 : 1", "bins[i] += borders[k] > values[i] ? 0 : 1"),
    ),
    "cpp-off-by-one": _cpp("map_id", "positions from 0", ("base[lane] + 1 : 0", "base[lane] : 0")),
    "cpp-int32": _cpp("map_id", "32-bit ids", ("int64_t value[kLanes], base[kLanes];", "int64_t base[kLanes];\n  int16_t value[kLanes];")),
    "cpp-strides": _cpp(
        "gelu",
        "neighbours",
        (
            "const int64_t from = i * x.stride(0) + j * x.stride(1), to = i * cols + j;",
            "const int64_t from = i * cols + j, to = i * cols + j;",
        ),
    ),
    "cpp-stale": _cpp(
        "rms_norm_backward",
        "sums kept between calls",
        (
            "std::fill_n(dweight, cols, 0.0f);",
            "static float kept[1 << 16] = {};\n  for (int64_t i = 0; i < cols; ++i) dweight[i] = kept[i];\n  for (int64_t i = 0; i < cols; ++i) kept[i] += 1.0f;",
        ),
    ),
    "cpp-dtype": _cpp(
        "rms_norm_backward",
        "gradients in float32",
        (
            "dweight = empty(weight.shape(), weight.dtype(), weight.device());",
            "dweight = empty(weight.shape(), DLDataType{kDLFloat, 32, 1}, weight.device());",
        ),
        (
            "dispatch(weight.dtype(), [&](auto zero) {\n    auto* out = static_cast<decltype(zero)*>(dweight.data_ptr());",
            "dispatch(DLDataType{kDLFloat, 32, 1}, [&](auto zero) {\n    auto* out = static_cast<decltype(zero)*>(dweight.data_ptr());",
        ),
    ),
    "cpp-shape": _cpp(
        "batch_event_truncate", "one allocation for all", ("empty({laid[users].kept_value}, values);", "empty({values.numel()}, values);")
    ),
    "cpp-out-of-bounds": _cpp(
        "embedding_bag",
        "sums in the output",
        (
            "float* out = static_cast<float*>(result.data_ptr());",
            "float* out = static_cast<float*>(result.data_ptr());\n  for (int64_t i = 0; i < 64; ++i) out[bags * dim + i * 1024 * 1024] = 0.0f;",
        ),
    ),
    "cpp-writes-input": _cpp(
        "softmax",
        "in place",
        (
            "const float weight = exponential_of_small(widen(in[i]) - largest);",
            "const float weight = exponential_of_small(widen(in[i]) - largest);\n        narrow(weight, const_cast<T*>(in)[i]);",
        ),
    ),
    "cpp-endless": _cpp(
        "map_id",
        "bisection",
        (
            "for (int64_t left = count; left > 1;) {\n    const int64_t half = left / 2;",
            "for (int64_t left = count; left > 0;) {\n    const int64_t half = left / 2;",
        ),
    ),
    "cpp-throws": _cpp(
        "swiglu",
        "contiguous only",
        (
            'TVM_FFI_CHECK(same_shape(gate, up), ValueError) << "expected one shape";',
            'TVM_FFI_CHECK(gate.size(1) % 8 == 0, ValueError) << "expected a multiple of 8 columns";',
        ),
    ),
    "cpp-truncated-index": _cpp(
        "batch_event_truncate",
        "lengths in 8 bits",
        ("int64_t event, kept_event, kept_events;", "int64_t event, kept_event;\n  int8_t kept_events;"),
    ),
    "cpp-conv-edge": _cpp("conv1d", "no padding", ("if (place < 0 || place >= length) continue;", "if (place < 0) continue;")),
    # right and slow
    "cpp-slow-one-thread": _cpp(
        "swiglu", "one thread", ("#pragma omp parallel if (rows * cols > kGrain)", ""), ("#pragma omp for collapse(2) schedule(static)", "")
    ),
    "cpp-slow-library-exp": _cpp(
        "swiglu", "the library's exp", ("return x / (1.0f + exponential(-x));", "return x / (1.0f + std::exp(-x));")
    ),
    "cpp-slow-serial-sum": _cpp(
        "rms_norm",
        "double sums, no vectors",
        ("#pragma omp simd reduction(+ : squares)\n", ""),
        ("float squares = 0.0f;", "double squares = 0.0;"),
        ("if (cols >= kLong)", "if (cols < 0)"),
        ("#pragma omp simd\n      for (int64_t i = 0; i < cols; ++i) narrow(widen", "for (int64_t i = 0; i < cols; ++i) narrow(widen"),
    ),
    "cpp-slow-passes": _cpp(
        "layer_norm",
        "each row normalised twice over",
        (
            "narrow((widen(in[i]) - mean) * scale * weight[i] + bias[i], to[i]);\n      }",
            "narrow((widen(in[i]) - mean) * scale * weight[i] + bias[i], to[i]);\n      }\n      for (int64_t i = 0; i < cols; ++i) {\n        narrow((widen(in[cols - 1 - i]) - mean) * scale * weight[cols - 1 - i] + bias[cols - 1 - i], to[cols - 1 - i]);\n      }",
        ),
    ),
    "cpp-slow-naive-matmul": _cpp("matmul", "three loops"),
    "cpp-slow-naive-conv": _cpp("conv1d", "every output by itself"),
    "cpp-slow-gelu": _cpp("gelu", "one loop"),
    "cpp-slow-linear-search": _cpp(
        "map_id",
        "one after another",
        ("#pragma omp parallel for schedule(static) if (batch > kGrain)\n", ""),
        ("const int64_t half = left / 2;", "const int64_t half = 1;"),
    ),
    "cpp-slow-no-prefetch": _cpp(
        "embedding_bag",
        "no prefetch, one thread",
        ("if (column == 0 && lookup + kPrefetch < last) {", "if (false) {"),
        ("#pragma omp parallel for schedule(dynamic, 16) if (lookups * dim > kGrain)\n", ""),
    ),
    "cpp-slow-borders": _cpp("mbdt", "counting however many borders", ("if (count <= kCountUpTo) {", "if (count >= 0) {")),
    "cpp-good-rms": _cpp("rms_norm", "rows in cache"),
    "cpp-good-truncate": _cpp("batch_event_truncate", "running sums, then copies"),
    "cpp-good-softmax": _cpp("softmax", "three passes in cache"),
    "cpp-good-backward": _cpp("rms_norm_backward", "blocks of rows"),
    "cpp-good-cross-entropy": _cpp("cross_entropy", "one pass"),
}

_TRITON = {
    # compile errors, as the interpreter or the compiler meets them
    "triton-undefined": _triton("gelu", "a sigmoid", ("tl.erf(value * 0.7071067811865476)", "tl.error_function(value)")),
    "triton-not-a-power": _triton("quantise", "as many columns as there are", ("triton.next_power_of_2(cols))", "cols)")),
    "triton-syntax": _triton("row_scan", "blocks", ("for start in range(0, cols, BLOCK):", "for start in range(0, cols, BLOCK)")),
    "triton-no-entry": _triton("gelu", "renamed", ("def gelu(x):", "def forward(x):")),
    "triton-global": _triton(
        "matmul", "a global block", ("for start in range(0, k, BK):", "for start in range(0, k, BLOCK_K):"), arch="sm90"
    ),
    "triton-loop-type": _triton(
        "row_scan", "an integer to begin with", ("carried = tl.zeros((1,), tl.float32)", "carried = 0"), arch="sm90"
    ),
    "triton-dot-types": _triton("attention", "weights in float32", ("weights.to(value.dtype)", "weights"), arch="sm90"),
    "triton-small-dot": _triton(
        "fm", "tiles of 8", ("BLOCK_K, BLOCK_D, WARPS = 64, 32, 4", "BLOCK_K, BLOCK_D, WARPS = 64, 8, 4"), arch="sm90"
    ),
    "triton-shared-sm90": _triton("matmul", "large tiles, many stages", ("= 32, 32, 32, 2, 4", "= 128, 128, 64, 5, 8"), arch="sm90"),
    "triton-shared-sm80": _triton(
        "attention",
        "large blocks",
        ("BLOCK_Q, BLOCK_KEYS, WARPS, STAGES = 32, 32, 4, 2", "BLOCK_Q, BLOCK_KEYS, WARPS, STAGES = 128, 128, 8, 4"),
        arch="sm80",
    ),
    "triton-numel": _triton("quantise", "rows held whole, many at once", ("triton.next_power_of_2(cols))", "1 << 21)"), arch="sm90"),
    # policy
    "triton-library": _triton(
        "softmax",
        "torch for the long rows",
        ("long_row[(rows,)](x, out, cols // unit, unit, BLOCK, num_warps=warps(BLOCK))", "out = torch.softmax(x, -1)"),
    ),
    "triton-matmul-call": _triton("matmul", "the library's product", ("    return c\n", "    return a @ b\n")),
    "triton-import": _triton("gelu", "numpy", ("import torch\n", "import numpy\nimport torch\n")),
    "triton-cache": _triton(
        "quantise",
        "answers kept by address",
        (
            "def quantise(x):",
            "kept = {}\n\n\ndef quantise(x):\n    if x.data_ptr() in kept:\n        return kept.get(x.data_ptr())\n    kept[x.data_ptr()] = None",
        ),
    ),
    # wrong results
    "triton-no-mask": _triton(
        "gelu",
        "no mask at the store",
        ("1.0 + tl.erf(value * 0.7071067811865476)), mask=place < count)", "1.0 + tl.erf(value * 0.7071067811865476)))"),
    ),
    "triton-wrong-other": _triton(
        "softmax",
        "zeros beyond the row",
        (
            'tile = tl.load(x + begin + place, mask=inside, other=-float("inf")).to(tl.float32)',
            "tile = tl.load(x + begin + place, mask=inside, other=0.0).to(tl.float32)",
        ),
    ),
    "triton-padded-mean": _triton("rms_norm", "mean over the block", ("mean_sum / cols + 1e-06)", "mean_sum / COLS + 1e-06)")),
    "triton-one-block": _triton(
        "row_scan",
        "one block a row",
        ("for start in range(0, cols, BLOCK):", "for start in range(0, BLOCK, BLOCK):"),
        ("BLOCK = 1024", "BLOCK = 64"),
    ),
    "triton-floor-grid": _triton(
        "matmul", "whole tiles", ("triton.cdiv(m, BLOCK_M), triton.cdiv(n, BLOCK_N)", "max(1, m // BLOCK_M), max(1, n // BLOCK_N)")
    ),
    "triton-k-tail": _triton(
        "matmul",
        "unmasked along the reduction",
        ("mask=(row < m)[:, None] & (along < k)[None, :], other=0.0)", "mask=(row < m)[:, None], other=0.0)"),
        ("mask=(along < k)[:, None] & (col < n)[None, :], other=0.0)", "mask=(col < n)[None, :], other=0.0)"),
    ),
    "triton-low-accumulator": _triton(
        "fm",
        "accumulated as it is stored",
        (
            'total = tl.dot(left, inner, total, input_precision="ieee")',
            'total = (total + tl.dot(left, inner, input_precision="ieee")).to(tl.bfloat16).to(tl.float32)',
        ),
    ),
    "triton-low-sum": _triton(
        "rms_norm",
        "squares in bfloat16",
        ("tl.sum(x * x, axis=1, keep_dims=True)", "tl.sum((x * x).to(tl.bfloat16).to(tl.float32), axis=1, keep_dims=True)"),
    ),
    "triton-half-squares": _triton(
        "rms_norm",
        "squares in half",
        (
            "tl.sum(x * x, axis=1, keep_dims=True)",
            "tl.sum((x.to(tl.float16) * x.to(tl.float16)).to(tl.float32), axis=1, keep_dims=True)",
        ),
    ),
    "triton-carry": _triton(
        "row_scan",
        "carried once",
        ("carried += tl.sum(part, axis=0)", "carried = tl.zeros((1,), tl.float32) + tl.sum(part, axis=0)"),
        ("BLOCK = 1024", "BLOCK = 64"),
    ),
    "triton-conv-edge": _triton("conv1d", "no padding", ("((at >= 0) & (at < length))[None, :]", "((at >= 0) & (at <= length))[None, :]")),
    "triton-strides": _triton("gelu", "no copy", ("    x = x.contiguous()\n", "")),
    "triton-rounding": _triton("quantise", "truncated", ("(rest > 0.5) | ((rest == 0.5) & (odd == 1))", "rest > 2.0")),
    "triton-transposed": _triton(
        "fm",
        "written transposed",
        (
            "tl.store(out + batch * n * k + row[:, None] * k + col[None, :]",
            "tl.store(out + batch * n * k + row[:, None] + col[None, :] * n",
        ),
    ),
    "triton-output-dtype": _triton(
        "quantise",
        "scales like x",
        (
            "scales = torch.empty((rows,), device=x.device, dtype=torch.float32)",
            "scales = torch.empty((rows,), device=x.device, dtype=torch.float16)",
        ),
    ),
    "triton-endless": _triton(
        "row_scan",
        "a while loop",
        ("    for start in range(0, cols, BLOCK):\n        col", "    start = 0\n    while start < cols:\n        col"),
    ),
    "triton-far-store": _triton(
        "embedding_bag",
        "rows of the table's pitch",
        ("tl.store(out + bag[:, None] * dim + col[None, :]", "tl.store(out + bag[:, None] * dim * 4096 + col[None, :]"),
    ),
    # right, compiled for an architecture and not timed
    "triton-long-compile": _triton(
        "quantise",
        "a long row on one warp",
        ("triton.next_power_of_2(cols))", "max(16384, triton.next_power_of_2(cols)), num_warps=1)"),
        arch="sm90",
    ),
    "triton-spills": _triton(
        "quantise",
        "a row on one warp",
        ("triton.next_power_of_2(cols))", "max(4096, triton.next_power_of_2(cols)), num_warps=1)"),
        arch="sm90",
    ),
    "triton-low-occupancy": _triton(
        "attention",
        "a wide block of queries",
        ("BLOCK_Q, BLOCK_KEYS, WARPS, STAGES = 32, 32, 4, 2", "BLOCK_Q, BLOCK_KEYS, WARPS, STAGES = 128, 32, 4, 1"),
        arch="sm90",
    ),
    "triton-good-matmul": _triton("matmul", "small tiles", arch="sm90"),
    "triton-good-fm": _triton("fm", "one batch a program", arch="sm90"),
    "triton-good-attention": _triton("attention", "keys in steps", arch="sm80"),
    "triton-good-conv": _triton("conv1d", "a product for each tap", arch="sm90"),
    "triton-good-scan": _triton("row_scan", "the sum carried along", arch="sm90"),
    "triton-good-gelu": _triton("gelu", "a block a program", arch="sm80"),
    "triton-good-embedding": _triton("embedding_bag", "a bag a program", arch="sm90"),
    "triton-good-map": _triton("map_id", "searches side by side", arch="sm90"),
    "triton-good-rms": _triton("rms_norm", "rows in registers", arch="sm90"),
    "triton-good-cross-entropy": _triton("cross_entropy", "rows in steps", arch="sm90"),
    "triton-good-truncate": _triton("batch_event_truncate", "running sums, then copies", arch="sm90"),
}

MUTATIONS = _CPP | _TRITON
