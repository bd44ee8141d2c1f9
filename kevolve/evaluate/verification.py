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

    Raises ``ReferenceFailed`` where the reference refuses the inputs.
    """
    outcome = Outcome(status=Status.PASSED, stage=Stage.PAIRED)
    end, count, longest = clock() + budget_s, 0, 0.0
    for answer in rng.sample(list(answers), len(answers)):
        start = clock()
        if count and start + longest > end:
            break
        outcome = _verified(spec, case, pool, answer)
        count += 1
        longest = max(longest, clock() - start)
        if not outcome.passed:
            break
    return outcome, count


def _verified(spec: Spec, case: Case, pool: Pool, answer: Answer) -> Outcome:
    contents = Contents(pool.fd, pool.layout, answer.seed).catch_up(answer.number)
    inputs = contents[: len(contents) - pool.grad_outputs]
    draw = Draw(values=case.values, seed=pool.draw_seed(answer.number))
    expected = expect(spec, draw, inputs)
    if expected.unreliable is not None:
        return Outcome(status=Status.PASSED, stage=Stage.PAIRED, message=f"not compared: {expected.unreliable}")
    outcome = compare(spec, expected, answer.outputs, inputs, draw=draw, stage=Stage.PAIRED)
    if outcome.passed:
        return outcome
    return replace(outcome, message=f"timed call {answer.number} on contents it had not seen before: {outcome.message}")
