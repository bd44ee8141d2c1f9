"""Whether what timed calls returned is right: their inputs are made again from the pool, and the oracle asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kevolve.evaluate.client import Workers
from kevolve.evaluate.compare import compare
from kevolve.evaluate.contents import Contents, Pool
from kevolve.evaluate.oracle import expect
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.referee import TimedCall, judged
from kevolve.evaluate.resident import Resident
from kevolve.evaluate.runner import Answer
from kevolve.spec.spec import Case, Draw, Spec

if TYPE_CHECKING:
    from kevolve.targets import Target


def verify(
    spec: Spec,
    case: Case,
    pool: Pool,
    answers: Sequence[Answer],
    *,
    workers: Workers,
    target: Target,
    budget_s: float,
    rng: random.Random,
    clock: Callable[[], float],
) -> tuple[Outcome, int]:
    """Compare answers in random order: one in any case, more while ``budget_s`` lasts. The first failure or PASSED, and how many.

    An answer with an output that the reference itself cannot give reliably is not counted; NOT_MEASURED where all are such.
    Raises ``ReferenceFailed`` where the reference refuses the inputs.
    """
    reason = "no timed call's outputs were kept"
    end, count, longest = clock() + budget_s, 0, 0.0
    for answer in rng.sample(list(answers), len(answers)):
        start = clock()
        if count and start + longest > end:
            break
        outcome, unreliable = _verified(spec, case, pool, answer, workers, target)
        count += unreliable is None
        reason = unreliable or reason
        longest = max(longest, clock() - start)
        if not outcome.passed:
            return outcome, count
    if count:
        return Outcome(status=Status.PASSED, stage=Stage.PAIRED), count
    return Outcome(status=Status.NOT_MEASURED, stage=Stage.PAIRED, message=f"no timed call could be verified: {reason}"), 0


def _verified(spec: Spec, case: Case, pool: Pool, answer: Answer, workers: Workers, target: Target) -> tuple[Outcome, str | None]:
    """The comparison of one answer, and why outputs of it could not be compared."""
    draw = Draw(values=case.values, seed=pool.draw_seed(answer.number, answer.seed))
    if answer.held is not None:
        call = TimedCall(pool=pool, seed=answer.seed, number=answer.number)
        judgement = judged(workers, target, spec, draw, call, answer.held, stage=Stage.PAIRED)
        outcome, unreliable = judgement.outcomes[0], judgement.reason
    else:
        inputs = _inputs(pool, answer, target)
        expected = expect(spec, draw, inputs)
        outcome, unreliable = compare(spec, expected, answer.outputs, inputs, draw=draw, stage=Stage.PAIRED), expected.unreliable
    if not outcome.passed:
        outcome = replace(outcome, message=f"timed call {answer.number} on contents it had not seen before: {outcome.message}")
    return outcome, unreliable


def _inputs(pool: Pool, answer: Answer, target: Target) -> tuple[object, ...]:
    """The inputs of the call again, gradients of the outputs left out."""
    if target.blocks.sets > 1:
        made = Resident(pool.fd, pool.layout, answer.seed).inputs(answer.number)
    else:
        made = Contents(pool.fd, pool.layout, answer.seed).catch_up(answer.number)
    return made[: len(made) - pool.grad_outputs]
