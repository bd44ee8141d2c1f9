"""Edits of the planted kernels that change nothing a device would see: names, comments, layout, order, the spelling of constants."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from tests.gate.planted import KERNELS, Edit, edited


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
        ("a constant spelt out", (("1e-05", "0.00001"),)),
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
