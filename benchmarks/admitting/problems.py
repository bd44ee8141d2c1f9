"""KernelBench's problems as modules, at sizes that a CPU can do. KernelBench itself is fetched by who runs this, and is not kept here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ASSIGNED = r"^{name}[ ]*=[^=].*$"
# the size that is made smaller where there is no batch_size: rows of the result, which are computed alike
_ROWS = {(1, 2): "M", (1, 4): "M", (1, 5): "M", (1, 6): "M", (1, 7): "M", (1, 8): "M", (1, 9): "M", (1, 10): "N", (1, 11): "b"}
_ROWS |= {(1, 16): "M", (1, 17): "M", (1, 18): "M"}
_SQUARE = {(1, 100)}  # runs only where there are as many columns as rows
_EXTENTS = (
    "height width depth D H W length sequence_length seq_length seq_len input_length dim1 dim2 dim3 dim height_in width_in depth_in "
    "in_features out_features input_size hidden_size output_size M N K L i j l k m n image_height image_width embedding_dimension"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem's file."""

    level: int
    number: int
    name: str
    path: Path

    @property
    def key(self) -> str:
        """``L1/19``."""
        return f"L{self.level}/{self.number}"

    @property
    def rows(self) -> str | None:
        """The name of the size that only says how many rows are computed alike."""
        return "batch_size" if _value(self.source, "batch_size") is not None else _ROWS.get((self.level, self.number))

    @property
    def source(self) -> str:
        """Its text."""
        return self.path.read_text(encoding="utf-8")


def problems(folder: Path, levels: tuple[int, ...]) -> Iterator[Problem]:
    """Those of a checkout's (or its ``KernelBench`` folder's) levels, in order. Raises ``FileNotFoundError`` where there are none."""
    root = folder / "KernelBench" if (folder / "KernelBench").is_dir() else folder
    for level in levels:
        found = {int(path.name.split("_")[0]): path for path in (root / f"level{level}").glob("[0-9]*.py")}
        if not found:
            raise FileNotFoundError(f"{root}/level{level}: expected KernelBench's problems, got none")
        for number in sorted(found):
            yield Problem(level=level, number=number, name=found[number].stem.partition("_")[2], path=found[number])


def original(problem: Problem) -> int | None:
    """The number of rows that the problem itself has."""
    return None if problem.rows is None else _value(problem.source, problem.rows)


def with_rows(problem: Problem, count: int | None) -> str:
    """The problem's text with so many rows; None: with its own."""
    if count is None or problem.rows is None:
        return problem.source
    pair = {"input_shape": f"({count},)"} if (problem.level, problem.number) in _SQUARE else {}
    return _assigned(problem.source, {problem.rows: count, **pair})


def smaller(problem: Problem, most: int | None, rows: int) -> str:
    """The text with few rows, and every extent at most ``most``; None: extents as they are."""
    source = with_rows(problem, rows)
    for name in _EXTENTS.split() if most is not None else ():
        value = _value(source, name)
        if value is not None and value > most and name != problem.rows:
            source = _assigned(source, {name: most})
    return _chained(source, most) if most is not None else source


def loaded(source: str, name: str) -> dict[str, Any]:
    """The names of a problem's module."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(source, f"{name}.py", "exec"), names)  # the user names the folder
    return names


def _value(source: str, name: str) -> int | None:
    """A size's value, where it is assigned alone."""
    found = re.search(_ASSIGNED.format(name=name), source, re.M)
    if found is None:
        return None
    text = found[0].partition("=")[2].partition("#")[0].strip()
    return int(eval(text)) if re.fullmatch(r"[\d *]+", text) else None


def _assigned(source: str, values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        source = re.sub(_ASSIGNED.format(name=name), f"{name} = {value}", source, count=1, flags=re.M)
    return source


def _chained(source: str, most: int) -> str:
    """``height = width = 128`` and ``depth, height = 16, 32``, too."""

    def cut(found: re.Match[str]) -> str:
        return re.sub(r"\d+", lambda digits: str(min(int(digits[0]), most)), found[0])

    names = "|".join(_EXTENTS.split())
    source = re.sub(rf"^(?:{names}) = (?:{names}) = \d+", cut, source, flags=re.M)
    return re.sub(rf"^(?:{names}), (?:(?:{names}),? )+= [\d, ()]+$", cut, source, flags=re.M)
