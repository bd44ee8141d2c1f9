"""What a processor's machine code consists of, from ``objdump``'s listing: floating instructions on vectors and on single numbers, calls.

x86-64 only: there a mnemonic says which it is (``vfmadd231ps`` works on a vector, ``vfmadd231ss`` on one number).
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

_LINE = re.compile(r"^ +[0-9a-f]+:\t(?:(?:bnd|notrack|data16|cs|rep\w*|lock) )*([a-z]\w*)", re.MULTILINE)
_FLOATING = re.compile(r"v?(?:add|sub|mul|div|max|min|sqrt|rsqrt\w*|rcp\w*|fn?m(?:add|sub)\w*?)([ps])[sdh]")
_PADDING = ("nop", "nopw", "nopl", "xchg", "int3", "endbr64")
_TIMEOUT_S = 60


def missing() -> str | None:
    """None where code can be listed, else what is missing."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"machine code is read of x86-64, this is {platform.machine()}"
    return None if shutil.which("objdump") else "no objdump: apt install binutils"


def counted(text: str) -> dict[str, float]:
    """Figures of a listing: ``code_instructions``, ``packed``, ``scalar``, ``calls``."""
    mnemonics = Counter(mnemonic for mnemonic in _LINE.findall(text) if mnemonic not in _PADDING)
    kinds: Counter[str] = Counter()
    for mnemonic, count in mnemonics.items():
        floating = _FLOATING.fullmatch(mnemonic)
        if floating is not None:
            kinds["packed" if floating[1] == "p" else "scalar"] += count
    return {
        "code_instructions": mnemonics.total(),
        "packed": kinds["packed"],
        "scalar": kinds["scalar"],
        "calls": mnemonics["call"] + mnemonics["callq"],
    }


def listed(library: Path) -> dict[str, float]:
    """Figures of a built library. Raises ``OSError`` or ``subprocess.SubprocessError`` where it cannot be listed."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--section=.text", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    return counted(done.stdout)
