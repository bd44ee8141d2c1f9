"""The figures of a kernel that follow from its text alone, which a spec may declare allowances for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

COMPILED = tuple(
    "registers scalar_registers spills shared_bytes occupancy instructions loads stores load_width store_width "
    "shared_instructions matrix_instructions atomic_instructions float64_instructions".split()
)
COUNTED = ("bytes_loaded", "bytes_stored", "flops", "float64_flops", "atomics", "launches", "programs", "issued")
NATIVE = ("code_instructions", "packed", "scalar", "calls")
FIGURES = (*COMPILED, *COUNTED, *NATIVE)


def allowance_problems(given: Any) -> Iterator[str]:
    """What is wrong with a declared ``allowance=``."""
    if not isinstance(given, Mapping):
        yield f"allowance: expected a mapping such as {{'registers': 1.5}}, got {given!r}"
        return
    for name, factor in given.items():
        if name not in FIGURES:
            yield f"allowance: expected one of {', '.join(FIGURES)}, got {name!r}"
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1e6:
            yield f"allowance {name!r}: expected a positive number that the old figure is multiplied by, got {factor!r}"
