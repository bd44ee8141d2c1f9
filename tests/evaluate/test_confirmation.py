"""What times alone say against a kernel is said after two looks in fresh processes, and never after one; one that passes pays nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve.evaluate import timing
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.disturbance import Reading
from kevolve.evaluate.outcome import Stage, Status
from kevolve.evaluate.statistics import interval
from kevolve.evaluate.timing import Measurement
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec
from kevolve.targets import BlockPolicy

SLOW = [-0.105, -0.11, -0.1, -0.1, -0.105, -0.11, -0.1]  # 0.9x
EQUAL = [-0.01, 0.0, 0.01, 0.0, 0.0, -0.01, 0.01]
WILD = [-2.0, 1.5, -1.0, 2.0, -1.5, 1.0, 0.0]
CALM = Reading(at=0.0, waited=0.0, stolen=0.0, busy=0.0, own=0.0)
BUSY = Reading(at=10.0, waited=9.0, stolen=0.0, busy=19.0, own=8.0)


class Fake:
    """Series whose log ratios are given, a list a look; and what the machine said before and after.

    ``claims``: what the judge's clock says against the candidate, in every look or one a look.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        looks: Sequence[Sequence[float]],
        *,
        claims: str | list[str | None] | None = None,
        **waits: Any,
    ) -> None:
        self.looks, self.fresh, self.pairs = list(looks), [], 0
        self._claims = list(claims) if isinstance(claims, list) else [claims] * len(self.looks)
        self._waits = {"starved": None, "host_bound": None, "waits_known": True, "vindicated": False, "spun": False, "beyond": 0.0} | waits
        monkeypatch.setattr(timing, "_closing", lambda *_: contextlib.nullcontext((SimpleNamespace(), SimpleNamespace())))
        monkeypatch.setattr(timing, "_openers", self._openers)
        monkeypatch.setattr(timing, "_series", self._series)
        monkeypatch.setattr(timing, "_plan", lambda *_: SimpleNamespace())
        monkeypatch.setattr(timing, "_judged", self._judged)

    def _openers(self, *_: Any, fresh: bool = False) -> dict[str, Any]:
        self.fresh.append(fresh)
        return {}

    def _series(self, *_: Any) -> Any:
        ratios, claims = self.looks.pop(0), self._claims.pop(0)

        pairs: list[int] = []

        def run(count: int) -> None:
            self.pairs += count
            pairs.extend(range(count))

        def speedup(_: str, scatter: Any = None) -> Any:
            return interval(ratios)

        return SimpleNamespace(
            run=run,
            pairs=pairs,
            speedup=speedup,
            baselines=["eager"],
            unavailable={},
            overclaimed=lambda: claims,
            starved=lambda: self._waits["starved"],
            host_bound=lambda: self._waits["host_bound"],
            waits_known=self._waits["waits_known"],
            vindicated=self._waits["vindicated"],
            spun=self._waits["spun"],
            beyond=lambda stalled: stalled < self._waits["beyond"],
        )

    def _judged(self, subject: Any, series: Any, pool: Any, figures: Any, since: Any) -> Measurement:
        speedup = {"eager": series.speedup("eager")}
        outcome = timing._speed_outcome(subject, series, speedup, figures.baselines, None, since)
        return Measurement(outcome=outcome, speedup=speedup, method="pairs", pairs=len(series.pairs))


def measured(*, modelled: bool = False, after: Reading | None = None, host: bool = True, looks: int = 2) -> Measurement:
    spec = Spec(
        name="softmax",
        nodeid="t.py::test_softmax",
        folder=Path(),
        describe=lambda rows: (Tensor(rows, 8),),
        reference=Reference(module="torch", qualname="softmax", file=Path(__file__), inputs=("x",)),
        cases=(),
        vary={},
        choices={},
        hash="",
        min_speedup=1.0,
    )
    blocks = BlockPolicy(min_us=1.0, min_calls=1, max_calls=1, warm_calls=0, cache="none", looks=looks)
    target: Any = SimpleNamespace(name="fake", unmeasured=lambda _: None, modelled=modelled, blocks=blocks, shares_cores=host)
    readings = iter([CALM, after or replace(CALM, at=10.0)] * 3)
    one = Candidate(name="one", language="cpp", entry="one", callable="torch:softmax")
    case = Case(id="1", values={"rows": 1})
    return timing.measure(
        SimpleNamespace(),
        spec,
        case,
        one,
        target=target,
        baselines=("eager",),
        seed=1,
        reading=lambda _: next(readings),  # type: ignore[arg-type]
    )


def test_a_kernel_that_passes_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, [[0.1, 0.11, 0.1, 0.1, 0.1, 0.11, 0.1]])
    assert measured().outcome.passed
    assert (fake.fresh, fake.pairs) == ([False], 7)


def test_an_open_verdict_takes_as_many_pairs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, [EQUAL])
    assert measured().outcome.passed
    assert fake.pairs == 14


def test_what_is_too_slow_twice_fails_with_the_second_look_s_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, [SLOW, [ratio - 0.05 for ratio in SLOW]])
    found = measured()
    assert fake.fresh == [False, True]
    assert found.outcome.status is Status.TOO_SLOW
    assert (
        found.outcome.message
        == "0.857x over eager [0.852, 0.862], expected at least 1x; twice: 0.901x [0.895, 0.907] in the processes before"
    )
    assert found.speedup["eager"].estimate == pytest.approx(0.857, abs=1e-3)
    assert found.outcome.detail["first_look"]["estimate"] == pytest.approx(0.901, abs=1e-3)


def test_where_pairs_shift_together_what_is_too_slow_by_little_must_be_so_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, [SLOW, SLOW, EQUAL])
    found = measured(looks=3)
    assert (fake.fresh, found.outcome.status) == ([False, True, True], Status.PASSED)
    was = "0.901x [0.895, 0.907]"
    assert found.outcome.message == f"2 looks said too slow, {was} and {was}, which fresh processes did not confirm"
    Fake(monkeypatch, [SLOW, SLOW, SLOW])
    found = measured(looks=3)
    assert found.outcome.status is Status.TOO_SLOW
    assert (
        found.outcome.message == f"0.901x over eager [0.895, 0.907], expected at least 1x; 3 times: {was} and {was} in the processes before"
    )
    assert found.method == "pairs; the last of three looks, in fresh processes"


def test_what_is_far_too_slow_needs_no_third_look(monkeypatch: pytest.MonkeyPatch) -> None:
    far = [ratio - 0.5 for ratio in SLOW]
    fake = Fake(monkeypatch, [far, far])
    assert measured(looks=3).outcome.status is Status.TOO_SLOW
    assert fake.fresh == [False, True]


def test_what_fresh_processes_do_not_confirm_passes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, [SLOW, EQUAL])
    found = measured()
    assert found.outcome.status is Status.PASSED
    assert found.outcome.message == "a first look said too slow, 0.901x [0.895, 0.907], which fresh processes did not confirm"
    assert found.method == "pairs; the second of two looks, in fresh processes"


def test_a_modelled_clock_needs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, [[-0.1]])
    assert measured(modelled=True).outcome.status is Status.TOO_SLOW
    assert fake.fresh == [False]


def test_noise_is_not_measured_and_names_other_load_where_there_was_some(monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, [WILD])
    quiet = measured().outcome
    assert (quiet.status, quiet.stage) == (Status.NOT_MEASURED, Stage.PAIRED)
    assert quiet.message.startswith("noise: 1.000x [0.")
    assert quiet.message.endswith("over eager; no other load and no throttling was seen")
    Fake(monkeypatch, [WILD])
    busy = measured(after=BUSY).outcome
    assert busy.status is Status.NOT_MEASURED
    assert "; other load: other processes used 1.1 of" in busy.message


CLAIM = "takes 4.0 times what its process claims by the judge's clock, in every pair"


def test_an_overclaim_whose_process_had_no_core_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, [EQUAL], claims=CLAIM, starved="other load: its process waited for a core 75% of the time by the judge's clock")
    found = measured().outcome
    assert found.status is Status.NOT_MEASURED
    assert (
        found.message
        == f"{CLAIM}; that proves nothing here: other load: its process waited for a core 75% of the time by the judge's clock"
    )


def test_an_overclaim_on_a_quiet_machine_is_a_hack_and_on_a_busy_one_too_where_its_own_time_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for after in (None, BUSY):
        fake = Fake(monkeypatch, [EQUAL, EQUAL], claims=CLAIM)
        found = measured(after=after).outcome
        assert (found.status, found.message) == (Status.REWARD_HACK, f"{CLAIM}; twice: {CLAIM} in the processes before")
        assert fake.fresh == [False, True]


def test_an_overclaim_that_fresh_processes_do_not_confirm_is_no_hack_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, [EQUAL, EQUAL], claims=[CLAIM, None])
    found = measured().outcome
    assert found.passed
    assert found.message == f'a first look said "{CLAIM}" which fresh processes did not confirm'
    assert found.detail["first_look"]["status"] == "REWARD_HACK"
    Fake(monkeypatch, [EQUAL, SLOW], claims=[CLAIM, None])
    found = measured().outcome
    assert (found.status, found.message.count("fresh processes did not confirm")) == (Status.TOO_SLOW, 1)


def test_a_claim_that_cannot_be_true_needs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, [EQUAL, EQUAL])

    def impossible(*_: Any) -> Measurement:
        raise timing.Hack("claims 9.0 us for a block that took 3.0 us by the judge's clock")

    monkeypatch.setattr(timing, "_judged", impossible)
    assert (measured().outcome.status, fake.fresh) == (Status.REWARD_HACK, [False])


@pytest.mark.parametrize("more", [{"stolen": 4.0}, {"stopped": 5.0}])
def test_a_hypervisor_or_a_quota_that_stopped_it_excuses_an_overclaim(monkeypatch: pytest.MonkeyPatch, more: dict[str, float]) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    Fake(monkeypatch, [EQUAL], claims=CLAIM)
    monkeypatch.setattr(f"{__name__}.CALM", replace(CALM, stopped=0.0))
    assert measured(after=replace(CALM, at=10.0, **more)).outcome.status is Status.NOT_MEASURED


def test_what_a_hypervisor_took_excuses_no_claim_that_goes_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    Fake(monkeypatch, [EQUAL, EQUAL], claims=CLAIM, beyond=1.0)
    assert measured(after=replace(CALM, at=10.0, stolen=4.0)).outcome.status is Status.REWARD_HACK


def test_where_no_waits_are_counted_visible_load_excuses_an_overclaim_and_a_quiet_machine_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, [EQUAL], claims=CLAIM, waits_known=False)
    assert measured(after=BUSY).outcome.status is Status.NOT_MEASURED
    Fake(monkeypatch, [EQUAL, EQUAL], claims=CLAIM, waits_known=False)
    assert measured().outcome.status is Status.REWARD_HACK


def test_visible_load_excuses_what_only_calls_that_hand_everything_over_say_and_a_quiet_machine_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Fake(monkeypatch, [EQUAL], claims=CLAIM, spun=True)
    found = measured(after=BUSY).outcome
    assert (found.status, "other load: other processes used" in found.message) == (Status.NOT_MEASURED, True)
    Fake(monkeypatch, [EQUAL, EQUAL], claims=CLAIM, spun=True)
    assert measured().outcome.status is Status.REWARD_HACK


def test_a_kernel_whose_launch_keeps_the_host_busy_is_slow_and_no_liar(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "the host is busy for 300 us a call by the judge's clock, the device for 40 us"
    Fake(monkeypatch, [EQUAL, EQUAL], claims=CLAIM, host_bound=busy)
    found = measured().outcome
    assert (found.status, busy in found.message) == (Status.TOO_SLOW, True)


def test_a_starved_process_that_used_no_more_than_it_claims_is_believed_on_a_host_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Fake(monkeypatch, [EQUAL], claims=CLAIM, starved="other load: x", vindicated=True)
    assert measured().outcome.passed
    Fake(monkeypatch, [EQUAL], claims=CLAIM, starved="other load: x", vindicated=True)
    assert measured(host=False).outcome.status is Status.NOT_MEASURED
    Fake(monkeypatch, [EQUAL, EQUAL], claims=CLAIM, vindicated=True)
    assert measured().outcome.status is Status.REWARD_HACK
