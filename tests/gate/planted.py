"""Ten kernels, the suites' samples, with one case each; edits that make them worse, and the figure that must say so; edits that change nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
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
    """A sample as the kernel of a suite's spec, at one case."""

    sample: str
    test: Callable[..., Any]
    values: Mapping[str, Any]

    @property
    def spec(self) -> Spec:
        case = Case(id="-".join(str(value) for value in self.values.values()), values=self.values)
        return build_spec(self.test, nodeid=f"suites/planted.py::{self.test.__name__}", cases=[case])

    @property
    def source(self) -> str:
        return rendered(self.sample, self.spec.name, self.spec.reference.inputs)


@cache
def rendered(name: str, entry: str, inputs: tuple[str, ...]) -> str:
    sample = next(sample for sample in SAMPLES if sample.name == name)
    return sample.render("triton", entry=entry, inputs=inputs, constants=dict.fromkeys(sample.constants, EPS), knobs={})


def _matrix(rows: int, cols: int, dtype: str = "bfloat16") -> dict[str, Any]:
    return dict(rows=rows, cols=cols, dtype=dtype)


KERNELS = {
    "rms_norm": Kernel(sample="rms_norm", test=test_norms.test_rms_norm, values=_matrix(8192, 4096)),
    "rms_norm_backward": Kernel(sample="rms_norm_backward", test=test_norms.test_rms_norm_backward, values=_matrix(8192, 1024)),
    "layer_norm": Kernel(sample="layer_norm", test=test_norms.test_layer_norm, values=_matrix(16384, 1024)),
    "softmax": Kernel(sample="softmax", test=test_softmaxes.test_softmax, values=_matrix(32768, 2048)),
    "cross_entropy": Kernel(
        sample="cross_entropy", test=test_softmaxes.test_cross_entropy, values=dict(rows=4096, vocab=8192, dtype="bfloat16")
    ),
    "swiglu": Kernel(sample="swiglu", test=test_activations.test_swiglu, values=_matrix(4096, 2048)),
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
        edits=(("STAGES = ", "STAGES = 3 * "),),
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


# --- edits that change nothing ---


def _reformatted(source: str) -> str:
    """Printed anew from the syntax tree: no comments, other line breaks and parentheses."""
    return ast.unparse(ast.parse(source)) + "\n"


def _commented(source: str) -> str:
    """A comment above every statement of a function that is not nested, and a docstring in every kernel without one."""
    lines = []
    for line in source.splitlines():
        if re.match(r"    (?!\)|\"\"\")\w+.* = ", line) and lines and not lines[-1].rstrip().endswith((",", "(", '"""')):
            lines.append("    # what follows is needed below")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _documented(source: str) -> str:
    """Other docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                node.body.pop(0)
            node.body.insert(0, ast.Expr(ast.Constant(f"Do what {node.name} is for.\n\n    It is called below.\n    ")))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


class _Renamer(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)  # type: ignore[return-value]


def _renamed_variables(source: str) -> str:
    """Every variable that a function assigns has another name."""
    tree = ast.parse(source)
    for function in tree.body:
        if isinstance(function, ast.FunctionDef):
            arguments = {argument.arg for argument in function.args.args}
            stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            _Renamer({name: f"{name}_of_this" for name in stored - arguments}).visit(function)
    return ast.unparse(tree) + "\n"


def _renamed_functions(source: str, entry: str) -> str:
    """Every function but the entry (and its backward) has another name, and so has every constant of the module."""
    tree = ast.parse(source)
    kept = {entry, f"{entry}_backward"}
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} - kept
    constants = {name for node in tree.body if isinstance(node, ast.Assign) for name in re.findall(r"^\w+", ast.unparse(node))}
    local = {argument.arg for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for argument in node.args.args}
    return ast.unparse(_Renamer({name: f"the_{name}" for name in names} | {name: f"{name}_MOST" for name in constants - local}).visit(tree))


def _reordered(source: str) -> str:
    """The module's functions and constants in the opposite order, imports first."""
    tree = ast.parse(source)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    constants = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    others = [node for node in tree.body if node not in imports and node not in constants and node not in functions]
    tree.body = [*imports, *reversed(constants), *others, *reversed(functions)]
    return ast.unparse(tree) + "\n"


# One or two of a kernel's own: statements in another order, factors swapped, an intermediate result named, constants folded or spelt out.
OWN: Mapping[str, tuple[tuple[str, tuple[Edit, ...]], ...]] = {
    "rms_norm": (
        ("factors swapped", (("tile * scale * weights", "weights * (scale * tile)"),)),
        ("an intermediate result named", (("tl.rsqrt(tl.sum(tile * tile, axis=1, keep_dims=True) / cols + 1e-06)",
         "tl.sum(tile * tile, axis=1, keep_dims=True) / cols\n        scale = tl.rsqrt(scale + 1e-06)"),)),
    ),
    "rms_norm_backward": (
        ("loads in another order", (
            ("        tile = tl.load(x + begin + place, mask=inside, other=0.0", "        first_tile = tl.load(x + begin + place, mask=inside, other=0.0"),
            ("        squares = tl.sum(tile * tile, axis=1", "        tile = first_tile\n        squares = tl.sum(tile * tile, axis=1"),
        )),
    ),
    "layer_norm": (
        ("loads in another order", (
            ("    weights = tl.load(weight + col, mask=col < cols, other=0.0).to(tl.float32)\n    biases = tl.load(bias + col, mask=col < cols, other=0.0).to(tl.float32)\n",
             "    biases = tl.load(bias + col, mask=col < cols, other=0.0).to(tl.float32)\n    weights = tl.load(weight + col, mask=col < cols, other=0.0).to(tl.float32)\n"),
        )),
        ("a constant spelt out", (("1e-06", "0.000001"),)),
    ),
    "softmax": (
        ("a subtraction turned round", (("tile - tl.max(tile, axis=1, keep_dims=True)", "-tl.max(tile, axis=1, keep_dims=True) + tile"),)),
        ("a constant spelt out", (("0.0)", "0.5 - 0.5)"),)),
    ),
    "cross_entropy": (("a constant folded", (("factor = tl.load(loss_gradient).to(tl.float32) / rows", "factor = 1.0 * (tl.load(loss_gradient).to(tl.float32) / rows)"),)),),
    "swiglu": (
        ("loads in another order", (
            ("    gates = tl.load(gate + first + place, mask=inside, other=0.0)\n    ups = tl.load(up + first + place, mask=inside, other=0.0)\n",
             "    ups = tl.load(up + first + place, mask=inside, other=0.0)\n    gates = tl.load(gate + first + place, mask=inside, other=0.0)\n"),
        )),
        ("factors swapped", (("gates / (1.0 + tl.exp(-gates)) * ups.to(tl.float32)", "ups.to(tl.float32) * (gates / (tl.exp(-gates) + 1.0))"),)),
        ("addresses added in another order", (("gate + first + place", "gate + (place + first)"), ("up + first + place", "up + (place + first)"))),
    ),
    "map_id": (("a mask named", (("    probe = tl.load(ids + below, mask=within, other=0)\n", "    found_there = within\n    probe = tl.load(ids + below, mask=found_there, other=0)\n"),)),),
    "mbdt": (("a comparison turned round", (("border >= value, 0, 1", "value <= border, 0, 1"),)),),
    "wukong_fm": (("a comparison turned round", (("(row < rows)[:, None] & (col < cols)[None, :]", "(col < cols)[None, :] & (rows > row)[:, None]"),)),),
    "conv1d": (("a sum turned round", (("cols + 2 * before", "2 * before + cols"),)),),
}  # fmt: skip


def harmless() -> Iterator[tuple[str, str, str]]:
    """Kernel, what was edited, and the source: every kernel reformatted, commented, documented, renamed twice, reordered; and ``OWN``."""
    for name, kernel in KERNELS.items():
        source = kernel.source
        yield name, "reformatted", _reformatted(source)
        yield name, "commented", _commented(source)
        yield name, "other docstrings", _documented(source)
        yield name, "variables renamed", _renamed_variables(source)
        yield name, "functions renamed", _renamed_functions(source, kernel.spec.name)
        yield name, "functions reordered", _reordered(source)
        for what, edits in OWN[name]:
            yield name, what, edited(source, edits)


def all_edits(name: str) -> str:
    """A kernel with every edit that changes nothing at once."""
    kernel = KERNELS[name]
    source = kernel.source
    for _, edits in OWN[name]:
        source = edited(source, edits)
    source = _renamed_variables(_renamed_functions(_reordered(source), kernel.spec.name))
    return _commented(_documented(source))
