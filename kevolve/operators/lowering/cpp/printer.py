"""A ``Program`` as C++ with OpenMP behind apache-tvm-ffi: one readable file that includes nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kevolve.operators.lowering.cpp.columns import columns
from kevolve.operators.lowering.cpp.function import CONSTANTS, File, Function, helpers
from kevolve.operators.lowering.cpp.host import Host
from kevolve.operators.lowering.cpp.product import product
from kevolve.operators.lowering.cpp.rows import rows
from kevolve.operators.lowering.cpp.scatter import scatter
from kevolve.operators.lowering.cpp.view import viewed
from kevolve.operators.lowering.cpp.whole import scan, whole
from kevolve.operators.lowering.printing import Unprintable
from kevolve.operators.lowering.program import Kernel, Program

_FORMS = {"rows": rows, "columns": columns, "whole": whole, "product": product, "scan": scan, "scatter": scatter}
_HEADERS = {
    "omp.h": r"\bomp_get_",
    "tvm/ffi/extra/c_env_api.h": r"TVMFFIEnvTensorAlloc",
    "tvm/ffi/tvm_ffi.h": r"",
    "algorithm": r"std::(min|max|fill_n|copy_n)\b",
    "cmath": r"std::(fma|fabs|sqrt|pow|nearbyint|copysign|exp\w*|log\w*|sin|cos|tanh?|erf|floor|ceil|trunc|fmod|abs)\b",
    "cstdint": r"",
    "cstring": r"std::mem(cpy|set)",
    "limits": r"std::numeric_limits",
    "memory": r"std::unique_ptr",
    "numeric": r"std::accumulate",
    "type_traits": r"std::(enable_if|is_integral)",
    "vector": r"std::vector",
}
_IDEAS = {
    "rows": "rows in parallel",
    "columns": "blocks of columns in parallel",
    "whole": "chunks in parallel, their results combined in order",
    "product": "a matrix product of packed tiles",
    "scan": "rows in parallel, each in its order",
    "scatter": "destinations that belong to one thread each",
}


def source(program: Program, backward: Program | None = None) -> str:
    """The text of the file. Raises ``Unprintable`` with the reason where C++ cannot say it."""
    programs = [program, *([backward] if backward is not None else [])]
    file = File(programs)
    for each in programs:
        file.entries[each.entry] = file.names.new(each.entry)  # another name where a helper has it
    kernels, hosts = [], []
    for each in programs:
        functions = [(file.names.new(f"compute_{kernel.name}"), kernel, _function(file, kernel, each)) for kernel in each.kernels]
        kernels += [function.text(name) for name, _, function in functions]
        hosts.append(Host(file, each, [(name, function) for name, _, function in functions]).text())
    body = "\n".join(["namespace {", "", *_shared(file), *kernels, "}  // namespace", "", *hosts])
    return "\n".join([*_head(program, backward), *_includes(body), body])


def _function(file: File, kernel: Kernel, program: Program) -> Function:
    if kernel.form == "call":
        operator = kernel.steps[0].operator if kernel.steps else kernel.name
        raise Unprintable(f"{operator}: a library's operator, and C++ has none")
    function = Function(file, viewed(kernel), program)
    _FORMS[kernel.form](function)
    return function


def _head(program: Program, backward: Program | None) -> list[str]:
    kernels = [*program.kernels, *(backward.kernels if backward is not None else [])]
    forms = list(dict.fromkeys(_idea(kernel) for kernel in kernels))
    return [f"// {program.entry}: {program.doc}", f"// idea: {'; '.join(forms) or 'nothing is computed'}"]


def _idea(kernel: Kernel) -> str:
    passes = len(kernel.passes)
    if kernel.form == "columns" and passes == 1 and not kernel.passes[0].axes:
        return "one pass over all elements, in parallel"
    more = f", {passes} passes over each while it is in the cache" if kernel.form in ("rows", "columns") and passes > 1 else ""
    return _IDEAS[kernel.form] + more


def _includes(body: str) -> list[str]:
    found = [name for name, pattern in _HEADERS.items() if re.search(pattern, body)]
    own = [f"#include <{name}>" for name in found if name.endswith(".h")]
    standard = [f"#include <{name}>" for name in found if not name.endswith(".h")]
    using = ["using ffi::TensorView;"] if "TensorView " in body else []
    return [*own, "", *standard, "", "namespace ffi = tvm::ffi;", *using, ""]


def _shared(file: File) -> list[str]:
    """Constants and helpers that something uses."""
    lines = []
    for name, (meaning, value, choices) in CONSTANTS.items():
        if name in file.used:
            lines += [f"// {meaning}", f"constexpr int64_t {name} = {value};  // tune: {', '.join(map(str, choices))}"]
    texts: Sequence[str] = [text for name, (_, text) in helpers().items() if name in file.used]
    merged: list[str] = []
    for text in texts:  # constants of one line stand together
        if merged and text.count("\n") == 1 and merged[-1].count("\n") == 1:
            merged[-1] = merged[-1].rstrip("\n") + "\n" + text
        elif merged and text.count("\n") == 1 and all(line.startswith("constexpr") for line in merged[-1].splitlines()):
            merged[-1] += text
        else:
            merged.append(text)
    return [*lines, *([""] if lines else []), *merged]


__all__ = ["Unprintable", "source"]
