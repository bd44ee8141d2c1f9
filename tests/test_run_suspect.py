"""A kernel that beats the device's peaks: they are measured once more before it is accused."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve import run as module
from kevolve.evaluate.device_figures import DeviceFigures
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.timing import Measurement
from kevolve.run import Run
from kevolve.targets import Peaks

PASSED = Outcome(status=Status.PASSED, stage=Stage.PAIRED)
SPEC: Any = SimpleNamespace(baseline=("eager",))
CASE: Any = SimpleNamespace(values={})


class Machine:
    """A target whose peaks were measured beside other load; ``now``: what it can do. Counts how often it is measured."""

    def __init__(self, now: float) -> None:
        self.now, self.looks = now, 0

    def peaks(self, _: Path) -> Peaks:
        return Peaks(bandwidth=((1.0, 1.0),))

    def peaks_again(self, _: Path) -> Peaks:
        self.looks += 1
        return Peaks(bandwidth=((1.0, self.now),))


def judging(target: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a target, whose kernels all need a bandwidth of 5."""

    def timed(*_: Any, peaks: Peaks, **__: Any) -> Measurement:
        suspect = Outcome(status=Status.SUSPECT, stage=Stage.PAIRED, message=f"faster than {peaks.bandwidth[0][1]}")
        return Measurement(outcome=PASSED if peaks.bandwidth[0][1] >= 5 else suspect)

    workers: Any = SimpleNamespace(holds=SimpleNamespace(alone=lambda _: nullcontext()))
    figures = DeviceFigures(target, workers, Path())
    figures.__dict__["scatter"] = None
    found = object.__new__(Run)
    found.__dict__.update(target=target, workers=workers, templates=None, figures=figures)
    monkeypatch.setattr(module, "measure", timed)
    monkeypatch.setattr(module, "of_draws", lambda *_: None)
    monkeypatch.setattr(Run, "check", lambda *_: PASSED)
    monkeypatch.setattr(Run, "unread", lambda *_: frozenset())
    return found


def test_peaks_of_a_machine_that_was_busy_then_accuse_nobody(monkeypatch):
    machine = Machine(now=10.0)
    run = judging(machine, monkeypatch)
    assert run.measure(SPEC, CASE, None, seed=1).outcome.status is Status.PASSED
    assert run.peaks.bandwidth == ((1.0, 10.0),)
    assert run.measure(SPEC, CASE, None, seed=1).outcome.status is Status.PASSED
    assert machine.looks == 1


def test_what_beats_the_peaks_of_both_looks_is_suspect_and_they_are_not_measured_for_every_case(monkeypatch):
    machine = Machine(now=2.0)
    run = judging(machine, monkeypatch)
    found = [run.measure(SPEC, CASE, None, seed=seed).outcome for seed in range(3)]
    assert [(outcome.status, outcome.message) for outcome in found] == [(Status.SUSPECT, "faster than 2.0")] * 3
    assert machine.looks == 1


@pytest.mark.parametrize("fails", [RuntimeError("the probe failed"), None])
def test_peaks_that_cannot_be_measured_again_let_nothing_pass(monkeypatch, fails):
    def again(_: Path) -> Peaks:
        if fails is not None:
            raise fails
        return Peaks()

    machine = Machine(now=10.0)
    monkeypatch.setattr(machine, "peaks_again", again, raising=False)
    assert judging(machine, monkeypatch).measure(SPEC, CASE, None, seed=1).outcome.message == "faster than 1.0"


def test_a_target_of_ones_own_need_not_know_how(monkeypatch):
    plain = SimpleNamespace(peaks=lambda _: Peaks(bandwidth=((1.0, 1.0),)))
    assert judging(plain, monkeypatch).measure(SPEC, CASE, None, seed=1).outcome.message == "faster than 1.0"
