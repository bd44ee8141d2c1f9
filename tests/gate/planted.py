"""Ten kernels of the suites, with one case each; edits that make them worse, and the figure that must say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kevolve.operators.samples.library import SAMPLES
from kevolve.spec.declaration import build_spec
from kevolve.spec.spec import Case, Spec
from suites import test_activations, test_convolutions, test_norms, test_recommendation, test_softmaxes

EPS = 1e-6
Edit = tuple[str, str]  # a text, and what stands there afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel of a suite's spec, at one case: a sample, or without one the suite's own file."""

    sample: str = ""
    test: Callable[..., Any]
    values: Mapping[str, Any]

    @property
    def spec(self) -> Spec:
        case = Case(id="-".join(str(value) for value in self.values.values()), values=self.values)
        return build_spec(self.test, nodeid=f"suites/planted.py::{self.test.__name__}", cases=[case])

    @property
    def source(self) -> str:
        if not self.sample:
            return (self.spec.folder / "kernels" / self.spec.name / "cuda.py").read_text()
        return rendered(self.sample, self.spec.name, self.spec.reference.inputs)


@cache
def rendered(name: str, entry: str, inputs: tuple[str, ...]) -> str:
    sample = next(sample for sample in SAMPLES if sample.name == name)
    return sample.render("triton", entry=entry, inputs=inputs, constants=dict.fromkeys(sample.constants, EPS), knobs={})


def _matrix(rows: int, cols: int, dtype: str = "bfloat16") -> dict[str, Any]:
    return dict(rows=rows, cols=cols, dtype=dtype)


KERNELS = {
    "rms_norm": Kernel(test=test_norms.test_rms_norm, values=_matrix(8192, 4096)),
    "rms_norm_backward": Kernel(sample="rms_norm_backward", test=test_norms.test_rms_norm_backward, values=_matrix(8192, 1024)),
    "layer_norm": Kernel(test=test_norms.test_layer_norm, values=_matrix(16384, 1024)),
    "softmax": Kernel(sample="softmax", test=test_softmaxes.test_softmax, values=_matrix(32768, 2048)),
    "cross_entropy": Kernel(
        sample="cross_entropy", test=test_softmaxes.test_cross_entropy, values=dict(rows=4096, vocab=8192, dtype="bfloat16")
    ),
    "swiglu": Kernel(test=test_activations.test_swiglu, values=_matrix(4096, 2048)),
    "map_id": Kernel(sample="map_id", test=test_recommendation.test_map_id, values=dict(unique=500, batch=4000, keys="dense")),
    "mbdt": Kernel(sample="mbdt", test=test_recommendation.test_mbdt, values=dict(features=8, batch=4096, borders=100)),
    "wukong_fm": Kernel(
        sample="factorisation_machine",
        test=test_recommendation.test_wukong_fm,
        values=dict(batch=8, features=32, dim=64, rank=256, dtype="bfloat16"),
    ),
    "conv1d": Kernel(
        sample="conv1d_padded",
        test=test_convolutions.test_conv1d,
        values=dict(batch=2, in_channels=32, out_channels=32, length=100, dtype="float16"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """``edits`` of a kernel, and the ``figures`` of which at least one must be found beyond its allowance."""

    kind: str
    kernel: str
    edits: tuple[Edit, ...]
    figures: tuple[str, ...]

    @property
    def source(self) -> str:
        return edited(KERNELS[self.kernel].source, self.edits)


def edited(source: str, edits: tuple[Edit, ...]) -> str:
    """The text with every edit made. Raises ``ValueError`` where one's text does not stand there: an edit that is none shows nothing."""
    for before, after in edits:
        if before not in source:
            raise ValueError(f"expected a kernel with the text {before!r}")
        source = source.replace(before, after)
    return source


REGRESSIONS = (
    Regression(
        kind="block too large for its warps",
        kernel="rms_norm",
        edits=(("num_warps=warps(height * width)", "num_warps=1"),),
        figures=("occupancy",),
    ),
    Regression(
        kind="block too small for its warps",
        kernel="swiglu",
        edits=((r"TILE = ", "TILE = 64 or "), ("WARPS = max(1,", "WARPS = 8 or max(1,")),
        figures=("issued",),
    ),
    Regression(
        kind="register spill",
        kernel="layer_norm",
        edits=(("TILE = ", "TILE = 8192 or "), ("min(32, max(1, elements // (32 * ELEMENTS_PER_THREAD)))", "1")),
        figures=("spills",),
    ),
    Regression(
        kind="lost mask",
        kernel="mbdt",
        edits=(("first + place, mask=inside, other=0.0)", "first + place)"),),
        figures=("bytes_loaded",),
    ),
    Regression(
        kind="extra load",
        kernel="softmax",
        edits=(
            (
                "        powers = tl.exp(shifted)\n",
                '        again = tl.load(x + begin + place, mask=inside, other=-float("inf"), volatile=True)\n'
                "        powers = tl.exp(shifted) + again.to(tl.float32) * 0\n",
            ),
        ),
        figures=("bytes_loaded",),
    ),
    Regression(
        kind="redundant pass over the data",
        kernel="cross_entropy",
        edits=(
            (
                "    label = tl.load(target + first + row, mask=inside_row, other=0)\n    at_label",
                "    highest, total = maximum_and_sum(logits, row, inside_row, cols, ROWS, BLOCK, STAGES)\n"
                "    label = tl.load(target + first + row, mask=inside_row, other=0)\n    at_label",
            ),
        ),
        figures=("bytes_loaded",),
    ),
    Regression(
        kind="lost vectorisation",
        kernel="swiglu",
        edits=(("unit = 8 if count % 8 == 0 else 1", "unit = 1"),),
        figures=("load_width",),
    ),
    Regression(
        kind="wrong dtype of the arithmetic",
        kernel="softmax",
        edits=(('other=-float("inf")).to(tl.float32)', 'other=-float("inf")).to(tl.float64)'),),
        figures=("float64_instructions", "float64_flops"),
    ),
    Regression(
        kind="wrong dtype of the traffic",
        kernel="swiglu",
        edits=(
            (
                "    out = torch.empty_like(gate)\n    count",
                "    out = torch.empty_like(gate)\n    gate = gate.new_zeros(gate.shape, dtype=torch.float32)\n    count",
            ),
        ),
        figures=("bytes_loaded",),
    ),
    Regression(
        kind="dead store",
        kernel="map_id",
        edits=(
            (
                "    within = inside & (below < known)\n",
                "    tl.store(out + first + place, below, mask=inside)\n    within = inside & (below < known)\n",
            ),
        ),
        figures=("bytes_stored",),
    ),
    Regression(
        kind="load that does not change inside the loop",
        kernel="wukong_fm",
        edits=(
            (
                "    for first in tl.range(0, dim, DEPTH, num_stages=STAGES):\n",
                "    for first in tl.range(0, dim, DEPTH, num_stages=STAGES):\n"
                "        total += rows_of(x, row, rows, tl.arange(0, ROWS), dim).to(tl.float32) * 0\n",
            ),
        ),
        figures=("bytes_loaded",),
    ),
    Regression(
        kind="atomics in place of a store",
        kernel="rms_norm_backward",
        edits=(
            ("tl.store(dweight + out_col, tl.sum(total, axis=0), mask=out_col < cols)",
             "tl.atomic_add(dweight + out_col, tl.sum(total, axis=0), mask=out_col < cols)"),
            ("    dweight = torch.empty_like(weight)\n    add", "    dweight = weight.new_zeros(weight.shape, dtype=torch.float32)\n    add"),
        ),
        figures=("atomics",),
    ),
    Regression(
        kind="more shared memory",
        kernel="conv1d",
        edits=(("STAGES = ", "STAGES = 1 + "),),
        figures=("shared_bytes",),
    ),
    Regression(
        kind="change of layout through shared memory (bank conflicts)",
        kernel="rms_norm",
        edits=(
            (
                "        scale = tl.rsqrt(tl.sum(tile * tile",
                "        tile = tl.reshape(tl.trans(tl.reshape(tile, (COLS // 64, ROWS * 64))), (ROWS, COLS))\n"
                "        scale = tl.rsqrt(tl.sum(tile * tile",
            ),
        ),
        figures=("shared_instructions", "shared_bytes"),
    ),
    Regression(
        kind="lost tensor cores",
        kernel="wukong_fm",
        edits=(("[None, :], other=0.0)\n", "[None, :], other=0.0).to(tl.float32)\n"), ("like.dtype.element_ty", "tl.float32")),
        figures=("matrix_instructions",),
    ),
    Regression(
        kind="another launch",
        kernel="cross_entropy",
        edits=(("    mean[(1,)](losses, loss, rows, MEAN_BLOCK, num_warps=8)\n",
                "    mean[(1,)](losses, loss, rows, MEAN_BLOCK, num_warps=8)\n" * 2),),
        figures=("launches",),
    ),
)  # fmt: skip
