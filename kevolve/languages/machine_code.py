"""What a compiled kernel consists of, read without a device and without a disassembler: instructions by class, and how wide its loads are.

A cubin's instructions are 16 bytes each since sm_70, the opcode in the lowest 12 bits, a memory access's width in bits 73 to 75. The
encoding is not documented; the numbers are those of ``nvdisasm -hex`` for sm_80, sm_90 and sm_100, and a test compares the two.
For AMD the compiler leaves its assembler text, which is read as it is.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from kevolve.languages.cubin import BadCubin, code

_WORD = struct.Struct("<QQ")
_OPCODE, _WIDTH_BIT = 0xFFF, 9  # of the second word
_BYTES = (1, 1, 2, 2, 4, 8, 16, 32)  # by width field
_NOP = 0x918
_SASS = {
    0x381: "load", 0x981: "load",  # LDG
    0x386: "store", 0x986: "store",  # STG
    0xFAE: "copy",  # LDGSTS: global to shared memory
    0x3A8: "atomic", 0x9A8: "atomic", 0x3A9: "atomic", 0x98E: "atomic",  # ATOMG, its compare-and-swap, RED
    0x384: "shared", 0x984: "shared", 0x388: "shared", 0x988: "shared", 0x83B: "shared", 0x844: "shared",  # LDS, STS, LDSM, STSM
    0x383: "local", 0x983: "local", 0x387: "local", 0x987: "local",  # LDL, STL
    0x23C: "matrix", 0x237: "matrix", 0x23F: "matrix", 0x9F0: "matrix", 0x5EA: "matrix",  # HMMA, IMMA, DMMA, HGMMA, UTCHMMA
}  # fmt: skip
_FLOAT64 = {0x028, 0x029, 0x02A, 0x02B}  # DMUL, DADD, DSETP, DFMA: the lowest 9 bits, whatever form their operands have
_FORMS = 0x1FF

_AMD_WIDTHS = {
    "dwordx4": 16,
    "dwordx3": 12,
    "dwordx2": 8,
    "dword": 4,
    "short": 2,
    "ushort": 2,
    "sshort": 2,
    "byte": 1,
    "ubyte": 1,
    "sbyte": 1,
}
_AMD_MEMORY = re.compile(r"(?:global|buffer|flat)_(load|store|atomic)_(?:lds_)?(\w+?)(?:_d16(?:_hi)?)?$")
_AMD_PADDING = ("s_nop", "s_waitcnt", "s_code_end", "s_clause")  # what the scheduler puts between instructions
_AMD_FIELD = re.compile(r"^\s*(?:- )?\.(\w+):\s+(\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """Of one kernel. ``load_bytes``, ``store_bytes``: of one thread, each instruction counted once. ``shared``: accesses of that memory."""

    instructions: int
    loads: int = 0
    load_bytes: int = 0
    stores: int = 0
    store_bytes: int = 0
    atomic: int = 0
    shared: int = 0
    matrix: int = 0
    float64: int = 0

    def figures(self) -> dict[str, float]:
        """By name, as they are compared: widths as means, and only where there are such accesses."""
        counts: dict[str, float] = asdict(self)
        widths = {f"{what}_width": counts.pop(f"{what}_bytes") / max(1, counts[f"{what}s"]) for what in ("load", "store")}
        named = {name if name in ("instructions", "loads", "stores") else f"{name}_instructions": value for name, value in counts.items()}
        return named | {name: width for name, width in widths.items() if width}


def of_cubin(cubin: bytes) -> dict[str, Instructions]:
    """By kernel's name. Raises ``BadCubin``: the bytes may come from an untrusted process."""
    return {name: _counted(_sass(text)) for name, text in code(cubin).items()}


def _sass(text: bytes) -> Iterator[tuple[str, int]]:
    """Class and width in bytes of each instruction."""
    if len(text) % _WORD.size:
        raise BadCubin(f"expected instructions of {_WORD.size} bytes, got {len(text)} bytes of code")
    for low, high in _WORD.iter_unpack(text):
        opcode = low & _OPCODE
        if opcode != _NOP:
            kind = _SASS.get(opcode) or ("float64" if opcode & _FORMS in _FLOAT64 else "other")
            yield kind, _BYTES[high >> _WIDTH_BIT & 7]


def of_amdgcn(text: str) -> tuple[Instructions, dict[str, int]]:
    """The instructions of the text's kernel, and what its metadata say by name (``vgpr_count``, ``vgpr_spill_count`` …)."""
    body = text.partition(".Lfunc_end0:")[0]  # only directives stand before it, with or without line information
    metadata = text.partition(".amdgpu_metadata")[2]
    return _counted(_amd(body)), {name: int(value) for name, value in _AMD_FIELD.findall(metadata)}


def _amd(body: str) -> Iterator[tuple[str, int]]:
    for line in body.splitlines():
        word = line.split(None, 1)[0] if line[:1] == "\t" and line.strip() else "."
        if word[0] in ".;" or word.startswith(_AMD_PADDING):
            continue
        memory = _AMD_MEMORY.match(word)
        if memory is not None:
            yield memory[1], _AMD_WIDTHS.get(memory[2], 4)
        elif word.startswith("ds_"):
            yield "shared", 0
        elif word.startswith(("v_mfma_", "v_smfmac_")):
            yield "matrix", 0
        else:
            yield ("float64" if "_f64" in word and not word.startswith("v_cvt") else "other"), 0


def _counted(found: Iterator[tuple[str, int]]) -> Instructions:
    counts: Counter[str] = Counter()
    widths: Counter[str] = Counter()
    for kind, width in found:
        counts[kind] += 1
        widths[kind] += width
    return Instructions(
        instructions=counts.total(),
        loads=counts["load"],
        load_bytes=widths["load"],
        stores=counts["store"],
        store_bytes=widths["store"],
        atomic=counts["atomic"],
        shared=counts["shared"] + counts["copy"],
        matrix=counts["matrix"],
        float64=counts["float64"],
    )
