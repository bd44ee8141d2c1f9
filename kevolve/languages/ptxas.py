"""What NVIDIA's assembler says of the kernels of a file (``-v``): what each needs, and where it warns that time is lost."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_MOST_KERNELS = 8
_MOST_REMARKS = 6
_ENTRY = re.compile(r"ptxas info\s*:\s*Compiling entry function '(?P<name>[^']+)' for '(?P<arch>\w+)'")
_REGISTERS = re.compile(r"Used (?P<registers>\d+) registers")
_SHARED = re.compile(r"(?P<bytes>\d+) bytes smem")
_FRAME = re.compile(r"(?P<frame>\d+) bytes stack frame")
_LOSS = re.compile(
    r"^ptxas info\s*:\s*\((?P<code>C\d+)\) (?P<what>Potential Performance Loss: .*?)(?: in (?:the )?function '(?P<name>[^']*)'.*)?$"
)
_DEMANGLE_S, _DEMANGLE_KIB = 10, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """One kernel. ``registers`` a thread; ``frame``: bytes of local memory a thread; ``shared``: bytes of static shared memory a block."""

    name: str
    registers: int
    frame: int
    shared: int

    @property
    def text(self) -> str:
        """On one line."""
        local = f", {self.frame} bytes of local memory a thread" if self.frame else ""
        shared = f", {self.shared} bytes of static shared memory" if self.shared else ""
        return f"`{self.name}`: {self.registers} registers{local}{shared}"


def needs(text: str) -> tuple[Needs, ...]:
    """Every kernel of what ``ptxas -v`` printed, in its order."""
    parts = _ENTRY.split(text)
    return tuple(
        Needs(name=short(name), registers=_most(_REGISTERS, body), frame=_most(_FRAME, body), shared=_most(_SHARED, body))
        for name, body in zip(parts[1::3], parts[3::3], strict=True)
    )


def resources(text: str) -> Mapping[str, float]:
    """The greatest over the kernels: registers a thread, local memory a thread, static shared memory a block."""
    found = needs(text)
    if not found:
        return {}
    return {
        "registers": max(each.registers for each in found),
        "spill_bytes": max(each.frame for each in found),
        "shared_bytes": max(each.shared for each in found),
        "kernels": len(found),
    }


def remarks(text: str) -> str:
    """What else an author should hear: time that is lost, compilers' warnings, and of several kernels what each needs."""
    found = sorted(needs(text), key=lambda each: (-each.frame, -each.registers, each.name))
    lines = [*_shortened(_losses(text), _MOST_REMARKS, "more of these"), *_warnings(text)]
    if len(found) > 1:
        lines += _shortened((each.text for each in found), _MOST_KERNELS, "more kernels, which need no more")
    return "\n".join(lines)


def demangled(text: str) -> str:
    """The same with C++ names as they were written, where binutils' ``c++filt`` is there; names are a candidate's, so it is held short."""
    path = shutil.which("c++filt")
    if path is None:
        return text
    try:
        command = ["/bin/sh", "-c", f'ulimit -c 0; ulimit -v {_DEMANGLE_KIB}; exec "$1"', "sh", path]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_DEMANGLE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return text
    return done.stdout if done.returncode == 0 else text


def short(name: str) -> str:
    """``fused<6, true>`` of ``void (anonymous namespace)::fused<6, true>(int, …)``."""
    plain = name.replace("(anonymous namespace)::", "")
    depth = 0
    for place, letter in enumerate(plain):
        depth += (letter in "<([") - (letter in ">)]")
        if letter == "(" and depth == 1:
            plain = plain[:place]
            break
    return plain.removeprefix("void ").strip()


def _losses(text: str) -> Iterator[str]:
    """Each loss once, with the first kernel that has it and how many more do."""
    kernels: dict[str, list[str]] = {}
    for match in filter(None, map(_LOSS.match, text.splitlines())):
        kernels.setdefault(f"{match['what']} ({match['code']})", []).append(short(match["name"] or ""))
    for what, names in kernels.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{what}{f' in `{names[0]}`{more}' if names[0] else ''}"


def _warnings(text: str) -> list[str]:
    """Without what the assembler says for information, remarks on how to silence them, and empty lines."""
    lines = (line for line in text.splitlines() if not line.startswith(("ptxas info", "Remark:")) and not _FRAME.search(line))
    return [line.rstrip() for line in lines if line.strip()]


def _shortened(lines: Iterator[str], most: int, rest: str) -> list[str]:
    told = list(lines)
    return told if len(told) <= most else [*told[:most], f"… {len(told) - most} {rest}"]


def _most(pattern: re.Pattern[str], text: str) -> int:
    return max((int(number) for number in pattern.findall(text)), default=0)
