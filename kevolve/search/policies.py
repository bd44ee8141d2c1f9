"""Selection policies: which nodes to work from next. Stateless over the graph, registered under ``kevolve.policies``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kevolve.models import Usage
from kevolve.search.node import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step to take: the parents to work from (none: a draft) and what the operator may remember."""

    parents: tuple[int, ...]
    memory: str = "parent"
    operator: str = ""
    model: str = ""
    seed: int = 0
    most: Usage | None = None


class Policy(Protocol):
    """Ask/tell: telling is the graph's growth, so a policy keeps no state of its own."""

    def ask(self, graph: Graph, count: int, pending: Sequence[Step]) -> list[Step]:
        """At most ``count`` steps, knowing those already under way."""
        ...
