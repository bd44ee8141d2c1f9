"""Prints a ``Program`` as a Triton file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kevolve.operators.lowering.printing import Names
from kevolve.operators.lowering.program import Kernel, Program
from kevolve.operators.lowering.triton.function import INDENT, WIDTH, WORDS, Function, helpers
from kevolve.operators.lowering.triton.kernels import Launch, printed
from kevolve.operators.lowering.triton.wrapper import Wrapper

KNOBS = {  # name: what it is, value, alternatives; at most 32 elements of a row a thread: more take long to compile for a plan
    "TILE": ("elements of a tile", 1024, (256, 512, 1024, 2048, 4096)),
    "WARPS": ("", 4, (2, 4, 8)),
    "ROW_TILE": ("elements of a tile of rows", 4096, (1024, 2048, 4096, 8192)),
    "ROW_WARPS": ("", 8, (8, 16)),
    "COLUMN_TILE": ("elements of a tile of columns", 2048, (512, 1024, 2048, 4096)),
    "LANES": ("columns of such a tile", 64, (16, 32, 64, 128, 256)),
    "COLUMN_WARPS": ("", 4, (2, 4, 8)),
    "PARTS": ("programs that share a reduction of everything", 256, (64, 128, 256, 512, 1024)),
    "TILE_M": ("a tile of the product, and a step along what is summed", 64, (16, 32, 64, 128)),
    "TILE_N": ("", 64, (16, 32, 64, 128, 256)),
    "TILE_K": ("", 32, (16, 32, 64, 128)),
    "PRODUCT_WARPS": ("", 4, (2, 4, 8)),
}
IDEAS = {
    "rows": "several short rows a tile, long ones block by block",
    "columns": "one pass over tiles",
    "whole": "each program reduces a share of everything, one joins the shares in order",
    "product": "tiles of a matrix product, with what follows it on the tile",
    "scan": "running results block by block, with a carry",
    "scatter": "elements combined where they meet by atomic operations",
    "call": "the library's own",
}


def source(program: Program, backward: Program | None = None) -> str:
    """The file's text. Raises ``Unprintable`` with the reason where Triton cannot say it."""
    names = Names(WORDS | set(helpers()) | {program.entry, f"{program.entry}_backward"})
    programs = [program] if backward is None else [program, backward]
    used: set[str] = set()
    texts: list[str] = []
    for one in programs:
        work = [_launches(kernel, one, names, backward=one is backward) for kernel in one.kernels]
        for kernel, launches in zip(one.kernels, work, strict=True):
            functions = [each.function for launch in launches for each in (launch.held, launch) if each is not None]
            texts += [_function(function, kernel) for function in functions]
            used = used.union(*(function.writer.functions for function in functions))
        wrapper = Wrapper(one, work)
        texts.append(wrapper.text())
        used |= wrapper.functions
    body = "\n\n\n".join([*_helpers(used), *texts])
    return "\n".join([*_head(programs), "", *_imports(body), "", *_knobs(body), "", "", body, ""])


def _named(names: Names, kernel: Kernel, program: Program, *, backward: bool) -> str:
    """A function's name: what it makes."""
    stem = program.entry if kernel.name in ("out", "result", "") else f"{kernel.name}_backward" if backward else kernel.name
    return names.new(stem if stem.endswith("_kernel") else f"{stem}_kernel")


def _launches(kernel: Kernel, program: Program, names: Names, *, backward: bool) -> list[Launch]:
    """What a kernel launches; nothing for a call of the library."""
    if kernel.form == "call":
        return []
    return _ordered(printed(kernel, _named(names, kernel, program, backward=backward)), program)


def _ordered(launches: list[Launch], program: Program) -> list[Launch]:
    """With parameters in the order of the program: inputs, workspaces, outputs; sizes as they are defined."""
    inputs = [argument.buffer for argument in program.arguments if argument.buffer is not None]
    buffers = {buffer.name: number for number, buffer in enumerate([*inputs, *program.workspaces, *program.outputs])}
    sizes = {size.name: number for number, (size, _) in enumerate(program.sizes)}
    for launch in [each for one in launches for each in (one.held, one) if each is not None]:
        function = launch.function
        function.pointers = dict(sorted(function.pointers.items(), key=lambda item: buffers.get(item[1].name, len(buffers))))
        function.sizes = dict(sorted(function.sizes.items(), key=lambda item: sizes.get(item[0], len(sizes))))
    return launches


def _head(programs: list[Program]) -> list[str]:
    forms: dict[str, list[str]] = {}
    for kernel in [kernel for one in programs for kernel in one.kernels]:
        forms.setdefault(IDEAS[kernel.form], []).append(kernel.name)
    ideas = "; ".join(f"{', '.join(dict.fromkeys(names))}: {idea}" if len(forms) > 1 else idea for idea, names in forms.items())
    ideas = ideas or "views alone"
    lines, line = [f"# {programs[0].entry}: {programs[0].doc}"], "# idea:"
    for word in ideas.split():
        if len(line) + len(word) >= WIDTH:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]


def _imports(body: str) -> list[str]:
    standard = ["import math", ""] if re.search(r"\bmath\.", body.replace("tl.math.", "")) else []
    return [*standard, "import torch", "import triton", "import triton.language as tl"]


def _knobs(body: str) -> list[str]:
    lines = []
    for name, (comment, value, choices) in KNOBS.items():
        if re.search(rf"\b{name}\b", body):
            lines += [f"# {comment}"] if comment else []
            lines.append(f"{name} = {value}  # tune: {', '.join(map(str, choices))}")
    return lines


def _helpers(used: set[str]) -> list[str]:
    """Those in use and what they use, in the file's order."""
    pieces = helpers()
    wanted = set(used)
    for name in reversed(pieces):
        if name in wanted:
            wanted |= {other for other in pieces if re.search(rf"\b{other}\b[(\[]", pieces[name])}
    return [piece for name, piece in pieces.items() if name in wanted]


def _function(function: Function, kernel: Kernel) -> str:
    """A kernel's text."""
    blocks = [f"{block}: tl.constexpr" for block in function.blocks]
    parameters = [*function.pointers, *function.numbers, *function.sizes, *blocks]
    head = f"def {function.name}({', '.join(parameters)}):"
    if len(head) > WIDTH:
        inner = f"{INDENT}{', '.join(parameters)}"
        head = (
            f"def {function.name}(\n{inner}\n):"
            if len(inner) <= WIDTH
            else "\n".join([f"def {function.name}(", *(f"{INDENT}{parameter}," for parameter in parameters), "):"])
        )
    comments = [f"{INDENT}# {line}" for line in kernel.lines]
    return "\n".join([*_decorator(function, kernel), head, *comments, *function.lines])


def _decorator(function: Function, kernel: Kernel) -> list[str]:
    """Numbers of rows are compiled once for all their values.

    Of other sizes it matters whether 16 divides them: of what a place is multiplied with, for where rows begin; of where a mask ends
    along memory, for how many elements are read at once. Not of how many places are searched: where that is 1, the search among none
    becomes a constant, which Triton 3.6 does not compile.
    """
    code = "\n".join(function.lines)
    bounds = [name for name in function.sizes if not re.search(rf"[*/%] {name}\b|\b{name} [*/%]", code)]
    bounds = [name for name in bounds if name not in function.lane_bounds and kernel.form in ("rows", "columns")]
    bounds += [name for name in function.sizes if name not in bounds and _only_searched(name, function.lines)]
    if not bounds:
        return ["@triton.jit"]
    names = ", ".join(f'"{name}"' for name in bounds)
    line = f"@triton.jit(do_not_specialize=[{names}])"
    return [line] if len(line) <= WIDTH else ["@triton.jit(", f"{INDENT}do_not_specialize=[{names}]", ")"]


def _only_searched(name: str, lines: Sequence[str]) -> bool:
    """Whether a size says how many places are searched, and nothing else."""
    using = [line for line in lines if re.search(rf"\b{name}\b", line)]
    return bool(using) and all("sorted_place(" in line and not re.search(rf"[*/%] {name}\b|\b{name} [*/%]", line) for line in using)


__all__ = ["Launch", "source"]
