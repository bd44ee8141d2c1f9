"""Inputs of timed calls: contents that no earlier call in the process has seen, written into buffers that stay where they are.

The judge lays a *pool* out in a memfd that nobody can change any more, and every process of a pair maps it privately. The contents of
call ``number`` follow from the pool and a seed alone, so that the judge can make them again to verify what a timed call returned.

- A plain described tensor is a window of a pool longer than itself, another one every call. Of a tensor over ``REFRESH_BYTES`` a piece
  of that size is rewritten a call, and beside it one element in every ``STRIDE``, so that no long row stays what it was. Jagged lengths
  are rotated, which keeps their sum.
- Sorted, unique or constant-valued inputs, those named in ``constant=`` and the gradients of the outputs keep their contents
  within a process. Inputs named in ``mutates=`` are written anew before every call.
- Inputs made by a function (and a case with nothing to rewrite) come from a bank of whole sets (``Pool.sets``), generated as far as
  memory and time allow. Every process begins at another place of it; the judge plans so few calls that none meets a set twice (``pairs``).
"""

from __future__ import annotations

import errno
import fcntl
import functools
import math
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from kevolve.evaluate.materialise import materialise
from kevolve.spec.inputs import Jagged, Tensor
from kevolve.spec.spec import Case, Draw, Spec

REFRESH_BYTES = 4 << 20
STRIDE = 1024
FEWEST_WINDOWS = 1 << 16
_MOST_WINDOWS = 1 << 22
_BANK_BYTES = 1 << 30
_BANK_S = 2.5
_MOST_SETS = 2048
_ALIGNMENT = 64
_MASK = (1 << 64) - 1


class Pool:
    """A sealed memfd of contents: ``fd`` and ``layout`` (JSON) are what ``Contents`` takes, in the judge and in the workers."""

    def __init__(
        self, sets: Iterable[Sequence[Any]], kinds: Sequence[str], pools: Sequence[torch.Tensor | None], *, seed: int, grad_outputs: int = 0
    ) -> None:
        """Lay out whole ``sets`` of inputs, one at a time; ``kinds`` by position; ``pools`` hold what windows are taken from.

        ``seed``: the first set's, the next ones' follow it. ``grad_outputs``: how many trailing inputs are gradients of the outputs.
        """
        self.seed = seed
        self.grad_outputs = grad_outputs
        self.fd = os.memfd_create("kevolve-pool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._size = 0
        remaining = iter(sets)
        rows: list[list[Any]] = [[self._slot(kind, value, pool) for kind, value, pool in zip(kinds, next(remaining), pools, strict=True)]]
        for made in remaining:
            rows.append([self._slot(kind, value, None) if kind == "bank" else None for kind, value in zip(kinds, made, strict=True)])
        self.layout = rows
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        if not self._size:
            os.ftruncate(self.fd, _ALIGNMENT)
        _seal(self.fd, seals)

    def _slot(self, kind: str, value: Any, pool: torch.Tensor | None) -> dict[str, Any]:
        if not isinstance(value, torch.Tensor):
            return {"kind": "value", "value": value}
        flat = value.reshape(-1) if pool is None else pool
        return {
            "kind": kind,
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "strides": list(value.stride()),
            "offset": int(value.storage_offset()),
            "at": self._append(flat),
            "length": flat.numel(),
        }

    def _append(self, flat: torch.Tensor) -> int:
        start = -(-self._size // _ALIGNMENT) * _ALIGNMENT
        data: Any = memoryview(flat.contiguous().view(torch.uint8).numpy()) if flat.numel() else b""  # type: ignore[arg-type]
        written = 0
        while written < len(data):
            written += os.pwrite(self.fd, data[written : written + (1 << 30)], start + written)
        self._size = start + len(data)
        return start

    @property
    def sets(self) -> int | None:
        """How many calls of a process get contents of their own, or None where every call's are made anew."""
        anew = any(slot["kind"] in ("window", "whole") for slot in self.layout[0])
        return None if anew else len(self.layout)

    def first(self) -> tuple[Any, ...]:
        """The inputs of the first set, without gradients of the outputs: numbers, and tensors that tell shapes and strides alone."""
        slots = self.layout[0][: len(self.layout[0]) - self.grad_outputs]
        return tuple(slot["value"] if slot["kind"] == "value" else _without_contents(slot) for slot in slots)

    def draw_seed(self, number: int, seed: int) -> int:
        """The seed of the draw behind call ``number`` of a process that began with ``seed`` (its gradients of the outputs above all)."""
        return _set_seed(self.seed, row_of(seed, number, len(self.layout)))

    def close(self) -> None:
        """Give the memory back; processes that mapped it keep theirs."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Contents:
    """The inputs of call after call. The same ``fd``, ``layout`` and ``seed`` give the same contents in every process."""

    def __init__(self, fd: int, layout: Sequence[Sequence[Any]], seed: int, *, place: Callable[[Any], Any] = lambda tensor: tensor) -> None:
        self._map = mmap.mmap(fd, os.fstat(fd).st_size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._seed = seed
        self._place = place
        self._layout = layout
        self._flats = [[self._flat(slot) for slot in row] for row in layout]
        self._buffers = [self._buffer(slot, flat) for slot, flat in zip(layout[0], self._flats[0], strict=True)]

    def _flat(self, slot: dict[str, Any] | None) -> torch.Tensor | None:
        if slot is None or slot["kind"] == "value":
            return None
        dtype = getattr(torch, slot["dtype"])
        if not slot["length"]:
            return self._place(torch.empty(0, dtype=dtype))  # type: ignore[no-any-return]
        return self._place(torch.frombuffer(self._map, dtype=dtype, count=slot["length"], offset=slot["at"]))  # type: ignore[no-any-return]

    def _buffer(self, slot: dict[str, Any], flat: torch.Tensor | None) -> Any:
        if flat is None:
            return slot["value"]
        buffer = self._place(strided_empty(slot["shape"], slot["strides"], slot["offset"], flat.dtype))
        write(buffer, flat)
        return buffer

    def inputs(self, number: int) -> tuple[Any, ...]:
        """The inputs of call ``number``, counted from 0 without gaps (else see ``catch_up``). They are overwritten by the next call's."""
        row = row_of(self._seed, number, len(self._layout))
        return tuple(self._input(position, row, number) for position in range(len(self._buffers)))

    def _most_pieces(self) -> int:
        return max((self._pieces(position) for position in range(len(self._buffers))), default=1)

    def catch_up(self, number: int) -> tuple[Any, ...]:
        """The inputs of call ``number`` where none was asked for before: the pieces of earlier calls are written first."""
        for earlier in range(max(0, number - self._most_pieces()), number):
            self.inputs(earlier)
        return self.inputs(number)

    def _input(self, position: int, row: int, number: int) -> Any:
        slot, flat = self._layout[row][position], self._flats[row][position]
        if slot is not None and slot["kind"] == "bank":
            return self._buffer(slot, flat)
        if slot is not None and row and slot["kind"] == "value":
            return slot["value"]
        kind = self._layout[0][position]["kind"]
        if kind in ("window", "whole"):
            self._refresh(position, number)
        elif kind == "restored":
            write(self._buffers[position], self._flats[0][position])
        return self._buffers[position]

    def _pieces(self, position: int) -> int:
        """How many calls it takes to rewrite an input."""
        slot, flat = self._layout[0][position], self._flats[0][position]
        if flat is None or slot["kind"] != "window" or not self._buffers[position].is_contiguous():
            return 1
        size = int(math.prod(slot["shape"])) * flat.element_size()
        return max(1, -(-size // REFRESH_BYTES))

    def _refresh(self, position: int, number: int) -> None:
        buffer, pool = self._buffers[position], self._flats[0][position]
        assert pool is not None  # a window's pool
        count, pieces = buffer.numel(), self._pieces(position)
        piece = -(-count // pieces)
        first = (number % pieces) * piece
        size = min(piece, count - first)
        if size <= 0:
            return
        start = window(self._seed, position, number, pool.numel() - size + 1)
        if pieces == 1:
            write(buffer, pool[start : start + size])
            return
        flat = buffer.view(-1)
        flat[first : first + size].copy_(pool[start : start + size])
        scattered = flat[number % min(pieces, STRIDE) :: STRIDE]  # a phase that the last `pieces` calls repeat: see `catch_up`
        start = window(~self._seed, position, number, pool.numel() - scattered.numel() + 1)
        scattered.copy_(pool[start : start + scattered.numel()])


def _without_contents(slot: Mapping[str, Any]) -> torch.Tensor:
    """A tensor on the device ``meta`` of a slot's dtype, shape, strides and offset."""
    dtype, shape, strides, offset = getattr(torch, slot["dtype"]), slot["shape"], slot["strides"], slot["offset"]
    if math.prod(shape) == 0:
        return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    span = offset + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return torch.empty(span, dtype=dtype, device="meta").as_strided(shape, strides, offset)


def strided_empty(shape: Sequence[int], strides: Sequence[int], offset: int, dtype: torch.dtype) -> torch.Tensor:
    """Memory of our own with the strides and the storage offset given."""
    if math.prod(shape) == 0:
        return torch.empty_strided(shape, strides, dtype=dtype)
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return torch.zeros(offset + span, dtype=dtype).as_strided(shape, strides, offset)


def write(into: torch.Tensor, flat: torch.Tensor | None) -> None:
    """Copy ``flat``'s elements in logical order; along a broadcast axis (stride 0) only the first ones count."""
    if flat is None or not into.numel():
        return
    values = flat[: into.numel()].view(into.shape)
    for axis, stride in enumerate(into.stride()):
        if stride == 0 and into.shape[axis] > 1:
            into, values = into.narrow(axis, 0, 1), values.narrow(axis, 0, 1)
    into.copy_(values)


def row_of(seed: int, number: int, rows: int) -> int:
    """Which set of a bank call ``number`` gets: one after another, from where the seed says."""
    return (_mixed(seed, -1) + number) % rows


def window(seed: int, position: int, number: int, windows: int) -> int:
    """Where call ``number``'s window begins: each of ``windows`` once before any comes again."""
    first, step = _walk(seed, position, windows)
    return (first + number * step) % windows


@functools.lru_cache(maxsize=256)
def _walk(seed: int, position: int, windows: int) -> tuple[int, int]:
    """A first window, and a step that meets them all."""
    first, step = _mixed(seed, 2 * position) % windows, _mixed(seed, 2 * position + 1) % windows
    while math.gcd(step, windows) != 1:
        step += 1
    return first, step


def _mixed(seed: int, number: int) -> int:
    """A well mixed 64-bit number (splitmix64's finaliser)."""
    value = (seed + 0x9E3779B97F4A7C15 * (number + 1)) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _seal(fd: int, seals: int, *, tries: int = 20) -> None:
    """Seal a file of memory. The system may hold pages of it for a moment (it compacts or reclaims memory) and refuse meanwhile."""
    for left in reversed(range(tries)):
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        except OSError as error:
            if error.errno != errno.EBUSY or not left:
                raise
            time.sleep(0.05)
        else:
            return


def case_pool(
    spec: Spec,
    case: Case,
    *,
    seed: int,
    grad_outputs: Callable[[Draw, tuple[Any, ...]], Sequence[Any]] = lambda draw, inputs: (),
    bank_s: float = _BANK_S,
    clock: Callable[[], float] = time.monotonic,
) -> Pool:
    """Contents for the timed calls of one case.

    ``grad_outputs``: the gradients of the outputs for a draw, which follow the inputs. ``bank_s``: seconds that may go into a bank of
    whole sets. Raises what the description raises.
    """

    def made(number: int) -> tuple[Any, ...]:
        draw = Draw(values=case.values, seed=_set_seed(seed, number))
        inputs = materialise(spec, draw)
        grads = tuple(grad_outputs(draw, inputs))
        counts.append(len(grads))
        return (*inputs, *grads)

    counts: list[int] = []
    first = made(0)
    kinds = _kinds(spec, case, first)
    if "window" in kinds or "whole" in kinds:
        second = made(1)
        pools = [_window_pool(kind, one, other, seed) for kind, one, other in zip(kinds, first, second, strict=True)]
        return Pool([first], ["whole" if kind == "rotate" else kind for kind in kinds], pools, seed=seed, grad_outputs=counts[0])
    fixed = ["fixed" if name in spec.constant else "bank" for name in _names(spec, len(first))]
    return Pool(_bank(made, first, bank_s, clock), fixed, [None] * len(first), seed=seed, grad_outputs=counts[0])


def _set_seed(seed: int, number: int) -> int:
    return (seed + number) % 2**31


def _names(spec: Spec, count: int) -> list[str]:
    """Names of ``count`` inputs; gradients of the outputs have none."""
    names = list(spec.reference.inputs)[:count]
    return names + [""] * (count - len(names))


def _kinds(spec: Spec, case: Case, inputs: Sequence[Any]) -> list[str]:
    """How each input of a case gets its contents; none is a window where a function makes them."""
    described = spec.describe(**case.values)
    if callable(described):
        return ["bank"] * len(inputs)
    kinds = [kind for item in described for kind in _described_kinds(item)]
    kinds += ["fixed"] * (len(inputs) - len(kinds))  # gradients of the outputs
    return [_named_kind(spec, *each) for each in zip(_names(spec, len(inputs)), kinds, inputs, strict=True)]


def _named_kind(spec: Spec, name: str, kind: str, value: Any) -> str:
    if name in spec.constant or not isinstance(value, torch.Tensor) or not value.numel():
        return "fixed"
    if name in spec.mutates:
        return "restored" if kind == "fixed" else "whole"
    return kind


def _described_kinds(item: Any) -> list[str]:
    if isinstance(item, Jagged):
        return ["rotate", "window"]
    if not isinstance(item, Tensor):
        return ["fixed"]
    plain = not item.sorted and not item.unique and item.distribution not in ("constant", "infinities")
    return ["window" if plain else "fixed"]


def _window_pool(kind: str, one: Any, other: Any, seed: int) -> torch.Tensor | None:
    """The elements of a draw, then as many of another as windows are wanted (drawn from it again and again where it is short)."""
    if kind == "rotate":
        flat: torch.Tensor = one.reshape(-1)
        return torch.cat([flat, flat[:-1]])
    if kind not in ("window", "whole"):
        return None
    source = other.reshape(-1) if other.numel() else one.reshape(-1)
    extra = min(max(one.numel(), FEWEST_WINDOWS), _MOST_WINDOWS)
    if source.numel() < extra:
        generator = torch.Generator().manual_seed(seed)
        source = source[torch.randint(0, source.numel(), (extra,), generator=generator)]
    return torch.cat([one.reshape(-1), source[:extra]])


def _bank(
    made: Callable[[int], tuple[Any, ...]], first: tuple[Any, ...], bank_s: float, clock: Callable[[], float]
) -> Iterator[tuple[Any, ...]]:
    """At least two whole sets; more while memory and time allow."""
    size = sum(value.nbytes for value in first if isinstance(value, torch.Tensor))
    most = max(2, min(_MOST_SETS, _BANK_BYTES // max(size, 1)))
    end = clock() + bank_s
    yield first
    for number in range(1, most):
        if number > 1 and clock() >= end:
            return
        yield made(number)
