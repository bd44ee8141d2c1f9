"""Search here, measure there: rounds of candidates leave as one archive each, their results come back as one.

The searching side is ``evaluator``; the measuring side is ``kevolve evaluate`` (``kevolve/commands/evaluate.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kevolve.settings import Settings
    from kevolve.spec.spec import Case, Draw, Spec
    from kevolve.spool.spool import Spool

PREFIX = "spool:"


class SpoolError(Exception):
    """A spool that cannot be used, or a spec that cannot travel; the message says why and what to do."""


def folder_of(settings: Settings) -> Path | None:
    """The folder that ``--kevolve-evaluator spool:DIR`` names, below the rootdir unless absolute; None where candidates are evaluated here.

    Raises ``SpoolError`` for anything else that the option holds.
    """
    if not settings.evaluator:
        return None
    folder = settings.evaluator.removeprefix(PREFIX)
    if not settings.evaluator.startswith(PREFIX) or not folder:
        raise SpoolError(f"--kevolve-evaluator: expected spool:DIR, got {settings.evaluator!r}")
    return settings.rootdir / Path(folder).expanduser()


def evaluator(
    settings: Settings,
    *,
    spec: Spec,
    cases: Sequence[Case],
    kept: Sequence[Draw] = (),
    plan_seed: int,
    say: Callable[[str], None],
) -> Spool:
    """The evaluator of one spec whose measuring is done elsewhere; call it with a round of proposals.

    ``kept``: counterexamples, replayed first. ``plan_seed``: of the development plan and of the contents that candidates are timed on;
    a grading seed must not leave the machine. ``say`` takes a whole line. Raises ``SpoolError``: no folder was named, it cannot be
    written, or the spec cannot travel.
    """
    from kevolve.spool.spool import Spool

    folder = folder_of(settings)
    if folder is None:
        raise SpoolError("--kevolve-evaluator: expected spool:DIR, got nothing")
    return Spool(folder, spec=spec, cases=tuple(cases), target=settings.target, kept=tuple(kept), plan_seed=plan_seed, say=say)
