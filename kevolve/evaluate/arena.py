"""Tensors that cross a process boundary: laid out in a memfd, described in JSON, never pickled.

Input arenas are written by the judge, sealed against resizing, and mapped by the child; each tensor has a storage of its own
with guard bytes on both sides. Output arenas are made and grown by the judge and filled by the child.
A *layout* is a list of items, an item a list of slots, a slot ``[dtype, shape, strides, offset, position, bytes]`` for a tensor
(strides and offset in elements, position and size of its storage in bytes) or ``{"value": …}`` for a number or None.
An output's *meta* is ``[dtype, shape, strides, position]``: its elements lie in the arena in logical order.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from kevolve.spec.dtypes import DTYPES

Value: TypeAlias = torch.Tensor | int | float | bool | None
Layout: TypeAlias = list[list[Any]]

ALIGNMENT = 64
GUARD_BYTES = 192
GUARD_BYTE = 0xA5
_PART_BYTES = 1 << 20  # of a file, read at once: it stays in the cache
_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class BadMeta(ValueError):
    """A child's description of an output that does not fit its arena."""


def dtype_named(name: str) -> torch.dtype:
    """The torch dtype of a name. Raises ``BadMeta``."""
    try:
        return _DTYPES[name]
    except (KeyError, TypeError) as error:
        raise BadMeta(f"dtype: expected one of {', '.join(_DTYPES)}, got {name!r}") from error


def name_of(dtype: torch.dtype) -> str:
    """The name of a torch dtype, ``"complex64"`` for those that no spec may name."""
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Items laid out: ``size`` bytes, which ``kept`` holds in the judge's own memory unless they are many. Serves many arenas."""

    items: Sequence[Sequence[Value]]
    layout: Layout
    size: int
    kept: torch.Tensor | None

    def write(self, into: torch.Tensor) -> None:
        """Fill ``size`` bytes: guards, and between them the tensors' storages."""
        into.fill_(GUARD_BYTE)
        for slots, item in zip(self.layout, self.items, strict=True):
            for slot, value in zip(slots, item, strict=True):
                if isinstance(value, torch.Tensor) and slot[5]:
                    into[slot[4] : slot[4] + slot[5]] = _storage_bytes(value, slot[5])


class Arena:
    """Inputs written once by the judge; ``fd`` and ``layout`` are what a child is given.

    The image's own tensors are the private copy that ``disturbed`` compares with: do not write to them meanwhile.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self.items = image.items
        self.layout = image.layout
        self.fd = os.memfd_create("kevolve-inputs", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, image.size)
        self._map = mmap.mmap(self.fd, image.size)
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        if image.kept is None:
            image.write(self._bytes)
        else:
            _write_all(self.fd, image.kept)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)

    def disturbed(self, *, item: int | None = None, mutable: Sequence[int] = ()) -> list[str]:
        """What a child wrote that it may not have: ``"item 3: input 0"``, ``"item 3: beyond the end of input 1"``.

        ``item``: only that one. ``mutable``: positions of inputs that may change.
        """
        found: list[str] = []
        if self._image.kept is not None and _holds(self.fd, self._image.kept):
            return found
        for number in range(len(self.layout)) if item is None else [item]:
            for position, slot in enumerate(self.layout[number]):
                if isinstance(slot, list):
                    found += [f"item {number}: {what}" for what in self._changes(number, position, position in mutable)]
        return found

    def _changes(self, number: int, position: int, mutable: bool) -> list[str]:
        start, size = self.layout[number][position][4:6]
        found = []
        value = self.items[number][position]
        if size and not mutable and not _same(self._bytes[start : start + size], _storage_bytes(value, size)):
            found.append(f"input {position}")
        end = _aligned(start + size) + GUARD_BYTES
        if not bool((self._bytes[start - GUARD_BYTES : start] == GUARD_BYTE).all()):
            found.append(f"before the start of input {position}")
        if not bool((self._bytes[start + size : end] == GUARD_BYTE).all()):
            found.append(f"beyond the end of input {position}")
        return found

    def close(self) -> None:
        """Give the memory back; children that mapped it keep theirs."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            del self._bytes, self._map

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _span(tensor: torch.Tensor) -> int:
    """Bytes of the storage from its start to the tensor's last element."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset() + last + 1) * tensor.element_size()


def _storage_bytes(tensor: Any, size: int) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage(), 0, (size,), (1,))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether bytes are equal: eight at a time, which is six times as fast as one by one."""
    words = one.numel() // 8 * 8
    return torch.equal(one[:words].view(torch.int64), other[:words].view(torch.int64)) and torch.equal(one[words:], other[words:])


def _write_all(fd: int, content: torch.Tensor) -> None:
    """Through the file: in a mapping each page would be cleared first, which takes as long again."""
    data, done = content.numpy().data, 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], done)


def _holds(fd: int, content: torch.Tensor) -> bool:
    """Whether a file holds these bytes, a part at a time."""
    part = torch.empty(_PART_BYTES, dtype=torch.uint8)
    for start in range(0, content.numel(), _PART_BYTES):
        wanted = content[start : start + _PART_BYTES]
        got = part[: wanted.numel()]
        if os.preadv(fd, [got.numpy().data], start) != wanted.numel() or not _same(got, wanted):
            return False
    return True


def pack(items: Sequence[Sequence[Value]]) -> Arena:
    """Lay CPU tensors and numbers out for a child; see ``lay_out``."""
    return Arena(lay_out(items, keep=False))


def lay_out(items: Sequence[Sequence[Value]], *, keep: bool) -> Image:
    """The image of CPU tensors and numbers. ``keep``: in the judge's own memory too, for many arenas of one content.

    Strides (0 included) and storage offsets are kept; what lies in a tensor's storage before and between its elements goes along.
    """
    layout: Layout = []
    position = GUARD_BYTES
    for item in items:
        slots: list[Any] = []
        for value in item:
            if not isinstance(value, torch.Tensor):
                slots.append({"value": value})
                continue
            size = _span(value)
            slots.append(
                [name_of(value.dtype), list(value.shape), list(value.stride()), value.storage_offset() if size else 0, position, size]
            )
            position = _aligned(position + size) + GUARD_BYTES
        layout.append(slots)
    image = Image(items=items, layout=layout, size=position, kept=None)
    if not keep:
        return image
    kept = torch.empty(position, dtype=torch.uint8)
    image.write(kept)
    return replace(image, kept=kept)


class Mapped:
    """A child's view of an input arena; ``take`` makes the tensors of one item.

    ``place``: moves a tensor to a device; the arena goes there in one piece, guard bytes included.
    """

    def __init__(self, fd: int, layout: Layout, *, place: Callable[[Any], Any] = lambda tensor: tensor) -> None:
        self.layout = layout
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._place = place
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        placed = place(self._bytes)
        self._placed = None if placed is self._bytes else placed

    def give_back(self, fetch: Callable[[Any], Any]) -> None:
        """Write what the device's copy holds now to the arena, where the judge looks for what a candidate disturbed."""
        if self._placed is not None:
            self._bytes.copy_(fetch(self._placed))

    def take(self, number: int) -> list[Value]:
        """Item ``number``: each tensor with a storage of its own, strides and offset as the judge's."""
        return [self._tensor(*slot) if isinstance(slot, list) else slot["value"] for slot in self.layout[number]]

    def _tensor(self, name: str, shape: list[int], strides: list[int], offset: int, position: int, size: int) -> torch.Tensor:
        dtype = _DTYPES[name]
        if not size:
            return self._place(torch.empty_strided(shape, strides, dtype=dtype))  # type: ignore[no-any-return]
        if self._placed is not None:
            own: torch.Tensor = self._placed[position : position + size].view(dtype)
            return own.as_strided(shape, strides, position // dtype.itemsize + offset)
        flat = torch.frombuffer(self._map, dtype=dtype, count=size // dtype.itemsize, offset=position)
        return flat.as_strided(shape, strides, offset)


def unpack(fd: int, layout: Layout) -> list[list[Value]]:
    """Every item of an arena, sharing its memory."""
    mapped = Mapped(fd, layout)
    return [mapped.take(number) for number in range(len(layout))]


class Outputs:
    """An output arena, the judge's side: it alone changes the size, as far as the child's limits allow."""

    def __init__(self, *, bytes: int = 1 << 20) -> None:
        self.fd = os.memfd_create("kevolve-outputs", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, bytes)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)

    def close(self) -> None:
        """Give the memory back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()  # an answer that waits for its verdict keeps its arena, whatever becomes of it

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Outputs that stay in their arena: ``metas`` as ``described_outputs`` has accepted them."""

    arena: Outputs
    metas: Sequence[Sequence[Any]]


def read_outputs(arena: Outputs, metas: Sequence[Sequence[Any]]) -> list[list[torch.Tensor]]:
    """The outputs a child described, as copies of our own. Raises ``BadMeta``: nothing in ``metas`` is trusted."""
    size = os.fstat(arena.fd).st_size
    with mmap.mmap(arena.fd, size, prot=mmap.PROT_READ) as mapped:
        return [[_output(mapped, size, meta) for meta in _sequence(item)] for item in _sequence(metas)]


def described_outputs(arena: Outputs, metas: Sequence[Sequence[Any]]) -> list[list[torch.Tensor]]:
    """Tensors without memory of the shapes a child described, where reading them is left to another. Raises ``BadMeta``."""
    size = os.fstat(arena.fd).st_size
    return [[_described(size, meta) for meta in _sequence(item)] for item in _sequence(metas)]


def placed_outputs(fd: int, metas: Sequence[Sequence[Any]], place: Callable[[Any], Any]) -> list[list[torch.Tensor]]:
    """The outputs in an arena as copies on a device. ``metas`` as ``described_outputs`` has accepted them."""
    mapped = mmap.mmap(fd, os.fstat(fd).st_size)
    return [[_placed(mapped, meta, place) for meta in item] for item in metas]


def _described(size: int, meta: Any) -> torch.Tensor:
    dtype, shape, strides, _ = _checked(size, meta)
    return torch.empty_strided(shape, [min(stride, 1 << 40) for stride in strides], dtype=dtype, device="meta")


def _placed(mapped: mmap.mmap, meta: Sequence[Any], place: Callable[[Any], Any]) -> torch.Tensor:
    dtype, shape, strides, position = _checked(len(mapped), meta)
    if not math.prod(shape):
        return place(torch.empty_strided(shape, strides, dtype=dtype))  # type: ignore[no-any-return]
    values = place(torch.frombuffer(mapped, dtype=dtype, count=math.prod(shape), offset=position)).view(shape)
    return values if list(values.stride()) == strides else _restrided(values, strides)


def contiguous_metas(items: Sequence[Sequence[tuple[torch.dtype, Sequence[int]]]]) -> tuple[list[list[Any]], int]:
    """What a ``Filler`` says of contiguous outputs of these dtypes and shapes, put in this order; and how many bytes they take."""
    metas: list[list[Any]] = []
    position = 0
    for item in items:
        metas.append([])
        for dtype, shape in item:
            metas[-1].append([name_of(dtype), list(shape), contiguous_strides(shape), position])
            if math.prod(shape):
                position = _aligned(position + math.prod(shape) * dtype.itemsize)
    return metas, position


def contiguous_strides(shape: Sequence[int]) -> list[int]:
    """The strides that torch gives a new tensor, in elements."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return strides[::-1][: len(shape)]


def _sequence(given: object) -> Sequence[Any]:
    if not isinstance(given, list):
        raise BadMeta(f"outputs: expected a list, got {given!r:.80}")
    return given


def _checked(size: int, meta: Any) -> tuple[torch.dtype, list[int], list[int], int]:
    """Dtype, shape, strides and position of an output that lies in an arena of ``size`` bytes. Raises ``BadMeta``."""
    if not isinstance(meta, list) or len(meta) != 4:
        raise BadMeta(f"an output: expected [dtype, shape, strides, position], got {meta!r:.80}")
    dtype, shape, strides, position = dtype_named(meta[0]), _sizes(meta[1]), _sizes(meta[2]), meta[3]
    numel = math.prod(shape)
    if len(strides) != len(shape):
        raise BadMeta(f"strides: expected {len(shape)} numbers, got {strides}")
    if not isinstance(position, int) or position < 0 or position + numel * dtype.itemsize > size:
        raise BadMeta(f"an output of {numel} x {meta[0]} at {position} does not lie in an arena of {size} bytes")
    return dtype, shape, strides, position


def _output(mapped: mmap.mmap, size: int, meta: Any) -> torch.Tensor:
    dtype, shape, strides, position = _checked(size, meta)
    numel = math.prod(shape)
    if not numel:
        return torch.empty_strided(shape, [min(stride, 1 << 40) for stride in strides], dtype=dtype)
    data = bytearray(mapped[position : position + numel * dtype.itemsize])
    values = torch.frombuffer(data, dtype=dtype).view(shape)
    return values if list(values.stride()) == strides else _restrided(values, strides)


def _restrided(values: torch.Tensor, strides: list[int]) -> torch.Tensor:
    """The values with a child's strides where no two elements share a place and little is wasted; else contiguous."""
    reach = 1
    for stride, size in sorted((stride, size) for size, stride in zip(values.shape, strides, strict=True) if size > 1):
        if stride < reach:
            return values
        reach += (size - 1) * stride
    if reach > 4 * values.numel() + 1024:
        return values
    return torch.empty_strided(values.shape, strides, dtype=values.dtype, device=values.device).copy_(values)


def _sizes(given: object) -> list[int]:
    if not isinstance(given, list) or len(given) > 32 or not all(type(size) is int and 0 <= size < 1 << 62 for size in given):
        raise BadMeta(f"sizes: expected integers of at least 0, got {given!r:.80}")
    return given


class Filler:
    """A child's side of an output arena. ``grow(bytes)`` asks the judge for a larger one."""

    def __init__(self, fd: int, grow: Callable[[int], None]) -> None:
        self._fd = fd
        self._grow = grow
        self._used = 0
        self._size = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, self._size)

    def put(self, tensor: torch.Tensor) -> list[Any]:
        """Copy a CPU tensor in; its meta."""
        position, count = self._used, tensor.numel()
        meta = [name_of(tensor.dtype), list(tensor.shape), list(tensor.stride()), position]
        if count:
            self._reserve(position + count * tensor.element_size())
            place = torch.frombuffer(self._map, dtype=tensor.dtype, count=count, offset=position)
            place.view(tensor.shape).copy_(tensor)
        return meta

    def touch(self) -> None:
        """Have the memory mapped before it is needed."""
        torch.frombuffer(self._map, dtype=torch.uint8).zero_()

    def _reserve(self, end: int) -> None:
        self._used = _aligned(end)
        if self._used > self._size:
            self._size = max(self._used, 2 * self._size)
            self._grow(self._size)
            self._map = mmap.mmap(self._fd, self._size)
