"""From a draw (sizes, a distribution, a layout and a seed) to tensors on the CPU: the same draw always gives the same tensors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from kevolve.spec.domain import Sizes
from kevolve.spec.dtypes import DTYPES, DType
from kevolve.spec.inputs import Jagged, Scalar, Tensor
from kevolve.spec.spec import Draw, Spec

_PART = 1 << 22  # elements that one generator fills
_STREAMS = 1 << 20  # inputs of one draw take their own streams of random numbers: seed * _STREAMS + position
_MOST, _AT_ONCE = 1 << 27, 1 << 26  # elements above which floats are drawn in parts, and of a part
_GRADS = _STREAMS - 64  # the stream of the first grad_output


def materialise(spec: Spec, draw: Draw) -> tuple[Any, ...]:
    """The inputs of ``draw`` in the reference's order: CPU tensors and Python numbers. A ``Jagged`` gives two.

    Raises ``ValueError`` where a description cannot be met (more unique values than the bounds hold).
    """
    described = spec.describe(**draw.values)
    if callable(described):
        made = described(draw.values, _generator(draw.seed, 0))
        return tuple(made) if isinstance(made, tuple | list) else (made,)
    inputs: list[Any] = []
    for item in described:
        if isinstance(item, Jagged):
            inputs.extend(_jagged(item, draw, len(inputs)))
        else:
            name = spec.reference.inputs[len(inputs)] if len(inputs) < len(spec.reference.inputs) else ""
            inputs.append(_input(item, draw, len(inputs), mutated=name in spec.mutates))
    return tuple(inputs)


def grad_outputs(spec: Spec, draw: Draw, outputs: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """The gradients fed into the backward of ``outputs`` (the forward's, natively): normal, of the same shapes and dtypes.

    Only floating outputs take one. Empty where ``spec`` has no ``grad=``.
    """
    if not spec.grad:
        return ()
    floating = [output for output in outputs if isinstance(output, torch.Tensor) and output.is_floating_point()]
    streams = [_generator(draw.seed, _GRADS + position) for position in range(len(floating))]
    return tuple(torch.randn(output.shape, generator=stream).to(output) for output, stream in zip(floating, streams, strict=True))


def elements(spec: Spec, values: Any) -> int:
    """How many elements the inputs of a case hold, without making them; for a function, the product of its sizes.

    Choices are no factors: most are switches and limits. ``plan`` measures what a function makes where it matters.
    """
    described = spec.describe(**values)
    if callable(described):
        return _product(value for name, value in values.items() if isinstance(spec.vary.get(name), Sizes) and _is_whole(value))
    return sum(_elements(item) for item in described)


def _elements(item: Any) -> int:
    if isinstance(item, Tensor):
        return _product(item.shape)
    if isinstance(item, Jagged):
        return item.rows + item.rows * item.max_length * _product(item.inner)
    return 0


def _product(sizes: Any) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _generator(seed: int, position: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * _STREAMS + position) % 2**63)


def _input(item: Any, draw: Draw, position: int, *, mutated: bool) -> Any:
    if isinstance(item, Scalar):
        return _scalar(item, draw, position)
    if not isinstance(item, Tensor):
        return item
    layout = item.layout or draw.layout or "contiguous"
    return _tensor(item, draw.distribution, "strided" if mutated and layout == "broadcast" else layout, _generator(draw.seed, position))


def _scalar(item: Scalar, draw: Draw, position: int) -> float:
    """The declared value in a benchmark case (which names no distribution), else a number within the bounds."""
    if draw.distribution is None or item.low is None or item.high is None:
        return item.value
    part = torch.rand((), dtype=torch.float64, generator=_generator(draw.seed, position)).item()
    if _is_whole(item.value):
        return min(int(item.high), int(item.low) + int(part * (int(item.high) - int(item.low) + 1)))
    return float(item.low + part * (item.high - item.low))


def _jagged(item: Jagged, draw: Draw, position: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths from 0 to ``max_length``, one in eight set to zero, and the values they need."""
    generator = _generator(draw.seed, position)
    lengths = torch.randint(0, item.max_length + 1, (item.rows,), generator=generator)
    lengths[torch.rand(item.rows, generator=generator) < 0.125] = 0
    values = _input(item.values(int(lengths.sum())), draw, position + 1, mutated=False)
    return lengths, values


def _tensor(item: Tensor, drawn: str | None, layout: str, generator: torch.Generator) -> torch.Tensor:
    """One tensor: its contents first, then the memory they lie in."""
    shape = item.shape
    if layout == "broadcast" and len(shape) >= 2:
        return _contents(item, (1, *shape[1:]), drawn, generator).expand(shape)
    return _laid(_contents(item, shape, drawn, generator), layout, generator)


def _contents(item: Tensor, shape: tuple[int, ...], drawn: str | None, generator: torch.Generator) -> torch.Tensor:
    if DTYPES[item.dtype].kind != "float" or math.prod(shape) <= _MOST or item.sorted:
        return _values(item, shape, drawn, generator)
    made = torch.empty(shape, dtype=getattr(torch, item.dtype))
    for part in made.view(-1).split(_AT_ONCE):  # whole, the wider numbers on the way would take gigabytes
        part.copy_(_values(item, tuple(part.shape), drawn, generator))
    return made


def _values(item: Tensor, shape: tuple[int, ...], drawn: str | None, generator: torch.Generator) -> torch.Tensor:
    dtype = DTYPES[item.dtype]
    if dtype.kind == "float":
        values = _floats(item, shape, drawn, dtype, generator)
    elif item.unique:
        values = _unique(item, shape, dtype, generator)
    else:
        low, high = _bounds(item, dtype)
        values = torch.randint(low, high, shape, generator=generator, dtype=getattr(torch, item.dtype))
    return values.sort(dim=-1).values if item.sorted and shape else values


def _bounds(item: Tensor, dtype: DType) -> tuple[int, int]:
    return (dtype.low if item.low is None else int(item.low)), (dtype.high if item.high is None else int(item.high))


def _floats(item: Tensor, shape: tuple[int, ...], drawn: str | None, dtype: DType, generator: torch.Generator) -> torch.Tensor:
    """Floating contents. Bounds fix the distribution to uniform between them; with one named, they clip it."""
    bounded = item.low is not None or item.high is not None
    name = item.distribution or ("uniform" if bounded else drawn or "normal")
    if name == "infinities" and not item.infinities:
        name = "normal"
    values = _distributed(name, item, shape, dtype, generator)
    if bounded and name != "uniform":
        values = values.clamp_(item.low, item.high)
    values = values.to(getattr(torch, item.dtype))
    if bounded and item.high is not None and item.low is not None and name == "uniform" and dtype.bytes < 4:
        values = values.clamp_(max=_below(item.high, values.dtype))  # rounding may reach the excluded upper bound
    return values


def _below(high: float, dtype: torch.dtype) -> float:
    """The greatest number of ``dtype`` under ``high``."""
    bound = torch.tensor(high, dtype=dtype)
    below = torch.nextafter(bound, torch.tensor(-torch.inf, dtype=dtype)) if dtype != torch.float16 else bound - bound.abs() * 2.0**-11
    return float(below if bound >= high else bound)


def _distributed(name: str, item: Tensor, shape: tuple[int, ...], dtype: DType, generator: torch.Generator) -> torch.Tensor:
    """Unrounded contents by the distribution's name, in float64 for float64 and else in float32."""
    wide = torch.float64 if dtype.bytes == 8 else torch.float32
    if name == "uniform":
        low, high = (0.0 if item.low is None else item.low), (1.0 if item.high is None else item.high)
        values = _noise(torch.Tensor.uniform_, shape, wide, generator)
        return values if (low, high) == (0.0, 1.0) else values.mul_(high - low).add_(low)
    if name == "integers":
        return torch.randint(-4, 5, shape, generator=generator).to(wide)
    if name == "constant":
        # quarters up to 2, so that sums are exact however they are ordered: a constant's rounding errors all have one sign
        value = torch.randint(1, 9, (), generator=generator).item() / 4
        sign = -1.0 if torch.randint(0, 2, (), generator=generator).item() else 1.0
        return torch.full(shape, sign * value, dtype=wide)
    return _reshaped(name, _noise(torch.Tensor.normal_, shape, wide, generator), dtype, generator)


def _noise(fill: Callable[..., Any], shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Uniform or normal numbers; of many, each part from a generator of its own, on all cores: a generator alone fills 10^8 a second."""
    made = torch.empty(shape, dtype=dtype)
    if made.numel() <= _PART:
        fill(made, generator=generator)
        return made
    parts = made.view(-1).split(_PART)
    seeds = torch.randint(0, 2**62, (len(parts),), generator=generator).tolist()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda part, seed: fill(part, generator=torch.Generator().manual_seed(seed)), parts, seeds))
    return made


def _reshaped(name: str, normal: torch.Tensor, dtype: DType, generator: torch.Generator) -> torch.Tensor:
    """The distributions made from a normal one."""
    if name == "heavy_tailed":
        return normal.pow_(3).clamp_(-dtype.largest / 4, dtype.largest / 4)
    if name in ("tiny", "huge"):
        return normal.mul_(dtype.largest ** (0.4 if name == "huge" else -0.4))
    if name == "infinities" and normal.numel():
        count = min(4, normal.numel())
        places = torch.randint(0, normal.numel(), (count,), generator=generator)
        signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
        normal.view(-1)[places] = signs.to(normal.dtype) * torch.inf
    return normal


def _unique(item: Tensor, shape: tuple[int, ...], dtype: DType, generator: torch.Generator) -> torch.Tensor:
    """Integers with no value twice along the last axis."""
    low, high = _bounds(item, dtype)
    count = shape[-1] if shape else 1
    if count > high - low:
        wanted = f"bounds at least {count} apart for {count} unique values"
        raise ValueError(f"a unique {item.dtype} tensor {list(shape)}: expected {wanted}, got [{low}, {high})")
    rows = [_unique_row(low, high, count, generator) for _ in range(_product(shape[:-1]))]
    made = torch.stack(rows).reshape(shape) if rows else torch.empty(shape, dtype=torch.int64)
    return made.to(getattr(torch, item.dtype))


def _unique_row(low: int, high: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` distinct integers in [low, high), in random order; never a permutation of a wide range."""
    if high - low <= max(1024, 4 * count):
        return torch.randperm(high - low, generator=generator)[:count] + low
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:  # the range is at least four times wider: each round finds three quarters of what is missing
        more = torch.randint(low, high, (count - len(found) + 16,), generator=generator)
        found = torch.unique(torch.cat((found, more)))
    return found[torch.randperm(len(found), generator=generator)[:count]]


def _laid(values: torch.Tensor, layout: str, generator: torch.Generator) -> torch.Tensor:
    """The same values in other memory: a wider row pitch, a storage offset, the last two axes swapped (a vector: every second element)."""
    if layout in ("contiguous", "broadcast") or not values.dim():
        return values
    if layout == "offset":
        shift = int(torch.randint(1, 8, (), generator=generator))
        laid = _poisoned(values, (values.numel() + shift,))[shift:].view(values.shape)
    elif values.dim() == 1:
        laid = _poisoned(values, (2 * values.numel(),))[::2]
    elif layout == "transposed":
        laid = values.new_empty((*values.shape[:-2], values.shape[-1], values.shape[-2])).transpose(-1, -2)
    else:
        pitch = values.shape[-1] + int(torch.randint(1, 8, (), generator=generator))
        laid = _poisoned(values, (*values.shape[:-1], pitch))[..., : values.shape[-1]]
    return laid.copy_(values)


def _poisoned(values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Memory whose gaps show when they are read: NaN, or the largest integer."""
    if values.dtype == torch.bool:
        return values.new_ones(shape)
    return values.new_full(shape, torch.nan if values.is_floating_point() else torch.iinfo(values.dtype).max)
