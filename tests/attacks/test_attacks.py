"""Attacks are refused for the reason meant for them, and honest look-alikes pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_judge import Judge, said
from catalogue import ATTACKS, Attack

from kevolve.evaluate.outcome import Outcome, Status
from kevolve.languages.cpp import Cpp
from kevolve.targets.cuda import CUDA

_TRIES = 3  # of a verdict that other load kept from being reached: other tests run beside


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Judge]:
    with Judge(scratch=tmp_path_factory.mktemp("workers"), cache=shared_folder) as made:
        yield made


def verdict(judge: Judge, attack: Attack, kernel: str, *, read: bool) -> Outcome:
    if attack.where == "gpu" and CUDA().missing() is not None:
        pytest.skip(str(CUDA().missing()))
    if kernel.endswith(".cpp") and Cpp().missing() is not None:
        pytest.skip(str(Cpp().missing()))
    for _ in range(_TRIES):
        outcome = judge.verdict(kernel, where=attack.where, timed=attack.timed, read=read)
        if outcome.status is not Status.NOT_MEASURED or "other load" not in outcome.message:
            break
    return outcome


def parameters(attacks: list[Attack], *, honest: bool) -> list[object]:
    marked = [(attack, [pytest.mark.gpu] if attack.where == "gpu" else []) for attack in attacks]
    return [pytest.param(attack, id=f"{attack.honest}-{attack.where}" if honest else attack.id, marks=marks) for attack, marks in marked]


# Each once: where one of its attacks is timed, it is timed too.
LOOK_ALIKES = list({(attack.honest, attack.where): attack for attack in sorted(ATTACKS, key=lambda attack: attack.timed)}.values())


@pytest.mark.parametrize("attack", parameters(list(ATTACKS), honest=False))
def test_an_attack_is_refused_for_the_reason_meant_for_it(judge: Judge, attack: Attack) -> None:
    outcome = verdict(judge, attack, attack.kernel, read=attack.read)
    assert (outcome.status, bool(re.search(attack.reason, outcome.message))) == (attack.status, True), said(outcome)


@pytest.mark.parametrize("attack", parameters(LOOK_ALIKES, honest=True))
def test_an_honest_look_alike_passes(judge: Judge, attack: Attack) -> None:
    outcome = verdict(judge, attack, attack.honest, read=True)
    assert outcome.status is Status.PASSED, said(outcome)
