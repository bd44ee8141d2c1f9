"""Which timed calls count as verified."""

from __future__ import annotations

import random
import time

import torch
from example_specs import cancelling, picky, spec_of, vector

from kevolve.evaluate.client import Workers
from kevolve.evaluate.contents import Contents
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.runner import Answer
from kevolve.evaluate.timing import timed_pool
from kevolve.evaluate.verification import verify
from kevolve.spec.spec import Case, Spec
from kevolve.targets.cpu import CPU

CASE = Case(id="80", values={"n": 80})


def verified(workers: Workers, spec: Spec, *, right: bool = True) -> tuple[Outcome, int]:
    pool = timed_pool(spec, CASE, seed=1)
    try:
        (x,) = Contents(pool.fd, pool.layout, 3).catch_up(0)[:1]
        answer = Answer(number=0, seed=3, outputs=(x * x if right else torch.zeros_like(x),))
        return verify(
            spec,
            CASE,
            pool,
            [answer, answer],
            workers=workers,
            target=CPU(),
            budget_s=5.0,
            rng=random.Random(1),
            clock=time.monotonic,
        )
    finally:
        pool.close()


def test_right_answers_are_counted_and_a_wrong_one_is_named(workers: Workers) -> None:
    outcome, count = verified(workers, spec_of(picky, vector))
    assert (outcome.status, count) == (Status.PASSED, 2)
    outcome, _ = verified(workers, spec_of(picky, vector), right=False)
    assert outcome.message.startswith("timed call 0 on contents it had not seen before: output 0 ")


def test_answers_that_cannot_be_compared_are_not_verified(workers: Workers) -> None:
    outcome, count = verified(workers, spec_of(cancelling, vector), right=False)
    assert (outcome.status, outcome.stage, count) == (Status.NOT_MEASURED, Stage.PAIRED, 0)
    assert outcome.message.startswith("no timed call could be verified: output 0: the reference itself errs by ")
