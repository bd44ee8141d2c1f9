"""How much faster a candidate is than its baselines: process pairs, palindromic rounds of blocks, verified outputs.

A pair is one fresh process a side. Inside it the sides take turns in rounds A B C C B A of blocks that last ``target.blocks.min_us`` each;
every timed call gets contents that its process has not seen (``contents``), and the outputs of randomly chosen timed calls are
compared with the oracle afterwards. The clock is the target's, in the worker; the judge's own clock bounds what it claims.
Baselines are timed anew beside every candidate, never remembered: on a shared machine only times of the same pair compare.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median

from kevolve.evaluate.baselines import CANDIDATE, EAGER, Opener, Templates, openers, positions
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Child, Workers
from kevolve.evaluate.contents import Contents, Pool, case_pool
from kevolve.evaluate.disturbance import Reading, Since, noise, read, why
from kevolve.evaluate.floor import case_work, floor_us, fraction_of_light, suspect
from kevolve.evaluate.materialise import grad_outputs
from kevolve.evaluate.method import method
from kevolve.evaluate.oracle import ReferenceFailed, blame, forward
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.referee import can_be_told
from kevolve.evaluate.runner import Hack, PairPlan, SideFailed
from kevolve.evaluate.scatter import Scatter
from kevolve.evaluate.series import Series, faster, forms
from kevolve.evaluate.statistics import FEWEST_PAIRS, Interval, undecided, verdict
from kevolve.evaluate.verification import verify
from kevolve.spec.spec import Case, Draw, Spec, Work
from kevolve.targets import BlockPolicy, Peaks, Target

LITTLE = 0.9  # of the speedup asked: a kernel whose interval reaches it is too slow by little
_EXTENSION = 2  # times the pairs of a first look, where that leaves the verdict open; every further look would add false alarms
_VERIFY_S = 0.6  # seconds for oracle and comparison a case, beyond the first verified call
_QUICK_PAIRS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One candidate's speed on one case. Times are microseconds; ``samples_s`` are the candidate's blocks, seconds a call.

    ``outcome``: PASSED, or TOO_SLOW, SUSPECT, REWARD_HACK, INCORRECT_*, RUNTIME_ERROR, TIMEOUT, NOT_MEASURED, with its reason.
    ``time_us`` and each of ``baseline_us``: medians by form, ``launched`` and ``replayed`` (None where calls cannot be replayed).
    ``unavailable``: baselines that could not be timed, and why. ``verified``: how many timed calls were compared with the oracle.
    """

    outcome: Outcome
    time_us: Mapping[str, float | None] = field(default_factory=dict)
    baseline_us: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    speedup: Mapping[str, Interval] = field(default_factory=dict)
    log_ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by pair: what the intervals are made of
    unavailable: Mapping[str, str] = field(default_factory=dict)
    work: Work | None = None  # the least work of the case, where outputs say it
    floor_us: float | None = None
    speed_of_light: float | None = None
    pairs: int = 0
    verified: int = 0
    method: str = ""
    samples_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickTime:
    """A rough speed for the search. ``fitness``: the speedup over the spec's first baseline, 0 where ``outcome`` is a failure."""

    outcome: Outcome
    fitness: float = 0.0
    time_us: float | None = None
    baseline_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is timed and where."""

    workers: Workers
    spec: Spec
    case: Case
    candidate: Candidate
    target: Target


def measure(
    workers: Workers,
    spec: Spec,
    case: Case,
    candidate: Candidate,
    *,
    target: Target,
    baselines: Sequence[str],
    seed: int,
    pairs: int = FEWEST_PAIRS,
    peaks: Peaks | None = None,
    unread: frozenset[str] = frozenset(),
    scatter: Scatter | None = None,
    templates: Templates | None = None,
    pool: Pool | None = None,
    budget_s: float | None = None,
    deadline_s: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
    reading: Callable[[Target], Reading] = read,
) -> Measurement:
    """Time ``candidate`` on ``case`` against ``baselines``; the first is what ``spec.least_speedup(case)`` is held against.

    ``seed``: secret; contents, orders and verified calls follow from it. ``pairs``: at least 7, twice as many where the first look
    leaves ``min_speedup`` inside the interval; a modelled target takes one. ``peaks``, ``unread``: for the
    speed of light. ``scatter``: between processes, where several pairs share them (``scatter.py``).
    ``templates``, ``pool``: shared over candidates of one case, else made and closed here. ``budget_s``: what the timed rounds
    of the first look should take (None: the target's policy says). ``deadline_s``: for one block. ``reading``: the machine's counters.

    What is too slow, or slower by the judge's clock than it claims, is timed once more from the start, in fresh processes with other
    contents (a third time where it is too slow by little and the policy says so); only what all looks show fails, and the figures are
    the last look's, which nobody selected. A modelled clock is exact and needs none.
    What the description or the reference raises on the case's own inputs is a RUNTIME_ERROR that says so.
    Raises ``ValueError`` for an unknown baseline.
    """
    subject = Subject(workers=workers, spec=spec, case=case, candidate=candidate, target=target)
    reason = target.unmeasured(candidate.language)
    if reason is not None:
        return _unmeasured(reason)
    rng = random.Random(seed)
    with ExitStack() as stack:
        try:
            contents, compiled = stack.enter_context(_closing(subject, pool, templates, seed))
        except ReferenceFailed as failed:
            return Measurement(outcome=failed.outcome(Stage.PAIRED))
        wanted = 1 if target.modelled else pairs
        seconds = target.blocks.budget_s if budget_s is None else budget_s
        look = partial(
            _look,
            subject,
            plan=_plan(subject, contents, seconds / wanted, deadline_s, clock),
            wanted=wanted,
            contents=contents,
            figures=_Figures(baselines=baselines, peaks=peaks or Peaks(), unread=unread, scatter=scatter),
            reading=reading,
            rng=rng,
        )
        looks = [look(_openers(subject, baselines, contents, compiled))]
        while not target.modelled and _to_confirm(looks[-1]) and len(looks) < _looks(subject, looks[-1], baselines[0]):
            looks.append(look(_openers(subject, baselines, contents, compiled, fresh=True)))
        return confirmed(looks, baselines[0]) if len(looks) > 1 else looks[0]


def _looks(subject: Subject, found: Measurement, baseline: str) -> int:
    """How many looks must say the same: two, or the policy's where a kernel is too slow by little."""
    speedup = found.speedup.get(baseline)
    if found.outcome.status is not Status.TOO_SLOW or speedup is None:
        return 2
    return subject.target.blocks.looks if speedup.high > LITTLE * subject.spec.least_speedup(subject.case) else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures:
    """What the figures of a measurement are made with."""

    baselines: Sequence[str]
    peaks: Peaks
    unread: frozenset[str]
    scatter: Scatter | None


def _look(
    subject: Subject,
    sides: Mapping[str, Opener],
    *,
    plan: PairPlan,
    wanted: int,
    contents: Pool,
    figures: _Figures,
    reading: Callable[[Target], Reading],
    rng: random.Random,
) -> Measurement:
    """``wanted`` pairs, twice as many where those leave the verdict open, and what they say."""
    series = _series(subject, sides, plan, rng)
    before = reading(subject.target)
    try:
        series.run(wanted)
        if _wants_more(subject, series, figures.baselines, wanted):
            series.run(len(series.pairs))
        since = Since(before=before, reading=lambda: reading(subject.target))
        return _judged(subject, series, contents, figures, since)
    except SideFailed as failed:
        return Measurement(outcome=_failure(failed), unavailable=series.unavailable)
    except Hack as hack:
        return Measurement(outcome=_hack(hack), unavailable=series.unavailable)
    except ReferenceFailed as failed:
        return Measurement(outcome=failed.outcome(Stage.PAIRED), unavailable=series.unavailable)


def _to_confirm(first: Measurement) -> bool:
    """Whether times alone speak against the candidate, so that other load may have made them: too slow, or slower than it claims.

    A claim that cannot be true whatever else ran (``Hack``) ends a look before its pairs do.
    """
    return first.pairs > 0 and first.outcome.status in (Status.TOO_SLOW, Status.REWARD_HACK)


def quick(
    workers: Workers,
    spec: Spec,
    case: Case,
    candidate: Candidate,
    *,
    target: Target,
    seed: int,
    templates: Templates | None = None,
    pool: Pool | None = None,
    pairs: int = _QUICK_PAIRS,
    process: Child | None = None,
    verified: bool = False,
    deadline_s: float = 30.0,
    clock: Callable[[], float] = time.perf_counter,
) -> QuickTime:
    """A rough speedup over the first of ``spec.baseline`` from few pairs, for the search: no interval, no verdict on ``min_speedup``.

    ``verified``: compare a timed call with the oracle (the paired stage always does). ``templates`` and ``pool`` as for ``measure``:
    without the first, a compiled baseline is compiled anew. ``process``: the one that checked the candidate, where another is dear;
    what it says then decides nothing but the search's next step, and it stays its owner's. Raises as ``measure``.
    """
    first = spec.baseline[0]
    reason = target.unmeasured(candidate.language)
    if reason is not None:
        return QuickTime(outcome=Outcome(status=Status.NOT_MEASURED, stage=Stage.QUICK, message=reason))
    subject = Subject(workers=workers, spec=spec, case=case, candidate=candidate, target=target)
    rng = random.Random(seed)
    with ExitStack() as stack:
        try:
            contents, compiled = stack.enter_context(_closing(subject, pool, templates, seed))
        except ReferenceFailed as failed:
            return QuickTime(outcome=failed.outcome(Stage.QUICK))
        sides = _openers(subject, (first,), contents, compiled, process)
        wanted = 1 if target.modelled else pairs
        plan = _plan(subject, contents, target.blocks.quick_budget_s / wanted, deadline_s, clock)
        plan = replace(plan, answers=verified, captures=first != EAGER, policy=_rough(plan.policy))
        series = _series(subject, sides, plan, rng, rough=True)
        try:
            series.run(wanted)
        except SideFailed as failed:
            return QuickTime(outcome=_failure(failed, Stage.QUICK))
        except Hack as hack:
            return QuickTime(outcome=_hack(hack, Stage.QUICK))
        outcome = Outcome(status=Status.PASSED, stage=Stage.QUICK)
        if verified:
            try:
                outcome, _ = verify(
                    spec, case, contents, series.answers, workers=workers, target=target, budget_s=0.0, rng=rng, clock=clock
                )
            except ReferenceFailed as failed:
                return QuickTime(outcome=failed.outcome(Stage.QUICK))
        if first in series.unavailable:
            outcome = Outcome(status=Status.NOT_MEASURED, stage=Stage.QUICK, message=f"{first}: {series.unavailable[first]}")
        if not outcome.passed:
            return QuickTime(outcome=outcome)
        times = {side: median(block.launched_us for block in series.blocks(side)) for side in (CANDIDATE, first)}
        fitness = series.speedup(first).estimate
        return QuickTime(outcome=outcome, fitness=fitness, time_us=times[CANDIDATE], baseline_us=times[first])


def confirmed(looks: Sequence[Measurement], baseline: str) -> Measurement:
    """The last look's figures and outcome, with what became of those before it, which spoke against the candidate by times alone.

    ``outcome.detail["first_look"]``: its status, and its ratio over the baseline that decides with its interval where it has one.
    """
    *before, last = looks
    first, outcome, message = before[0], last.outcome, ""
    if outcome.status is first.outcome.status:
        times = "twice" if len(looks) == 2 else f"{len(looks)} times"
        message = f"{outcome.message}; {times}: {' and '.join(_was(look, baseline) for look in before)} in the processes before"
    elif outcome.status in (Status.PASSED, Status.NOT_MEASURED, Status.TOO_SLOW):
        slow = all(_is_slow(look, baseline) for look in before)
        was = " and ".join(_was(look, baseline) if slow else f'"{look.outcome.message}"' for look in before)
        looked = "a first look" if len(before) == 1 else f"{len(before)} looks"
        unconfirmed = f"{looked} said {f'too slow, {was},' if slow else was} which fresh processes did not confirm"
        message = f"{outcome.message}; {unconfirmed}" if outcome.message else unconfirmed
    told: dict[str, str | float] = {"status": str(first.outcome.status)}
    found = first.speedup.get(baseline)
    if found is not None:
        told |= {"estimate": found.estimate, "low": found.low, "high": found.high}
    outcome = replace(outcome, message=message or outcome.message, detail={**outcome.detail, "first_look": told})
    method = f"{last.method}; the {'second of two' if len(looks) == 2 else 'last of three'} looks, in fresh processes"
    return replace(last, outcome=outcome, method=method if last.method else "")


def _is_slow(look: Measurement, baseline: str) -> bool:
    """Whether it says "too slow", and by how much."""
    return look.outcome.status is Status.TOO_SLOW and baseline in look.speedup


def _was(look: Measurement, baseline: str) -> str:
    """``0.901x [0.895, 0.907]``, or what the look said where a ratio was not what it said."""
    if not _is_slow(look, baseline):
        return look.outcome.message
    found = look.speedup[baseline]
    return f"{found.estimate:.3f}x [{found.low:.3f}, {found.high:.3f}]"


def timed_pool(spec: Spec, case: Case, *, seed: int) -> Pool:
    """Contents for the timed calls of ``case``, gradients of its outputs included; close it.

    Raises ``ReferenceFailed`` where the reference refuses the case's inputs, or they cannot be made.
    """
    with blame(spec, Draw(values=case.values, seed=seed)):
        return case_pool(spec, case, seed=seed, grad_outputs=lambda draw, inputs: _grads(spec, draw, inputs))


def _grads(spec: Spec, draw: Draw, inputs: Sequence[object]) -> Sequence[object]:
    return grad_outputs(spec, draw, forward(spec, draw, inputs)) if spec.grad else ()


def _rough(policy: BlockPolicy) -> BlockPolicy:
    """Half the calls a block, where their number is what limits it."""
    return replace(policy, max_calls=max(policy.min_calls, policy.max_calls // 2))


def _openers(
    subject: Subject, baselines: Sequence[str], pool: Pool, templates: Templates, process: Child | None = None, *, fresh: bool = False
) -> Mapping[str, Opener]:
    return openers(
        subject.workers,
        subject.spec,
        subject.case,
        subject.candidate,
        target=subject.target,
        baselines=baselines,
        pool=pool,
        templates=templates,
        process=process,
        fresh=fresh,
    )


def _series(subject: Subject, sides: Mapping[str, Opener], plan: PairPlan, rng: random.Random, *, rough: bool = False) -> Series:
    """Pairs that have the device to themselves and, unless ``rough``, the host; what could not be captured before is not tried again."""
    workers, target = subject.workers, subject.target
    return Series(
        sides,
        plan,
        rng,
        alone=(lambda _: workers.holds.alone(target)) if rough else partial(workers.alone, target),
        beside=lambda: workers.holds.shared(target),
        uncaptured=subject.workers.uncaptured.get(_case_key(subject)),
    )


def _note_uncaptured(subject: Subject, series: Series) -> None:
    known = {side: reason for side, reason in series.uncaptured.items() if side != CANDIDATE}
    subject.workers.uncaptured[_case_key(subject)] = known


def _case_key(subject: Subject) -> tuple[str, ...]:
    return (subject.spec.nodeid, subject.spec.hash, subject.case.id, subject.target.name)


def _plan(subject: Subject, pool: Pool, pair_s: float, deadline_s: float, clock: Callable[[], float]) -> PairPlan:
    return PairPlan(
        policy=subject.target.blocks,
        pool=pool,
        mutates=positions(subject.spec, subject.spec.mutates),
        budget_s=pair_s,
        deadline_s=deadline_s,
        exact=subject.target.modelled,
        judged_from=_judged_from(subject),
        clock=clock,
    )


def _judged_from(subject: Subject) -> int | None:
    """The elements of outputs from which the device judges them; None where it cannot."""
    draw = Draw(values=subject.case.values, seed=0)
    return getattr(subject.target, "judges_from", None) if can_be_told(subject.spec, draw) else None


@contextmanager
def _closing(subject: Subject, pool: Pool | None, templates: Templates | None, seed: int) -> Iterator[tuple[Pool, Templates]]:
    """The pool and the templates given, or ones that end here."""
    with subject.workers.quiet.working():
        own_pool = timed_pool(subject.spec, subject.case, seed=seed) if pool is None else None
    own_templates = Templates(subject.workers) if templates is None else None
    try:
        yield pool or own_pool, templates or own_templates  # type: ignore[misc]  # one of each two is there
    finally:
        for own in (own_pool, own_templates):
            if own is not None:
                own.close()


def _wants_more(subject: Subject, series: Series, baselines: Sequence[str], wanted: int) -> bool:
    """Whether more pairs could close a verdict that is open, and may still be had. ``wanted``: those of the first look."""
    first = baselines[0] if baselines else None
    most = 1 if subject.target.modelled else wanted * _EXTENSION
    if first not in series.baselines or len(series.pairs) >= most:
        return False
    return undecided(series.speedup(str(first)), subject.spec.least_speedup(subject.case))


def _judged(
    subject: Subject,
    series: Series,
    pool: Pool,
    figures: _Figures,
    since: Since,
) -> Measurement:
    """The record's figures and the outcome, correctness first."""
    if not series.pairs:
        return _unmeasured("; ".join(f"{side}: {why}" for side, why in series.unavailable.items()) or "no baseline", series.unavailable)
    _note_uncaptured(subject, series)
    outcome, verified = verify(
        subject.spec,
        subject.case,
        pool,
        series.answers,
        workers=subject.workers,
        target=subject.target,
        budget_s=_VERIFY_S,
        rng=series.rng,
        clock=series.plan.clock,
    )
    speedup = {side: series.speedup(side, figures.scatter) for side in series.baselines}
    times = {side: forms(series.blocks(side)) for side in (CANDIDATE, *series.baselines)}
    time_us = faster(times[CANDIDATE])
    work = _work(subject, series, pool, figures.unread)
    floor = None if work is None else floor_us(work, figures.peaks)
    if outcome.passed:
        outcome = _speed_outcome(subject, series, speedup, figures.baselines, suspect(time_us, floor, figures.peaks), since)
    return Measurement(
        outcome=outcome,
        time_us=times[CANDIDATE],
        baseline_us={side: times[side] for side in series.baselines},
        speedup=speedup,
        log_ratios={side: tuple(series.log_ratios(side)) for side in series.baselines},
        unavailable=series.unavailable,
        work=work,
        floor_us=floor,
        speed_of_light=fraction_of_light(floor, time_us),
        pairs=len(series.pairs),
        verified=verified,
        method=method(series, subject.target, figures.scatter),
        samples_s=tuple(block.launched_us / 1e6 for block in series.blocks(CANDIDATE)),
    )


def _work(subject: Subject, series: Series, pool: Pool, unread: frozenset[str]) -> Work | None:
    if not series.answers:
        return None
    inputs = Contents(pool.fd, pool.layout, pool.seed).inputs(0)
    return case_work(subject.spec, subject.case, inputs, series.answers[0].outputs, unread=unread)


def _speed_outcome(
    subject: Subject, series: Series, speedup: Mapping[str, Interval], baselines: Sequence[str], suspicion: str | None, since: Since
) -> Outcome:
    hack = series.overclaimed()
    if hack is not None and not (subject.target.shares_cores and series.starved() is not None and series.vindicated):
        busy = series.host_bound()
        return _overclaimed(hack, series, since) if busy is None else Outcome(status=Status.TOO_SLOW, stage=Stage.PAIRED, message=busy)
    if suspicion is not None:
        return Outcome(status=Status.SUSPECT, stage=Stage.PAIRED, message=suspicion)
    first, threshold = baselines[0], subject.spec.least_speedup(subject.case)
    if first not in speedup:
        return Outcome(status=Status.NOT_MEASURED, stage=Stage.PAIRED, message=f"{first}: {series.unavailable[first]}")
    found = speedup[first]
    status = verdict(found, threshold)
    unclear = None if subject.target.modelled else noise(found, threshold)
    if unclear is not None:
        return Outcome(status=Status.NOT_MEASURED, stage=Stage.PAIRED, message=why(f"{unclear} over {first}", since.reasons()))
    if status is Status.PASSED:
        return Outcome(status=status, stage=Stage.PAIRED)
    message = f"{found.estimate:.3f}x over {first} [{found.low:.3f}, {found.high:.3f}], expected at least {threshold:g}x"
    return Outcome(status=status, stage=Stage.PAIRED, message=message)


def _overclaimed(hack: str, series: Series, since: Since) -> Outcome:
    """A claim that the judge's clock contradicts: a lie, unless the process had no core for the time that is missing."""
    counted = series.waits_known and not series.spun  # what other load took of it is in the figures
    starved = series.starved()
    cause = starved or "; ".join(since.stalls() if counted else since.reasons())
    if not cause or (starved is None and counted and series.beyond(since.stalled())):
        return Outcome(status=Status.REWARD_HACK, stage=Stage.PAIRED, message=hack)
    return Outcome(status=Status.NOT_MEASURED, stage=Stage.PAIRED, message=f"{hack}; that proves nothing here: {cause}")


def _unmeasured(reason: str, unavailable: Mapping[str, str] | None = None) -> Measurement:
    return Measurement(outcome=Outcome(status=Status.NOT_MEASURED, stage=Stage.PAIRED, message=reason), unavailable=unavailable or {})


def _failure(failed: SideFailed, stage: Stage = Stage.PAIRED) -> Outcome:
    detail = {"log": failed.error.log} if failed.error.log else {}
    return Outcome(status=failed.error.status, stage=stage, message=f"while it was timed: {failed.error.message}", detail=detail)


def _hack(hack: Hack, stage: Stage = Stage.PAIRED) -> Outcome:
    return Outcome(status=Status.REWARD_HACK, stage=stage, message=str(hack))
