"""The pairs of one measurement, and what they say together."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from statistics import median

from kevolve.evaluate.baselines import CANDIDATE, EAGER, Opener
from kevolve.evaluate.client import Child
from kevolve.evaluate.pairs import Pair, Sizes, opened, run_pair
from kevolve.evaluate.resident import batch_size
from kevolve.evaluate.runner import Answer, Block, Bound, PairPlan, Runner, SideFailed
from kevolve.evaluate.scatter import Scatter
from kevolve.evaluate.statistics import Interval, Shared, interval, pair_log_ratio, round_log_ratio

# How much slower than it claims the judge's clock must find a candidate, in every pair, before that is no accident; beyond it, for calls
# as launched, the policy's ``bound_us``.
_BOUND_RATIO = 1.5
_APART_US = 60.0  # what a call may take longer that finds caches and threads cold: honest kernels of 30 us took up to 45 us more
_SPUN_RATIO = 5.0  # honest kernels of two threads on two busy cores: 1.7 to 3.2 times at the least of all pairs
_STALLED_FACTOR, _MOST_STALLED = 4.0, 0.95
_REPLAYED_RATIO, _REPLAYED_US = 1.3, 10.0  # the host has no part in a replay
_LEAST_LAUNCHED, _LAUNCHED_US = 0.7, 5.0  # of the replayed time, which the judge's clock bounds closely
_BESIDE_SHARE = 0.25  # of what making inputs and handing outputs over takes beside the calls: how much more of it a candidate may need
Times = tuple[float | None, float | None]  # of a call: the judge's, and what is claimed; microseconds
_HELD_PAIRS = 2  # pairs for which the device is held at a time: others' checks run between
_LARGE_BYTES, _LARGE_SHARE = 16 << 20, 0.25  # of outputs; the share of pairs in which they are asked for


class Series:
    """The pairs of one measurement so far. ``alone``: held while a pair runs, so that nothing else is on the device; given its processes.

    ``beside``: held while processes are given their contents, which uses the device and must not disturb another's pair.
    """

    def __init__(
        self,
        sides: Mapping[str, Opener],
        plan: PairPlan,
        rng: random.Random,
        *,
        alone: Callable[[Sequence[Child]], AbstractContextManager[None]] = lambda _: nullcontext(),
        beside: Callable[[], AbstractContextManager[None]] = nullcontext,
        uncaptured: Mapping[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.rng = rng
        self.pairs: list[Pair] = []
        self.unavailable: dict[str, str] = {}
        self.uncaptured = dict(uncaptured or {})
        self._sides = dict(sides)
        self._sizes: Sizes | None = None
        self._alone, self._beside = alone, beside
        self._asked: set[int] | None = None  # pairs whose outputs are asked for; None: all

    def run(self, count: int) -> None:
        """``count`` pairs more. A baseline that fails is left out from then on; what it gave before does not count."""
        wanted, most = len(self.pairs) + count, self.plan.policy.answered
        if most is not None:
            most = 1 if batch_size(self.plan.pool.layout, 2) == 1 else most  # large inputs, and so most often large outputs
            self._asked = set(self.rng.sample(range(len(self.pairs), wanted), min(most, count)))
        while len(self.pairs) < wanted and len(self._sides) > 1:
            try:
                self._serve(min(wanted - len(self.pairs), self.plan.policy.pairs_a_process))
            except SideFailed as failed:
                if failed.side == CANDIDATE:
                    raise
                self.unavailable[failed.side] = failed.error.message
                del self._sides[failed.side]

    def _serve(self, count: int) -> None:
        """``count`` pairs of the same processes; from the second on with other buffers."""
        with opened(self._sides, self.plan, self.rng, self.uncaptured, beside=self._beside) as runners:
            for first in range(0, count, _HELD_PAIRS):
                with self._alone([runner.child for runner in runners.values()]):
                    for number in range(first, min(count, first + _HELD_PAIRS)):
                        self.pairs.append(self._pair(runners, again=number > 0))

    def _pair(self, runners: Mapping[str, Runner], *, again: bool) -> Pair:
        """One pair. ``again``: the processes have served one before."""
        for runner in runners.values() if again else ():
            runner.again(self.rng.randrange(1 << 62))
        pair, self._sizes = run_pair(runners, self._next_plan(), self._sizes, self.rng)
        return pair

    def _next_plan(self) -> PairPlan:
        """The plan of the next pair: outputs are asked for in a few, chosen at random, where that is costly."""
        asked = len(self.pairs) in self._asked if self._asked is not None else not self._spared()
        return replace(self.plan, answers=self.plan.answers and asked)

    def _spared(self) -> bool:
        """Whether outputs so large that few of them can be verified are not asked for this time."""
        size = max((sum(output.nbytes for output in answer.outputs) for answer in self.answers), default=0)
        return size > _LARGE_BYTES and self.rng.random() > _LARGE_SHARE

    @property
    def baselines(self) -> list[str]:
        """The baselines that every pair has."""
        return [side for side in self._sides if side != CANDIDATE]

    @property
    def answers(self) -> list[Answer]:
        """The timed calls to verify, those handed over first: of them nobody could say that they were not made."""
        handed = [pair.delivered.answer for pair in self.pairs if pair.delivered is not None]
        return [*handed, *(pair.answer for pair in self.pairs if pair.answer is not None)]

    @property
    def repeated(self) -> bool:
        """Whether a process met contents twice."""
        return any(pair.repeated for pair in self.pairs)

    def blocks(self, side: str) -> list[Block]:
        """A side's blocks over all pairs."""
        return [block for pair in self.pairs for block in pair.blocks[side]]

    def log_ratios(self, baseline: str) -> list[float]:
        """A log speedup a pair. Eager is taken as launched; any other in its faster form, against the candidate's faster form."""
        return self._log_ratios(baseline, self._forms(baseline))

    def _log_ratios(self, baseline: str, replayed: Mapping[str, bool]) -> list[float]:
        return [pair_log_ratio(_rounds(pair, baseline, replayed)) for pair in self.pairs]

    def _forms(self, baseline: str) -> Mapping[str, bool]:
        """Whether the replayed times of a baseline and of the candidate are compared."""
        sides = (baseline, CANDIDATE)
        return dict.fromkeys(sides, False) if baseline == EAGER else {side: self.replays_faster(side) for side in sides}

    def speedup(self, baseline: str, scatter: Scatter | None = None) -> Interval:
        """The speedup over a baseline. ``scatter``: between processes, where several pairs have the same."""
        return self._interval(baseline, scatter, self._forms(baseline))

    def speedup_in(self, baseline: str, scatter: Scatter | None = None, *, replayed: bool) -> Interval:
        """The speedup over a baseline with both sides in one form; replayed only where every block of both has such a time."""
        return self._interval(baseline, scatter, dict.fromkeys((baseline, CANDIDATE), replayed))

    def log_ratios_in(self, baseline: str, *, replayed: bool) -> list[float]:
        """By pair: what the interval of ``speedup_in`` is made of."""
        return self._log_ratios(baseline, dict.fromkeys((baseline, CANDIDATE), replayed))

    def _interval(self, baseline: str, scatter: Scatter | None, replayed: Mapping[str, bool]) -> Interval:
        return interval(self._log_ratios(baseline, replayed), shared=self._shared(scatter, replayed))

    def _shared(self, scatter: Scatter | None, forms: Mapping[str, bool]) -> Shared | None:
        if scatter is None:
            return None
        parts = [
            scatter.of(replayed=replayed) / median(block.in_form(replayed=replayed) for block in self.blocks(side))
            for side, replayed in forms.items()
        ]
        return Shared(deviation=math.hypot(*parts), count=scatter.processes)

    def replays_faster(self, side: str) -> bool:
        """Whether a side's calls are quicker replayed than launched: one form for all of its blocks."""
        blocks = self.blocks(side)
        times = forms(blocks)
        whole = all(block.replayed_us is not None for block in blocks)
        return whole and times["replayed"] == faster(times)

    def overclaimed(self) -> str | None:
        """Why the candidate's clock is not to be believed: the judge's found it slower in every pair; or None."""
        return self._overclaimed(lambda bound: bound.host_us) or self._overclaimed_handed_over()

    def host_bound(self) -> str | None:
        """Why what ``overclaimed`` says of calls one after another is no lie: replays, where the host has no part, take what is claimed.

        None where nothing was replayed, or replays take longer too.
        """
        bounds = [pair.bound.host_us for pair in self.pairs if pair.bound is not None and pair.replayed_bound is not None]
        if not bounds or len(bounds) < len(self.pairs) or self._overclaimed_replayed() or self._overclaimed_handed_over():
            return None
        device_us = median(_mean_us(pair.blocks[CANDIDATE]) for pair in self.pairs)
        return f"the host is busy for {median(bounds):.3g} us a call by the judge's clock, the device for {device_us:.3g} us"

    def starved(self) -> str | None:
        """Why what ``overclaimed`` says proves nothing: its process had no core meanwhile. None where its own time does not fit either."""
        if self._overclaimed(lambda bound: bound.host_us - (bound.waited_us or 0.0)) or self._overclaimed_handed_over():
            return None  # waiting is no part of the time of calls that hand everything over
        bounds = [bound for pair in self.pairs for bound in (pair.bound, pair.replayed_bound) if bound is not None]
        share = median((bound.waited_us or 0.0) / bound.host_us for bound in bounds) if bounds else 0.0
        return f"other load: its process waited for a core {min(1.0, share):.0%} of the time by the judge's clock"

    def beyond(self, stalled: float) -> bool:
        """Whether the judge's clock finds more than a machine explains that stood still for a share of the time.

        Four times that share is allowed for: it does not fall evenly on all pairs.
        """
        left = 1.0 - min(_MOST_STALLED, _STALLED_FACTOR * stalled)
        return self._overclaimed(lambda bound: bound.host_us * left) is not None

    @property
    def vindicated(self) -> bool:
        """Whether a starved process did nothing besides what it claims: the time that *all* its threads used cores fits the claim.

        A process that makes itself wait, by threads of its own, uses cores for it. What a device does is not in these figures.
        """
        if any(pair.bound is None or pair.bound.used_us is None for pair in self.pairs):
            return False
        return self._overclaimed(lambda bound: bound.used_us or 0.0, every=False) is None

    @property
    def spun(self) -> bool:
        """Whether only calls that hand everything over took more than is claimed, and not so much more that it must be a lie.

        Between such calls a kernel's threads sleep; on a busy machine the one that waits for them to wake uses its core for it.
        """
        if self._overclaimed(lambda bound: bound.host_us) or self._overclaimed_handed_over() is None:
            return False
        return _overclaimed([self._handed_over()], _SPUN_RATIO, self.plan.policy.bound_us) is None

    @property
    def waits_known(self) -> bool:
        """Whether the system says how long the candidate's process waited for a core."""
        return all(pair.bound is not None and pair.bound.waited_us is not None for pair in self.pairs)

    def _overclaimed_handed_over(self) -> str | None:
        """The same by calls whose outputs were all handed over."""
        return _overclaimed([self._handed_over()], _BOUND_RATIO, self.plan.policy.bound_us + _APART_US, "with every output handed over")

    def _overclaimed(self, own_us: Callable[[Bound], float], *, every: bool = True) -> str | None:
        """``own_us``: what of the judge's time counts. ``every``: only what all pairs show is said."""
        launched, replayed = self._own_and_claimed(own_us)
        parts = [(launched, replayed)] if every else [([one], [other]) for one, other in zip(launched, replayed, strict=True)]
        found = (
            _overclaimed(one, _BOUND_RATIO, self.plan.policy.bound_us)
            or _overclaimed(other, _REPLAYED_RATIO, _REPLAYED_US, "replayed")
            or _inconsistent(one, other)
            for one, other in parts
        )
        return next((said for said in found if said), None)

    def _overclaimed_replayed(self) -> str | None:
        """The same by replays, and by what launched calls claim beside them."""
        launched, replayed = self._own_and_claimed(lambda bound: bound.host_us)
        return _overclaimed(replayed, _REPLAYED_RATIO, _REPLAYED_US, "replayed") or _inconsistent(launched, replayed)

    def _own_and_claimed(self, own_us: Callable[[Bound], float]) -> tuple[list[Times], list[Times]]:
        """By pair the judge's time of a call and the claimed one, launched and replayed."""

        def judged(bound: Bound | None) -> float | None:
            return None if bound is None else own_us(bound)

        launched: list[Times] = [(judged(pair.bound), _mean_us(pair.blocks[CANDIDATE])) for pair in self.pairs]
        replayed = [(judged(pair.replayed_bound), _mean_replayed_us(pair.blocks[CANDIDATE])) for pair in self.pairs]
        return launched, replayed

    def _handed_over(self) -> tuple[float | None, float | None]:
        """What a call takes at the least where all outputs are handed over, by the system's count, and what is claimed.

        What stands beside the calls then (contents made, outputs copied) was measured in a trusted process; a candidate is given a
        quarter more. Both are the least of all pairs: other load only adds to them.
        """
        least = [pair.delivered.least_us for pair in self.pairs if pair.delivered is not None and pair.delivered.least_us is not None]
        idle = [pair.idle_us for pair in self.pairs if pair.idle_us is not None]
        if not least or not idle:
            return None, None
        return min(least) - (1 + _BESIDE_SHARE) * min(idle), median(_mean_us(pair.blocks[CANDIDATE]) for pair in self.pairs)


def _overclaimed(times: Sequence[Times], most: float, slack_us: float, form: str = "one after another") -> str | None:
    """``times``: by pair the judge's and the claimed, microseconds a call; ``most`` times the claim and ``slack_us`` are believed."""
    ratios = []
    for host_us, claimed in times:
        if host_us is None or claimed is None or host_us < most * claimed + slack_us:
            return None
        ratios.append(host_us / claimed)
    if not ratios:
        return None
    said = f"{median(host for host, _ in times if host is not None):.3g} us a call, {form}"
    return f"takes {median(ratios):.1f} times what its process claims by the judge's clock, in every pair: {said}"


def _inconsistent(launched: Sequence[Times], replayed: Sequence[Times]) -> str | None:
    """Why the launched times cannot be true beside the replayed ones: a call does not get quicker by being launched; or None."""
    ratios = []
    for (_, single), (_, captured) in zip(launched, replayed, strict=True):
        if single is None or captured is None or single >= _LEAST_LAUNCHED * captured - _LAUNCHED_US:
            return None
        ratios.append(captured / single)
    return f"claims calls {median(ratios):.1f} times as quick launched as replayed, in every pair" if ratios else None


def _mean_us(blocks: Sequence[Block]) -> float:
    return math.fsum(block.launched_us for block in blocks) / len(blocks)


def _mean_replayed_us(blocks: Sequence[Block]) -> float | None:
    times = [block.replayed_us for block in blocks if block.replayed_us is not None]
    return math.fsum(times) / len(times) if times else None


def forms(blocks: Sequence[Block]) -> dict[str, float | None]:
    """Medians over blocks, microseconds a call: ``launched``, and ``replayed`` or None."""
    replayed = [block.replayed_us for block in blocks if block.replayed_us is not None]
    return {"launched": median(block.launched_us for block in blocks), "replayed": median(replayed) if replayed else None}


def faster(times: Mapping[str, float | None]) -> float:
    """The faster of the forms."""
    return min(value for value in times.values() if value is not None)


def _rounds(pair: Pair, baseline: str, replayed: Mapping[str, bool]) -> list[float]:
    def figures(side: str) -> list[float]:
        return [block.in_form(replayed=replayed[side]) for block in pair.blocks[side]]

    slow, fast = figures(baseline), figures(CANDIDATE)
    return [round_log_ratio(slow[place : place + 2], fast[place : place + 2]) for place in range(0, len(fast), 2)]
