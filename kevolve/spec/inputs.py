"""Descriptions of inputs: what a test function returns in place of tensors.

Nothing here imports torch; ``kevolve.evaluate.materialise`` turns a description and a seed into tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kevolve.spec.dtypes import DTYPES, dtype_name

DISTRIBUTIONS = ("normal", "uniform", "heavy_tailed", "tiny", "huge", "integers", "constant", "infinities")
LAYOUTS = ("contiguous", "strided", "offset", "transposed", "broadcast")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor input.

    ``shape``: sizes by axis. ``dtype``: a name such as ``"bfloat16"`` (or the torch dtype).
    ``low``, ``high``: bounds, ``high`` exclusive; needed for integers wider than 8 bits, optional for floats (uniform between them).
    ``distribution``: one of ``DISTRIBUTIONS``; None means normal in benchmark cases, and drawn by name in the property plan.
    ``layout``: one of ``LAYOUTS``; None means contiguous in benchmark cases, and drawn in the property plan.
    ``sorted``: ascending along the last axis. ``unique``: no value twice along the last axis (integers only).
    ``infinities``: the property plan may put ±inf in.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | None
    high: float | None
    distribution: str | None
    layout: str | None
    sorted: bool
    unique: bool
    infinities: bool

    def __init__(
        self,
        *shape: int,
        dtype: Any = "float32",
        low: float | None = None,
        high: float | None = None,
        distribution: str | None = None,
        layout: str | None = None,
        sorted: bool = False,
        unique: bool = False,
        infinities: bool = False,
    ) -> None:
        values = dict(shape=tuple(shape), dtype=dtype_name(dtype), low=low, high=high, distribution=distribution)
        values |= dict(layout=layout, sorted=sorted, unique=unique, infinities=infinities)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def problems(self) -> Iterator[str]:
        """What is wrong with this description, each as ``expected …, got …``."""
        dtype = DTYPES.get(self.dtype)
        if dtype is None:
            yield f"unknown dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}"
        for size in self.shape:
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                yield f"a size: expected an integer of at least 0, got {size!r}"
        if self.distribution not in (None, *DISTRIBUTIONS):
            yield f"unknown distribution: expected one of {', '.join(DISTRIBUTIONS)}, got {self.distribution!r}"
        if self.layout not in (None, *LAYOUTS):
            yield f"unknown layout: expected one of {', '.join(LAYOUTS)}, got {self.layout!r}"
        if dtype is not None:
            yield from self._bound_problems()

    def _bound_problems(self) -> Iterator[str]:
        dtype = DTYPES[self.dtype]
        if dtype.kind == "int" and dtype.bytes > 1 and (self.low is None or self.high is None):
            yield f"bounds of an {dtype.name} tensor: expected low= and high= (exclusive), got low={self.low}, high={self.high}"
        elif self.low is not None and self.high is not None and not self.low < self.high:
            yield f"bounds: expected low < high, got low={self.low}, high={self.high}"
        if self.unique and dtype.kind != "int":
            yield f"unique=True: expected an integer dtype, got {dtype.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A Python number: drawn between ``low`` and ``high`` (inclusive) by the property plan, ``value`` in benchmark cases."""

    value: float
    low: float | None = None
    high: float | None = None

    def problems(self) -> Iterator[str]:
        """What is wrong with this description."""
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            yield f"scalar: expected low <= value <= high, got {self.low}, {self.value}, {self.high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Jagged:
    """Rows of unequal length: *two* inputs, lengths ``int64[rows]`` and their values ``dtype[sum of lengths, *inner]``.

    Lengths are drawn from 0 to ``max_length`` (inclusive), zero-length rows among them.
    """

    rows: int
    max_length: int
    inner: tuple[int, ...] = ()
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None
    distribution: str | None = None

    def values(self, total: int) -> Tensor:
        """The description of the values for a given sum of lengths."""
        return Tensor(total, *self.inner, dtype=self.dtype, low=self.low, high=self.high, distribution=self.distribution)

    def problems(self) -> Iterator[str]:
        """What is wrong with this description."""
        for name, size in (("rows", self.rows), ("max_length", self.max_length)):
            if not isinstance(size, int) or size < 0:
                yield f"{name}: expected an integer of at least 0, got {size!r}"
        yield from self.values(0).problems()


Descriptor: TypeAlias = Tensor | Scalar | Jagged | int | float | bool | None
# A function `(sizes, generator) -> inputs` for what the descriptors cannot say: `sizes` are the case's arguments by
# name, `generator` a seeded torch.Generator on the CPU, the result a tuple of tensors and numbers.
InputFunction: TypeAlias = Callable[[Mapping[str, Any], Any], Any]
Description: TypeAlias = tuple[Descriptor, ...] | InputFunction


def description_problems(described: object) -> Iterator[str]:
    """What is wrong with what a test function returned."""
    if callable(described):
        return
    if not isinstance(described, tuple):
        yield f"the test function: expected a tuple of input descriptions or a function, got {type(described).__name__}"
        return
    for position, item in enumerate(described):
        if isinstance(item, Tensor | Scalar | Jagged):
            yield from (f"input {position}: {problem}" for problem in item.problems())
        elif not isinstance(item, int | float | bool | None):
            yield f"input {position}: expected Tensor, Scalar, Jagged or a number, got {type(item).__name__}"
