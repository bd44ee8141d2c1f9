"""The page of what lowering does, from the results."""

from __future__ import annotations

import inspect
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.lowering.ahead import ARCHES
from benchmarks.lowering.measure import BASELINES, draft_seconds, mean_of, read, told
from benchmarks.lowering.run import collected
from kevolve.operators.lowering import drafted
from kevolve.spec.reference import resolve
from kevolve.spec.spec import Spec

SHOWN = ("residual_rms_norm", "masked_softmax", "gelu_bias_backward", "linear_gelu", "segment_sum")
LANGUAGES = {"cpp": "C++", "triton": "Triton"}
_COMMENT = {"cpp": "//", "triton": "#"}
_ELIDED = {
    "cpp": "// … includes, and what this file defines of widening, rounding, exponentials and strided inputs",
    "triton": "# … imports, and the helpers that it uses",
}
_INTRODUCTION = """<!-- Written by `python -m benchmarks.lowering.run --document docs/lowering.md`; edit document.py there. -->
# Lowering: a first kernel for any reference

The operator `lowering` needs no sample and no model. It turns a spec's reference into a kernel file that a person can read, tuning can
start from and a model can improve. It proposes one draft a language; the draft is checked and timed like any other candidate.

1. **Trace.** The reference is run once on tensors whose sizes are symbols, so that one graph of ATen operators stands for all sizes; each
   operator keeps the reference's line and variable. What a Python loop fixes (a window, a number of heads) is found out and checked
   at run time.
2. **Tensors as functions of indices.** A view changes the indices, a pointwise operator makes an expression, nothing is stored. What
   combines elements (a reduction, a running sum, a product, a scatter) becomes a step.
3. **Kernels.** Steps that go through the same places in the same way share a kernel, with what is cheap worked out again and the rest
   kept: rows with several passes, columns, a reduction of everything, a matrix product with prologue and epilogue, a scan, a scatter.
   Neighbouring axes become one, and the lanes run along memory.
4. **Print.** Each language has a printer of its own over the same kernels: C++ with OpenMP and vector loops, Triton with masked tiles.
   Names are the reference's, comments its lines. Sums are made in float32 in several lanes (of integers in int64), offsets have 64 bits
   where they must. Lines marked `tune:` are what the operator `tuning` changes ([search.md](search.md)).

What cannot be lowered is said, in the run's output and in the failing test:

    no kernel of conv_norm_relu for target cpu: expected kernels/conv_norm_relu/cpu.cpp or cpu.py
    the search found none that may be written: 0 evaluations (nothing left to propose)
    lowering: aten::convolution is not covered (in "convolved = functional.conv2d(x, weight, padding=1)")

In Triton an operator that the spec's `allow=` names stays a library call, with what stands around it in kernels. `lowering failed: …` is a
fault of kevolve's: please report it. The operators of a search are chosen with `--kevolve-operators` ([options.md](options.md)).

Neither Helion nor TorchInductor is asked. For a product with an epilogue Helion 1.5.1 prints the same loop over masked tiles with the
epilogue on the tile, but with offsets of 32 bits, tf32 for float32 and an import of its own runtime. What is not covered of the sixty
is not covered there either: torch 2.13's Inductor calls the library for the convolution, the sort and the FFT
(`extern_kernels.convolution`, `aten.sort`, `aten._fft_r2c`) and unrolls the loop over time for one length; its files import Inductor and
hold one shape. It is the baseline `compile` of every row.
"""

_SAMPLES = """## Samples that stay

A sample ([operators/samples](../kevolve/operators/samples)) stays where it is faster than the lowered draft, or where none is printed.
Speedups over eager, geometric means over a spec's cases, one draft each, AMD EPYC 2 cores / H200:

| reference | C++, sample | C++, lowered | Triton, sample | Triton, lowered |
|---|--:|--:|--:|--:|
| softmax | 1.33 | 1.08 | 1.57 | 0.98 |
| rms_norm_backward | 6.94 | 3.92 | 18.8 | 1.04 |
| cross_entropy | | | 6.35 | 2.2 |
| map_id | | | 3.78 | 1.71 |
| embedding_bag | | | 31 | 5.54 |

So do log_softmax and layer_norm_backward, which are built as these are, and wukong_fm, not compared here. Of conv1d (a convolution),
mbdt (a loop over features) and batch_event_truncate (sizes that depend on values) nothing is printed. Gated activations, RMSNorm,
LayerNorm and reductions of rows have no sample: their lowered drafts are about as fast. In C++, geometric means over (2048, 1024),
(1024, 4096) and (32768, 128) in float32 and bfloat16, one thread, other work on the machine (good to
a tenth): gated activations, sums, means and maxima as fast as the sample was or
faster, LayerNorm 2%, RMSNorm 5% and the logarithm of a sum of exponentials 11% slower. On the H200, a draft each, sample / lowered: SwiGLU
1.55 / 1.75, RMSNorm 8.73 / 8.74, LayerNorm 2.77 / 2.85.
"""

_MEASURED = """The sixty of [benchmarks/lowering](../benchmarks/lowering/README.md) in a fresh project without samples, with
`lowering` alone: its first draft, not tuned. {processor}, {cores} cores, torch {torch}, triton {triton}. Triton is interpreted here:
checked, not timed. When and beside what each was measured, and which rows are of an earlier text: [measured.md](measured.md#lowering).

    python -m benchmarks.lowering.run --language cpp
    python -m benchmarks.lowering.run --language triton
"""


def document() -> str:
    """The page as Markdown."""
    results = {language: read(language) for language in LANGUAGES}
    specs = collected([])
    parts = [_INTRODUCTION, _SAMPLES, *_figures(results), *_table(specs, results), *_uncovered(specs, results), *_kernels(specs, results)]
    return "\n".join(parts).rstrip() + "\n"


def _figures(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Sixty references\n"
    machine = next((found["machine"] for found in results.values() if found.get("machine")), None)
    if machine is None:
        yield "Not measured yet.\n"
        return
    yield _MEASURED.format(**machine).replace(" 1 cores", " 1 core")
    lines = [line for language in LANGUAGES for line in _summary(language, results[language]["specs"])]
    yield "\n".join(f"- {line}" for line in lines) + "\n"


def _summary(language: str, rows: Mapping[str, Any]) -> Iterator[str]:
    if not rows:
        return
    name = LANGUAGES[language]
    passed = sum(row["status"] == "PASSED" for row in rows.values())
    seconds = draft_seconds(rows.values())
    before = statistics.median(row["draft"]["before_s"] for row in rows.values())
    yield f"{name}: {passed} of {len(rows)} have a kernel that the full check accepts."
    yield (
        f"{name}: traced and printed in {statistics.median(seconds):.2f} s in the median, {max(seconds):.2f} s at the most; "
        f"importing PyTorch's tracer, once a process and before it, takes {before:.1f} s."
    )
    for baseline, called in zip(BASELINES, ("eager", "torch.compile"), strict=True):
        mean = mean_of(rows.values(), baseline)
        count = sum(baseline in case["speedup"] for row in rows.values() for case in row["cases"].values())
        if mean:
            yield f"{name}: geometric mean {mean:.2f}x over {called} ({count} cases)."
    ahead = [row["ahead"] for row in rows.values() if "ahead" in row]
    if ahead:
        counts = ", ".join(f"{arch} {sum('problem' not in found[arch] for found in ahead)}" for arch in ARCHES)
        yield f"{name}: of {len(ahead)} drafts compile ahead of time without a GPU, on the shapes of their cases: {counts}."


def _table(specs: Mapping[str, Spec], results: Mapping[str, Any]) -> Iterator[str]:
    measured = [name for name in specs if any(name in results[language]["specs"] for language in LANGUAGES)]
    if not measured:
        return
    head = ("reference", "C++", "draft", "over eager", "over torch.compile", "Triton", "draft", "ahead of time")
    yield "| " + " | ".join(head) + " |\n|---|---|--:|---|---|---|--:|---|"
    for name in measured:
        cpp, triton = (results[language]["specs"].get(name) for language in LANGUAGES)
        yield "| " + " | ".join((name, *_cpp(cpp), *_triton(triton))) + " |"
    yield ""


def _cpp(row: Mapping[str, Any] | None) -> tuple[str, ...]:
    if row is None:
        return ("", "", "", "")
    return (_status(row), f"{row['draft']['seconds']:.2f} s", *(_speeds(row, baseline) for baseline in BASELINES))


def _triton(row: Mapping[str, Any] | None) -> tuple[str, ...]:
    if row is None:
        return ("", "", "")
    ahead = row.get("ahead", {})
    refused = [arch for arch in ARCHES if "problem" in ahead.get(arch, {})]
    said = "" if not ahead else f"not {', '.join(refused)}" if refused else "all"
    return (_status(row), f"{row['draft']['seconds']:.2f} s", said)


def _status(row: Mapping[str, Any]) -> str:
    if row["status"] == "PASSED":
        return "passed"
    return "not covered" if row["draft"].get("problem") else str(row["status"]).lower().replace("_", " ")


def _speeds(row: Mapping[str, Any], baseline: str) -> str:
    """Each case's."""
    found = [case["speedup"][baseline]["estimate"] for case in row["cases"].values() if baseline in case["speedup"]]
    return " ".join(f"{each:.2f}" if each < 10 else f"{each:.1f}" for each in found)


def _uncovered(specs: Mapping[str, Spec], results: Mapping[str, Any]) -> Iterator[str]:
    """What those without a kernel say."""
    found: dict[str, list[str]] = {}
    for language in LANGUAGES:
        for name in specs:
            row = results[language]["specs"].get(name)
            if row is not None and row["status"] != "PASSED":
                found.setdefault(f"`{name}`: {told(row)}", []).append(LANGUAGES[language])
    if found:
        yield "Without a kernel:\n"
        yield "\n".join(f"- {text} ({', '.join(languages)})" for text, languages in found.items()) + "\n"


def _kernels(specs: Mapping[str, Spec], results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Five of them\n\nEach reference, then what is printed of it in either language; the files stand alone.\n"
    for name in SHOWN:
        yield f"### {name}\n\n```python\n{textwrap.dedent(inspect.getsource(_function(specs[name]))).rstrip()}\n```\n"
        for language in LANGUAGES:
            row = results[language]["specs"].get(name) or {}
            kernel = row.get("kernel") or drafted(specs[name], language).source
            yield f"```{'cpp' if language == 'cpp' else 'python'}\n{shortened(kernel, specs[name], language).rstrip()}\n```\n"


def _function(spec: Spec) -> Any:
    return inspect.unwrap(resolve(spec.reference, spec.cases[0].values))


def shortened(kernel: str, spec: Spec, language: str) -> str:
    """The file's own first lines, its knobs, and everything from its first kernel on: the first comment that is a line of the reference."""
    comment = _COMMENT[language]
    lines, reference = kernel.splitlines(), {line.strip() for line in inspect.getsource(_function(spec)).splitlines()}
    head = [line for line in lines[:3] if line.startswith((f"{comment} {spec.name}:", f"{comment} idea:"))]
    first = next((at for at, line in enumerate(lines) if line.strip().removeprefix(comment).strip() in reference and line.strip() != ""), 0)
    first = _beginning(lines, first, language)
    knobs = [line for line in lines[:first] if "  # tune: " in line or "  // tune: " in line]
    return "\n".join([*head, *_spaced(knobs), _ELIDED[language], "", *lines[first:]])


def _beginning(lines: Sequence[str], at: int, language: str) -> int:
    """Where the function begins of which line ``at`` is a comment: above it in C++, inside it in Triton."""
    if language == "cpp":
        while at > 0 and lines[at - 1].startswith("//"):
            at -= 1
        return at
    while at > 0 and not lines[at].startswith("@triton.jit"):
        at -= 1
    return at


def _spaced(lines: Sequence[str]) -> list[str]:
    return ["", *lines, ""] if lines else [""]
