"""The element types a spec may name, described without importing torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DType:
    """One element type. ``eps`` and ``largest`` are 0 for types that are not floating."""

    name: str
    bytes: int
    kind: str  # "float", "int" or "bool"
    eps: float = 0.0
    largest: float = 0.0
    low: int = 0
    high: int = 0  # exclusive


def _integer(name: str, bits: int, *, signed: bool = True) -> DType:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    return DType(name=name, bytes=bits // 8, kind="int", low=low, high=high)


_ALL = (
    DType(name="float64", bytes=8, kind="float", eps=2.0**-52, largest=1.797e308),
    DType(name="float32", bytes=4, kind="float", eps=2.0**-23, largest=3.402e38),
    DType(name="bfloat16", bytes=2, kind="float", eps=2.0**-7, largest=3.389e38),
    DType(name="float16", bytes=2, kind="float", eps=2.0**-10, largest=65504.0),
    _integer("int8", 8),
    _integer("int16", 16),
    _integer("int32", 32),
    _integer("int64", 64),
    _integer("uint8", 8, signed=False),
    DType(name="bool", bytes=1, kind="bool", low=0, high=2),
)
DTYPES = {dtype.name: dtype for dtype in _ALL}


def dtype_name(given: object) -> str:
    """``"float32"`` for ``"float32"``, ``torch.float32`` or anything printed so; unknown names come back as they are."""
    return str(given).removeprefix("torch.")
