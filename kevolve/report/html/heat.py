"""The heat map of a kernel: its speedups over shapes (rows) and dtypes (columns), or over the two arguments that fill a grid best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kevolve.report import text
from kevolve.report.html.axis import clock
from kevolve.report.html.kernels import Case, mapping

_DTYPES = ("float", "bfloat", "int", "uint", "bool", "complex")
_BOUNDS = (0.8, 1.0, 1.2, 1.6, 2.5, 5.0)  # between the steps of the scale
STEPS = len(_BOUNDS) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A case's speedup in words, its step on the scale (0 the slowest) and its time."""

    text: str
    step: int | None
    time: str
    state: str
    sign: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A grid. ``corner`` names the arguments of rows and columns, where the record does; an absent cell is a case nobody asked for."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def heat_map(cases: Sequence[Case]) -> Map | None:
    """The map of at least two cases; None of fewer."""
    named = [(_values(case), case) for case in cases]
    if len(named) < 2:
        return None
    names = list(dict.fromkeys(name for values, _ in named for name in values))
    column = _column(names, [values for values, _ in named])
    rest = [name for name in names if name != column]
    grid: dict[str, dict[str, Case]] = {}
    for values, case in named:
        grid.setdefault(_joined(values, rest), {}).setdefault(values.get(column, "all") if column else "speedup", case)
    columns = tuple(dict.fromkeys(name for row in grid.values() for name in row))
    rows = tuple((label, tuple(_cell(row.get(name)) for name in columns)) for label, row in grid.items())
    corner = "" if any(name.startswith("#") for name in names) else "; " + " × ".join(rest) + (f" / {column}" if column else "")
    return Map(corner=corner, columns=columns, rows=rows)


def _values(case: Case) -> dict[str, str]:
    """The case's arguments as text; where the record has none, the parts of its id."""
    values: Mapping[str, Any] = mapping(case.row.extra, "values")
    if values:
        return {str(name): text.shorten(_plain(value), 40) for name, value in values.items()}
    return {f"#{number}": text.shorten(part, 40) for number, part in enumerate(case.row.case.split("-"), 1)}


def _plain(value: Any) -> str:
    return str(value["$"]) if isinstance(value, Mapping) and set(value) == {"$"} else str(value)


def _column(names: Sequence[str], values: Sequence[Mapping[str, str]]) -> str | None:
    """The dtype's argument, else the varying one that leaves the fewest holes; None where every grid would be mostly holes."""
    for name in names:
        if all(one.get(name, "").removeprefix("torch.").startswith(_DTYPES) for one in values):
            return name
    varying = [name for name in names if len({one.get(name) for one in values}) > 1]
    if len(varying) < 2:
        return None
    fill = {name: _fill(name, names, values) for name in varying}
    best = max(varying, key=lambda name: fill[name])
    return best if fill[best] > 0.6 else None


def _fill(name: str, names: Sequence[str], values: Sequence[Mapping[str, str]]) -> float:
    rest = [other for other in names if other != name]
    rows, columns = {_joined(one, rest) for one in values}, {one.get(name) for one in values}
    return len(values) / (len(rows) * len(columns))


def _joined(values: Mapping[str, str], names: Sequence[str]) -> str:
    return " × ".join(values.get(name, "–") for name in names) or "all"


def _cell(case: Case | None) -> Cell | None:
    if case is None:
        return None
    time, sign = clock(text.best_time(case.row.time_us)), case.state.sign
    if case.over is None:
        return Cell(text=case.state.word, step=None, time=time, state=case.state.key, sign=sign)
    step = sum(case.over.estimate >= bound for bound in _BOUNDS)
    return Cell(text=f"{text.digits(case.over.estimate)}×", step=step, time=time, state=case.state.key, sign=sign)
