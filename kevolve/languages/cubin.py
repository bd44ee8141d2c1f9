"""What a cubin says of its kernels without a device: registers a thread and bytes of local memory a thread (spills and stack).

A cubin is an ELF file. Its section ``.nv.info`` lists attributes: a format byte, an attribute byte, then a 16-bit value or the size of
what follows. Registers and frame sizes are pairs (index of the kernel's symbol, number). The format is not documented; that the
figures are those of ``cuobjdump -res-usage`` is tested.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER, _SECTION, _SYMBOL = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ")
_ATTRIBUTE, _PAIR = struct.Struct("<BBH"), struct.Struct("<II")
_SIZED = 0x04  # the format of attributes whose 16 bits are the size of what follows
_FRAME_SIZE, _REGISTERS = 0x11, 0x2F
_MOST_SECTIONS = 10_000
_CODE = ".text."


class BadCubin(ValueError):
    """Bytes that are no cubin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one kernel needs a thread. ``local_bytes``: what ptxas could not keep in registers, four bytes a spill, and arrays."""

    registers: int
    local_bytes: int


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    link: int
    data: bytes


def usage(cubin: bytes) -> dict[str, Usage]:
    """By kernel's (mangled) name. Raises ``BadCubin``: the bytes may come from an untrusted process."""
    try:
        sections = list(_sections(cubin))
        return _usage(sections)
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
        raise BadCubin(f"expected a cubin (64-bit little-endian ELF), got {len(cubin)} bytes that do not parse: {error}") from error


def code(cubin: bytes) -> dict[str, bytes]:
    """The machine code by kernel's name. Raises ``BadCubin``."""
    try:
        return {section.name.removeprefix(_CODE): section.data for section in _sections(cubin) if section.name.startswith(_CODE)}
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
        raise BadCubin(f"expected a cubin (64-bit little-endian ELF), got {len(cubin)} bytes that do not parse: {error}") from error


def _usage(sections: list[_Section]) -> dict[str, Usage]:
    info = next((section for section in sections if section.name == ".nv.info"), None)
    symbols = next((section for section in sections if section.name == ".symtab"), None)
    if info is None or symbols is None:
        raise BadCubin("expected sections .nv.info and .symtab, got " + ", ".join(section.name for section in sections))
    found = list(_pairs(info.data))
    frames = {symbol: number for attribute, symbol, number in found if attribute == _FRAME_SIZE}
    names = sections[symbols.link].data
    return {
        _symbol_name(symbols.data, names, symbol): Usage(registers=number, local_bytes=frames.get(symbol, 0))
        for attribute, symbol, number in found
        if attribute == _REGISTERS
    }


def _sections(cubin: bytes) -> Iterator[_Section]:
    header = _HEADER.unpack_from(cubin)
    if header[0][:6] != b"\x7fELF\x02\x01":
        raise BadCubin(f"expected a cubin (64-bit little-endian ELF), got a file that begins with {header[0][:6]!r}")
    at, size, count, names = header[6], header[11], header[12], header[13]
    raw = [_SECTION.unpack_from(cubin, at + size * number) for number in range(min(count, _MOST_SECTIONS))]
    strings = cubin[raw[names][4] : raw[names][4] + raw[names][5]]
    for name, _kind, _flags, _address, offset, length, link, *_ in raw:
        yield _Section(_text(strings, name), link, cubin[offset : offset + length])


def _pairs(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Attribute, symbol and number of the attributes that are such pairs."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        form, attribute, size = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if form == _SIZED:
            if size == _PAIR.size:
                yield (attribute, *_PAIR.unpack_from(data, at))
            at += size


def _symbol_name(symbols: bytes, names: bytes, number: int) -> str:
    return _text(names, _SYMBOL.unpack_from(symbols, number * _SYMBOL.size)[0])


def _text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode() if 0 <= at < len(strings) and b"\0" in strings[at:] else ""
