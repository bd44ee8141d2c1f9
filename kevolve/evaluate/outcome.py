"""What came of one candidate: a typed status, the stage that decided and what a person should know."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Status(enum.StrEnum):
    """The field's words (flashinfer-bench's trace), and ours below the line."""

    PASSED = "PASSED"
    INCORRECT_SHAPE = "INCORRECT_SHAPE"
    INCORRECT_DTYPE = "INCORRECT_DTYPE"
    INCORRECT_NUMERICAL = "INCORRECT_NUMERICAL"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    COMPILE_ERROR = "COMPILE_ERROR"
    TIMEOUT = "TIMEOUT"
    # ours
    TOO_SLOW = "TOO_SLOW"
    REWARD_HACK = "REWARD_HACK"
    SUSPECT = "SUSPECT"
    NOT_MEASURED = "NOT_MEASURED"
    NO_CANDIDATE = "NO_CANDIDATE"  # an operator's step that led to no source


class Stage(enum.StrEnum):
    """The stages of an evaluation, cheapest first."""

    PROPOSE = "propose"
    PARSE = "parse"
    DUPLICATE = "duplicate"
    POLICY = "policy"
    COMPILE = "compile"
    LOAD = "load"
    SMOKE = "smoke"  # one small shape, dispatch traced
    PROPERTIES = "properties"
    QUICK = "quick"
    PAIRED = "paired"
    PROFILE = "profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a stage. ``message`` is written for the kernel's author; ``detail`` is JSON-able data for the record.

    A failed check's ``detail`` holds ``draw`` (the replay line's JSON), ``worst`` (places), ``differences`` (a count).
    """

    status: Status
    stage: Stage
    message: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the candidate may go on to the next stage."""
        return self.status is Status.PASSED
