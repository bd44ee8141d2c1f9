"""A step of the search before it is taken: where to work from, who does it, what it may remember and spend."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TypeAlias

from kevolve.models import Usage

MEMORIES = ("parent", "siblings", "both", "restart")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step to take: the parents to work from (none: a draft) and what the operator may remember.

    ``operator``, ``model``: who takes it; empty: whoever the search's bandit prefers. ``number``: of the step within its search, 0 while
    it is only wished for; ``seed`` follows from the search's seed and that number. ``most``: what it may spend, for operators with a
    model; None: no limit.
    """

    parents: tuple[int, ...]
    memory: str = "parent"
    operator: str = ""
    model: str = ""
    seed: int = 0
    number: int = 0
    language: str = ""
    most: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Who may take a step. ``weight``: the user's, relative to other models'; ``most``: what one step may cost at the most."""

    operator: str
    model: str = ""
    weight: float = 1.0
    most: Usage = field(default_factory=Usage)

    @property
    def key(self) -> ArmKey:
        """What measured gains are kept by."""
        return self.operator, self.model


ArmKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a policy may know besides the nodes: who can take steps now, chance, and what led nowhere.

    ``seed``: the search's; ``number``: of the next step; ``evaluations``: how many it may have in all. ``exhausted``: steps for which
    nobody had a proposal at this moment.
    """

    arms: tuple[Arm, ...] = ()
    seed: int = 0
    number: int = 0
    evaluations: int | None = None
    exhausted: tuple[Step, ...] = ()

    @property
    def with_model(self) -> bool:
        """Whether some arm has a model: it can repair a failure, and no two of its steps are the same."""
        return any(arm.model for arm in self.arms)

    def random(self, purpose: str) -> random.Random:
        """Chance for one purpose of the next step: equal for equal seeds and numbers."""
        return random.Random(f"{self.seed}:{self.number}:{purpose}")


def seed_of(seed: int, number: int) -> int:
    """The seed of one step."""
    return random.Random(f"{seed}:{number}").getrandbits(62)
