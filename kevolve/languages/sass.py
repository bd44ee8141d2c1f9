"""What a kernel's machine code does, in order: memory, barriers, matrix units and loops; what stands between them is counted.

``cuobjdump`` lists the code; it comes with CUDA's toolkit, and with Triton's wheel.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

_TIMEOUT_S = 30
_MOST_KERNELS, _MOST_LINES, _WIDTH = 4, 30, 130
_FEW = 8  # other instructions between two that are told, fewer of which are not mentioned
_FUNCTION = re.compile(r"^\s+Function : (\S+)")
_LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)([^;]*);")
# Memory and asynchronous copies, what waits, matrix units, what leaves the kernel; a uniform load's way back (R2UR) waits for it.
_TOLD = re.compile(
    r"(?:LD|ST|LDG|STG|LDS|STS|LDSM|STSM|LDL|STL|LDGSTS|LDGDEPBAR|ATOM\w*|RED\w*|UBLK\w+|UTMA\w+|CCTL\w*"
    r"|BAR|BARRIER|DEPBAR|SYNCS|WARPSYNC|MEMBAR|FENCE|WARPGROUP|ACQBULK|PREEXIT|NANOSLEEP|R2UR|SHFL"
    r"|HMMA|IMMA|DMMA|QMMA|HGMMA|IGMMA|QGMMA|UTC\w+|EXIT|CALL)(?:\.|$)"
)
_JUMP = re.compile(r"(?:BRA|JMP)(?:\.|$)")
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a listing; ``target``: the address that it jumps to."""

    address: int
    opcode: str
    target: int | None = None


def program() -> str | None:
    """The path of ``cuobjdump``: on PATH, else in Triton's wheel; None without any."""
    found = shutil.which("cuobjdump")
    if found is None and (triton := importlib.util.find_spec("triton")) is not None:
        for folder in triton.submodule_search_locations or ():
            found = found or shutil.which(str(Path(folder) / "backends" / "nvidia" / "bin" / "cuobjdump"))
    return found


def listed(binary: Path) -> dict[str, list[Instruction]]:
    """By kernel's (mangled) name, of a library or a cubin. Raises ``OSError`` or ``subprocess.SubprocessError``."""
    path = program()
    if path is None:
        raise FileNotFoundError("no cuobjdump: it comes with CUDA's toolkit and with Triton's wheel")
    done = subprocess.run([path, "-sass", str(binary)], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    return parsed(done.stdout)


def parsed(text: str) -> dict[str, list[Instruction]]:
    """The instructions of a listing."""
    kernels: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if (function := _FUNCTION.match(line)) is not None:
            current = kernels.setdefault(function[1], [])
        elif (found := _LINE.match(line)) is not None:
            target = _TARGET.search(found[3].rstrip()) if _JUMP.match(found[2]) else None
            current.append(Instruction(int(found[1], 16), found[2], int(target[1], 16) if target is not None else None))
    return {name: _without_padding(code) for name, code in kernels.items()}


def _without_padding(code: list[Instruction]) -> list[Instruction]:
    """Without the jump to itself and what follows it."""
    end = next((number for number, each in enumerate(code) if each.target == each.address), len(code))
    return [each for each in code[:end] if each.opcode != "NOP"]


def outline(kernels: dict[str, list[Instruction]]) -> str:
    """The longest kernels, each in lines: a loop is indented between its first address and its jump back."""
    order = sorted(kernels, key=lambda name: -len(kernels[name]))
    texts = [f"`{name}`, {len(kernels[name])} instructions:\n{_indented(_shortened(list(_lines(kernels[name]))))}" for name in order]
    more = [f"and {len(order) - _MOST_KERNELS} shorter kernels"] if len(order) > _MOST_KERNELS else []
    return "\n".join([*texts[:_MOST_KERNELS], *more])


def _lines(code: list[Instruction]) -> Iterator[str]:
    loops = {(each.target, each.address) for each in code if each.target is not None and each.target < each.address}
    starts = sorted(start for start, _ in loops)
    ends = {end: start for start, end in loops}
    depth, waiting = 0, list[Instruction]()
    for each in code:
        for _ in range(starts.count(each.address)):
            yield from _told(waiting, depth)
            yield f"{'  ' * depth}loop:"
            waiting, depth = [], depth + 1
        waiting.append(each)
        if each.address in ends:
            yield from _told(waiting, depth)
            waiting, depth = [], max(0, depth - 1)
    yield from _told(waiting, depth)


def _told(code: Iterable[Instruction], depth: int) -> Iterator[str]:
    """Runs of equal operations; of those that are not told one by one, their number where they are many."""
    runs = [(name, sum(1 for _ in run)) for name, run in groupby(each.opcode if _TOLD.match(each.opcode) else "" for each in code)]
    told = [(name, count) for name, count in runs if name or count >= _FEW]
    parts = []
    for name, same in groupby(told, key=lambda each: each[0]):
        count = sum(count for _, count in same)
        parts.append(f"({count})" if not name else name if count == 1 else f"{name} x{count}")
    line = ""
    for part in parts:
        if len(line) + len(part) + 2 > _WIDTH - 2 * depth:
            yield "  " * depth + line
            line = ""
        line = f"{line}, {part}" if line else part
    if line:
        yield "  " * depth + line


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    half = _MOST_LINES // 2
    return [*lines[:half], f"[… {len(lines) - 2 * half} lines]", *lines[-half:]]


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
