"""What a compiler said, cut down to what helps the kernel's author. Pure: text in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

LONGEST = 2_000  # characters of diagnostics: the first errors are the cause of the others

_LONGEST_MESSAGE = 300
_CODE_LINES = 2  # the line and what points into it
_TRITON_LINES = 4

AT = r"^(?P<file>[^\s:(][^:(]*)"
_GNU = re.compile(AT + r":(?P<line>\d+):(?:\d+:)? (?P<kind>fatal error|error|warning|note|sorry, unimplemented): (?P<what>.*)$")
_NVCC = re.compile(AT + r"\((?P<line>\d+)\): (?P<kind>catastrophic error|error|warning|remark|note)(?: #\d+(?:-D)?)?: (?P<what>.*)$")
_REQUIRED = re.compile(AT + r":(?P<line>\d+):(?:\d+:)?\s+(?:recursively )?required (?:from|by) ")
_DETECTED = re.compile(r"^\s+(?:detected during:?|instantiation of) .*at line (?P<line>\d+)")
_CONTEXT = re.compile(r"^(?:In file included from|\s+from )|: (?:In|At) [^:]+:?$|: +recursively required|^\d+ (?:errors?|warnings?) ")
_LOOSE = re.compile(r"^(?:ptxas|nvlink) .*(?:error|fatal)|undefined reference to|multiple definition of")
_WITH = re.compile(r" \[with [^][]*(?:\[[^][]*\][^][]*)*\]")
_STRING = re.compile(r"std::(?:__cxx11::)?basic_string<char(?:, [^<>]*<char>)*>")
_PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+(?=[\w.+-])")

_TRITON = re.compile(r"^(?:\w+\.)*\w+: at (?P<line>\d+):\d+:\s*$")
_TRITON_END = re.compile(r"^(?:The above exception|During handling of|Traceback \(most recent)")


@dataclass(slots=True, kw_only=True)
class _Told:
    """One diagnostic. ``via``: the kernel's own line that led to it, where it lies in a header."""

    kind: str
    place: str
    what: str
    own: bool
    via: str = ""
    code: list[str] = field(default_factory=list)

    @property
    def is_error(self) -> bool:
        return self.kind not in ("warning", "remark")

    @property
    def text(self) -> str:
        where = f"{self.place}: {self.kind}: " if self.place else ""
        led = f" (from {self.via})" if self.via and self.via != self.place else ""
        return "\n".join([f"{where}{_brief(self.what)}{led}", *(self.code if self.own else ())])


def diagnostics(text: str, *, limit: int = LONGEST) -> str:
    """The first errors of g++, clang++, nvcc or Triton with the kernel's own lines; without errors the warnings.

    Notes, template stacks, repetitions of one cause and this machine's paths are left out. Text of no known form is cut at its end.
    """
    if blocks := list(_triton_blocks(text.splitlines())):
        return _joined(blocks, limit)
    told = list(_told(text.splitlines()))
    errors = [each for each in told if each.is_error]
    chosen = _distinct(errors or told)
    return _joined([each.text for each in chosen], limit) if chosen else _joined([_PATH.sub("", text.strip())], limit)


def _told(lines: Sequence[str]) -> Iterator[_Told]:
    """Diagnostics in order. What leads to an error stands before it with g++, after it with the others."""
    current: _Told | None = None
    keeping, required = False, ""
    for line in lines:
        if match := _GNU.match(line) or _NVCC.match(line):
            keeping = match["kind"] != "note"
            if keeping:
                if current:
                    yield current
                current, required = _begun(match, required), ""
            elif current and "requested here" in match["what"] and is_own(match["file"]):
                current.via = f"{match['file']}:{match['line']}"
        elif match := _REQUIRED.match(line):
            keeping, required = False, f"{match['file']}:{match['line']}" if is_own(match["file"]) else required
        elif current and (match := _DETECTED.match(line)):
            keeping, current.via = False, f"line {match['line']}"
        elif _LOOSE.search(line):
            if current:
                yield current
            current, keeping = _Told(kind="error", place="", what=line.strip(), own=True), False
        elif _CONTEXT.search(line) or not line.strip():
            keeping = False
        elif current and keeping and len(current.code) < _CODE_LINES:
            current.code.append(line.rstrip())
    if current:
        yield current


def _begun(match: re.Match[str], required: str) -> _Told:
    own, name, line = is_own(match["file"]), PurePath(match["file"]).name, match["line"]
    place = f"{name}({line})" if match.re is _NVCC else f"{name}:{line}"
    return _Told(kind=match["kind"], place=place, what=match["what"], own=own, via=required)


def is_own(file: str) -> bool:
    """A kernel is compiled in its folder, by its bare name; headers have paths."""
    return "/" not in file


def _distinct(told: Sequence[_Told]) -> list[_Told]:
    """One for each message; of those that a header tells one for each of the kernel's lines that led there, or the first of any."""
    seen: set[str] = set()
    kept = []
    for each in [each for each in told if each.own or each.via] or told[:1]:
        cause = each.via if each.via and not each.own else f"{each.place} {each.what}"
        if cause not in seen:
            kept.append(each)
        seen.add(cause)
    return kept


def _brief(message: str) -> str:
    short = _PATH.sub("", _STRING.sub("std::string", _WITH.sub("", message)))
    return short if len(short) <= _LONGEST_MESSAGE else short[:_LONGEST_MESSAGE] + " …"


def _joined(texts: Sequence[str], limit: int) -> str:
    """As many as fit, the first in any case; how many are left out."""
    kept: list[str] = []
    for at, text in enumerate(texts):
        more = f"… and {len(texts) - at} more"
        if len("\n".join([*kept, text])) + len(more) + 1 > limit:
            return "\n".join([*kept, more]) if kept else text[: limit - 2] + " …"
        kept.append(text)
    return "\n".join(kept)


def _triton_blocks(lines: Sequence[str]) -> Iterator[str]:
    """Triton's errors, the innermost first: the function, the last lines of it and the message, without Python's own stack."""
    starts = [at for at, line in enumerate(lines) if _TRITON.match(line)]
    for start in starts:
        ends = (at for at in range(start + 1, len(lines)) if _TRITON_END.match(lines[at]) or _TRITON.match(lines[at]))
        body = [line.rstrip() for line in lines[start + 1 : next(ends, len(lines))] if line.strip()]
        caret = next((at for at, line in enumerate(body) if set(line.strip()) == {"^"}), len(body) - 1)
        code, message = body[: caret + 1], body[caret + 1 :]
        skipped = [*code[:1], "    …", *code[-_TRITON_LINES:]] if len(code) > _TRITON_LINES + 1 else code
        yield "\n".join([lines[start].strip().rpartition(".")[2], *skipped, *(_brief(line) for line in message)])
