"""Why a verdict could not be reached: each reason from counters that a fake gives."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve.evaluate.disturbance import Reading, Since, noise, read, reasons, stalls, why
from kevolve.evaluate.statistics import Interval

QUIET = Reading(at=100.0, waited=5.0, stolen=1.0, busy=50.0, own=20.0, stopped=0.0, hot=3, device={"power": 2.0})
AFTER = replace(QUIET, at=102.0, waited=5.04, busy=53.0, own=22.95)  # two seconds, both cores ours


def after(**changed: Any) -> tuple[str, ...]:
    return reasons(QUIET, replace(AFTER, **changed), cores=2)


def test_a_measurement_alone_on_its_machine_has_no_reason_for_noise() -> None:
    assert after() == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"busy": 54.0, "own": 21.5, "waited": 6.5},
            "other load: other processes used 1.2 of 2 cores; processes waited for a core 75% of the time",
        ),
        ({"stolen": 1.4}, "other load: the hypervisor gave 10% of the processor's time to others"),
        ({"stopped": 0.5}, "throttling: the control group's quota stopped its processes 25% of the time"),
        ({"hot": 5}, "throttling: the processor held its clock down for its heat 2 times"),
        ({"device": {"power": 3.0}}, "throttling: the device held its clocks down 50% of the time (power)"),
        ({"tenants": ("python (77)",)}, "other load: other processes use the device: python (77)"),
    ],
)
def test_every_reason_is_named_with_its_share(changed: dict[str, Any], reason: str) -> None:
    assert after(**changed) == (reason,)


def test_without_pressure_figures_others_count_once_they_take_half_of_the_machine() -> None:
    blind = replace(QUIET, waited=None)
    assert reasons(blind, replace(AFTER, waited=None, own=22.0), cores=2) == ()
    (said,) = reasons(blind, replace(AFTER, waited=None, busy=54.0, own=21.0), cores=2)
    assert said == "other load: other processes used 1.5 of 2 cores"


def test_others_that_made_nobody_wait_disturbed_nobody() -> None:
    assert after(busy=54.0, own=22.0, waited=5.01) == ()


def test_what_the_system_does_not_say_is_unknown_and_no_reason() -> None:
    assert reasons(Reading(at=0.0), Reading(at=2.0), cores=2) == ()


def test_too_short_a_time_says_nothing() -> None:
    assert after(at=100.01, stolen=1.4) == ()


def test_only_a_stall_stops_a_process_without_its_waiting_being_counted() -> None:
    busy = replace(AFTER, busy=54.0, own=21.0, waited=7.0, stolen=1.4, stopped=0.5)
    assert [reason.split(":")[0] for reason in stalls(QUIET, busy, cores=2)] == ["other load", "throttling"]
    assert stalls(QUIET, replace(busy, stolen=1.0, stopped=0.0), cores=2) == ()


def test_the_machine_is_read_again_only_where_somebody_asks() -> None:
    asked = []
    since = Since(before=QUIET, reading=lambda: asked.append(1) or replace(AFTER, stolen=1.4), cores=2)  # type: ignore[func-returns-value]
    assert not asked
    assert since.stalls() == since.reasons() == ("other load: the hypervisor gave 10% of the processor's time to others",)


def test_a_reason_says_too_that_no_cause_is_known() -> None:
    assert why("noise", ()) == "noise; no other load and no throttling was seen"
    assert why("noise", ("one", "two")) == "noise; one; two"


@pytest.mark.parametrize(
    ("interval", "clear"),
    [((1.0, 0.9, 1.1), True), ((1.4, 0.6, 3.0), True), ((0.3, 0.2, 0.9), True), ((1.0, 0.4, 2.5), False)],
)
def test_an_interval_is_noise_where_it_holds_half_of_what_is_asked_and_all_of_it(interval: tuple[float, float, float], clear: bool) -> None:
    estimate, low, high = interval
    said = noise(Interval(estimate=estimate, low=low, high=high), 1.0)
    assert (said is None) is clear
    assert clear or said == "noise: 1.000x [0.400, 2.500] neither reaches 1x for sure nor excludes a kernel of 0.5x"


def fake(tmp_path: Path, *, pressure: str | None, stat: str) -> Path:
    proc = tmp_path / "proc"
    (proc / "pressure").mkdir(parents=True)
    if pressure is not None:
        (proc / "pressure" / "cpu").write_text(pressure)
    (proc / "stat").write_text(stat)
    (proc / str(os.getpid())).mkdir()
    (proc / str(os.getpid()) / "stat").write_text(f"{os.getpid()} (a (strange) name) S {' '.join(['0'] * 10)} 100 50 30 20 0\n")
    return proc


def test_the_counters_are_the_kernels_own(tmp_path: Path) -> None:
    proc = fake(
        tmp_path,
        pressure="some avg10=1.00 avg60=0 avg300=0 total=2500000\nfull avg10=0 total=0\n",
        stat="cpu  100 20 30 900 5 6 7 300 0 0\n",
    )
    sysfs = tmp_path / "sys"
    throttle = sysfs / "devices/system/cpu/cpu0/thermal_throttle"
    throttle.mkdir(parents=True)
    (throttle / "core_throttle_count").write_text("4\n")
    (sysfs / "fs/cgroup").mkdir(parents=True)
    (sysfs / "fs/cgroup/cpu.stat").write_text("usage_usec 5\nthrottled_usec 1500000\n")
    target = SimpleNamespace(condition=lambda: ({"heat": 1.0}, ["other (5)"]))
    found = read(target, proc=proc, sys=sysfs, clock=lambda: 7.0)
    unit = os.sysconf("SC_CLK_TCK")
    assert (found.at, found.waited, found.stolen, found.busy) == (7.0, 2.5, 300 / unit, 163 / unit)
    assert (found.own, found.stopped, found.hot) == (200 / unit, 1.5, 4)
    assert (found.device, found.tenants) == ({"heat": 1.0}, ("other (5)",))


def test_a_system_without_the_files_gives_no_figures(tmp_path: Path) -> None:
    assert read(None, proc=tmp_path, sys=tmp_path, clock=lambda: 1.0) == Reading(at=1.0)
