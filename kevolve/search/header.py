"""The comment block at the top of an accepted kernel file.

First the kernel's own two, ``// <name>: what it computes`` and ``// idea: …``, which are kept with the comment lines that go on what they
say; then ours (``FIELDS``), which every acceptance replaces.
"""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = ("spec", "target", "parent", "measured", "shapes", "hardware", "toolchain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What acceptance knows of a kernel. ``measured``: one line each, speedup with interval, baseline and number of pairs."""

    spec: str  # nodeid
    target: str
    parent: str
    measured: tuple[str, ...]
    shapes: tuple[str, ...]
    hardware: str
    toolchain: str

    def lines(self, comment: str) -> list[str]:
        """The fields as comment lines, in the order of ``FIELDS``; ``measured`` has a line for each figure."""
        pairs = [("spec", self.spec), ("target", self.target), ("parent", self.parent)]
        pairs += [("measured", figure) for figure in self.measured or ("not measured",)]
        pairs += [("shapes", ", ".join(self.shapes)), ("hardware", self.hardware), ("toolchain", self.toolchain)]
        return [f"{comment} {name}: {' '.join(value.split())}" for name, value in pairs]


def _block(lines: list[str], comment: str) -> int:
    """How many lines the leading comment block has."""
    return next((number for number, line in enumerate(lines) if not line.startswith(comment)), len(lines))


def _field(line: str, comment: str) -> tuple[str, str] | None:
    """``(name, value)`` of a line ``<comment> <name>: <value>``."""
    name, colon, value = line.removeprefix(comment).strip().partition(":")
    return (name, value.strip()) if colon and " " not in name else None


def read(source: str, comment: str) -> dict[str, list[str]]:
    """The header's fields by name, ``idea`` and ``when`` among them; a repeated field has several values."""
    lines = source.splitlines()
    found: dict[str, list[str]] = {}
    for line in lines[: _block(lines, comment)]:
        if (pair := _field(line, comment)) is not None:
            found.setdefault(pair[0], []).append(pair[1])
    return found


def strip(source: str, comment: str) -> str:
    """The text without the fields that acceptance adds."""
    lines = source.splitlines(keepends=True)
    block = _block(lines, comment)
    kept = [line for line in lines[:block] if (_field(line, comment) or ("", ""))[0] not in FIELDS]
    return "".join(kept + lines[block:])


def render(source: str, header: Header, *, comment: str, name: str, idea: str) -> str:
    """``source`` opening with its own two lines, then ``header``. Rendering again replaces the header and changes nothing else.

    A text that does not say what it computes (``name: …``) or its idea is given such a line.
    """
    lines = source.splitlines(keepends=True)
    block = _block(lines, comment)
    own, rest = _own(lines[:block], comment, (name, "idea"))
    named = {(_field(line, comment) or ("", ""))[0] for line in own}
    if name not in named:
        own.insert(0, f"{comment} {name}: computes what {header.spec} describes\n")
    if "idea" not in named:
        own.append(f"{comment} idea: {' '.join(idea.split())}\n")
    added = [f"{line}\n" for line in header.lines(comment)]
    return "".join([_ended(line) for line in own] + added + rest + lines[block:])


def _own(lines: list[str], comment: str, names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The lines of these fields with those that go on what they say, and the others; without those that acceptance adds."""
    own, rest = list[str](), list[str]()
    inside = False
    for line in lines:
        name, _ = _field(line, comment) or ("", "")
        inside = name in names if name else inside and bool(line.removeprefix(comment).strip())
        if name not in FIELDS:
            (own if inside else rest).append(line)
    return own, rest


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n"
