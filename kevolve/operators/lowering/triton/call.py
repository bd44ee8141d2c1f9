"""Library operators, called by a Triton file's wrapper under the names that its policy knows them by."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from kevolve.operators.lowering.expression import Buffer
from kevolve.operators.lowering.index import Index
from kevolve.operators.lowering.program import Step

CONTIGUOUS = frozenset({"mm", "bmm", "addmm", "baddbmm", "sort"})  # whose results always are


def call_lines(step: Step, number: Callable[[Index], str], used: Collection[str]) -> list[str]:
    """One call and what becomes of its results, of which some are ``used``."""
    name = step.operator.rpartition("::")[2]
    function = f"torch.{name}" if hasattr(torch, name) else f"torch.ops.aten.{name}"
    arguments = ", ".join(_argument(value, number) for value in step.arguments)
    results = [buffer.name if buffer.name in used else "_" for buffer in step.results]
    plain = len(results) == 1 and name not in CONTIGUOUS
    lines = [f"# {line}" for line in step.lines]
    lines.append(f"{', '.join(results)} = {function}({arguments}){'.contiguous()' if plain else ''}")
    if len(results) > 1 and name not in CONTIGUOUS:
        lines += [f"{result} = {result}.contiguous()" for result in results if result != "_"]
    return lines


def _argument(value: Any, number: Callable[[Index], str]) -> str:
    if isinstance(value, Buffer):
        return value.name
    if isinstance(value, Index):
        return number(value)
    if isinstance(value, tuple) and value[:1] == ("permute",):
        return _permuted(value[1].name, value[2])
    if isinstance(value, list | tuple):
        return f"[{', '.join(_argument(item, number) for item in value)}]"
    return repr(value)


def _permuted(name: str, order: tuple[int, ...]) -> str:
    moved = [place for place, axis in enumerate(order) if place != axis]
    if order == (1, 0):
        return f"{name}.t()"
    return f"{name}.transpose({moved[0]}, {moved[1]})" if len(moved) == 2 else f"{name}.permute{order}"
