"""How outputs that are not unique are compared; the default is elementwise within the derived tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOf:
    """The output indexes ``scores(*inputs)`` along ``dim``; ties may be broken either way."""

    scores: Callable[..., Any]
    dim: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unordered:
    """The output holds the reference's elements in any order along ``dim``."""

    dim: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """Integers that may differ from the reference's by ``steps`` at most (a rounding boundary)."""

    steps: int = 1


Comparator = IndexOf | Unordered | Quantised


def index_of(scores: Callable[..., Any], dim: int = -1) -> IndexOf:
    """Compare the *scores at* the indices: ``scores(*inputs)`` is what the output indexes along ``dim``."""
    return IndexOf(scores=scores, dim=dim)


def unordered(dim: int = -1) -> Unordered:
    """Compare sorted along ``dim``."""
    return Unordered(dim=dim)


def quantised(steps: int = 1) -> Quantised:
    """Let integers differ by ``steps``."""
    return Quantised(steps=steps)
