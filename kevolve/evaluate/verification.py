"""Whether what timed calls returned is right: their inputs are made again from the pool, and the oracle asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from kevolve.evaluate.compare import compare
from kevolve.evaluate.contents import Contents, Pool
from kevolve.evaluate.oracle import expect
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.pairs import Answer
from kevolve.spec.spec import Case, Draw, Spec


def verify(
    spec: Spec, case: Case, pool: Pool, answers: Sequence[Answer], *, budget_s: float, rng: random.Random, clock: Callable[[], float]
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
        outcome, unreliable = _verified(spec, case, pool, answer)
        count += unreliable is None
        reason = unreliable or reason
        longest = max(longest, clock() - start)
        if not outcome.passed:
            return outcome, count
    if count:
        return Outcome(status=Status.PASSED, stage=Stage.PAIRED), count
    return Outcome(status=Status.NOT_MEASURED, stage=Stage.PAIRED, message=f"no timed call could be verified: {reason}"), 0


def _verified(spec: Spec, case: Case, pool: Pool, answer: Answer) -> tuple[Outcome, str | None]:
    """The comparison of one answer, and why outputs of it could not be compared."""
    contents = Contents(pool.fd, pool.layout, answer.seed).catch_up(answer.number)
    inputs = contents[: len(contents) - pool.grad_outputs]
    draw = Draw(values=case.values, seed=pool.draw_seed(answer.number, answer.seed))
    expected = expect(spec, draw, inputs)
    outcome = compare(spec, expected, answer.outputs, inputs, draw=draw, stage=Stage.PAIRED)
    if not outcome.passed:
        outcome = replace(outcome, message=f"timed call {answer.number} on contents it had not seen before: {outcome.message}")
    return outcome, expected.unreliable
