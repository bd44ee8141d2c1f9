"""One pair: a process a side, taking turns in palindromic rounds of blocks. The judge's side of ``timed``.

On a host every pair has fresh processes; where a process has a device's context to make first, it serves several pairs, its buffers
allocated anew for each (``BlockPolicy.pairs_a_process``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from statistics import median

from kevolve.evaluate.baselines import CANDIDATE, Opener
from kevolve.evaluate.client import Child, ChildFailed
from kevolve.evaluate.runner import Answer, Block, Bound, Delivered, PairPlan, Runner, SideFailed, delivered_count
from kevolve.targets import BlockPolicy

_MOST_HANDED_OVER = 1 << 20  # bytes of a call: of larger ones copying and fresh pages outweigh the call, and accused honest kernels
_ALIGNED = 4096  # bytes; no output is put further behind the one before it
_SLOW_US = 10_000.0  # a call beyond this gets one untimed call after a hand-over,
_SLOWEST_US = 100_000.0  # beyond this none: the pair's first block was untimed already
_WARM_SHARE = 0.1  # of a block's length that quick calls are warmed for: three calls of 10 us end before a cold core is warm
_BOUND_US, _MOST_BOUND = 5_000.0, 256  # claimed time, and calls at the most, that the judge times: asking took 0.6 ms on a virtual machine
_MOST_ROUNDS = 5
_LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A finished pair: two blocks a round by side, the answer to verify, and the judge's own time of one candidate call."""

    blocks: Mapping[str, tuple[Block, ...]]
    answer: Answer | None
    bound: Bound | None
    replayed_bound: Bound | None = None
    delivered: Delivered | None = None  # on a host: calls of the candidate's whose outputs were all handed over
    idle_us: float | None = None  # what stands beside one of those calls: contents made, outputs copied
    repeated: bool = False  # whether a process met contents twice: a bank of few sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Calls of a block by side, untimed calls before it, and rounds a pair."""

    calls: Mapping[str, int]
    warm: Mapping[str, int]
    rounds: int


@contextmanager
def opened(
    openers: Mapping[str, Opener],
    plan: PairPlan,
    rng: random.Random,
    uncaptured: MutableMapping[str, str],
    *,
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Mapping[str, Runner]]:
    """Start every side; end them.

    ``uncaptured``: sides whose calls cannot be captured, and why; more may be found. ``beside``: held while processes get their contents.
    Raises ``SideFailed`` when a side's process does.
    """
    with ExitStack() as stack:
        runners = {}
        for side in _order(openers, plan, rng):
            runners[side] = _started(openers[side], side, plan, rng, stack, uncaptured, beside)
        yield runners


def _order(openers: Mapping[str, Opener], plan: PairPlan, rng: random.Random) -> Sequence[str]:
    """Who comes first gets other memory. Kept processes come last, always in one order: another measurement may wait for them."""
    if plan.policy.pairs_a_process == 1 or not plan.kept:
        return rng.sample(list(openers), len(openers))
    return sorted(openers, key=lambda side: (side != CANDIDATE, side))


def run_pair(runners: Mapping[str, Runner], plan: PairPlan, sizes: Sizes | None, rng: random.Random) -> tuple[Pair, Sizes]:
    """Let every side take turns. ``sizes`` None: measure them. Returns the pair, and sizes for the next one.

    Raises ``SideFailed`` when a side's process does, ``Hack`` for claims that cannot be true.
    """
    sizes = _settled(runners, plan, sizes)
    blocks: dict[str, list[Block]] = {side: [] for side in runners}
    answer = None
    asked = rng.randrange(sizes.rounds) if plan.answers else None
    for number in range(sizes.rounds):
        order = rng.sample(list(runners), len(runners))
        for place, side in enumerate([*order, *reversed(order)]):
            blocks[side].append(runners[side].block(_varied(sizes.calls[side], rng, plan), sizes.warm[side]))
            # on a host of every side, so that none is put at a disadvantage
            if number == asked and place < len(order) and (side == CANDIDATE or plan.policy.answered is None):
                given = runners[side].answer(rng.randrange(8), replayed=rng.random() < 0.5)
                answer = given if side == CANDIDATE else answer
    candidate, calls = runners[CANDIDATE], sizes.calls[CANDIDATE]
    delivered, idle_us = _delivered(runners, sizes, answer, plan, rng)
    pair = Pair(
        blocks={side: tuple(made) for side, made in blocks.items()},
        answer=answer,
        bound=None if plan.exact else candidate.bound(_bound_calls(calls, blocks[CANDIDATE])),
        replayed_bound=None if plan.exact else candidate.replayed_bound(calls),
        delivered=delivered,
        idle_us=idle_us,
        repeated=min(runner.left for runner in runners.values()) < 0,
    )
    return pair, sizes_for(blocks, plan)


def _bound_calls(calls: int, blocks: Sequence[Block]) -> int:
    """How many calls the judge times: of short blocks so many that asking for them counts little."""
    claimed_us = median(block.launched_us for block in blocks)
    return max(calls, min(_MOST_BOUND, math.ceil(_BOUND_US / claimed_us)))


def _delivered(
    runners: Mapping[str, Runner], sizes: Sizes, answer: Answer | None, plan: PairPlan, rng: random.Random
) -> tuple[Delivered | None, float | None]:
    """Calls of the candidate's that hand every output over, and what stands beside such a call, from a baseline's process.

    On a host only, of small outputs only, and no more calls than there are sets left for.
    """
    trusted = [runner for side, runner in runners.items() if side != CANDIDATE]
    if answer is None or plan.exact or plan.policy.sets > 1 or not trusted:
        return None, None
    most = min(runner.left for runner in runners.values()) - 2
    each = sum(output.nbytes + _ALIGNED for output in answer.outputs)
    count = int(min(delivered_count(each, plan.pool.sets), most))
    if count < 1 or each > _MOST_HANDED_OVER:
        return None, None
    idle_us = trusted[0].idle_us(count, count * each)
    return runners[CANDIDATE].delivered(count, count * each, rng), idle_us


def _started(
    opener: Opener,
    side: str,
    plan: PairPlan,
    rng: random.Random,
    stack: ExitStack,
    uncaptured: MutableMapping[str, str],
    beside: Callable[[], AbstractContextManager[None]],
) -> Runner:
    """A side's process with its contents, its calls captured where the target can and they let it."""
    child = _opened(opener, side, stack)
    with beside():
        runner = Runner(side, child, plan, rng.randrange(1 << 62))
        refused = runner.capture() if plan.policy.sets > 1 and plan.captures and side not in uncaptured else None
    if refused is None:
        return runner
    uncaptured[side] = refused
    child.close()  # a capture that failed leaves the allocator in a state of its own
    child = _opened(opener, side, stack)
    with beside():
        return Runner(side, child, plan, rng.randrange(1 << 62))


def _opened(opener: Opener, side: str, stack: ExitStack) -> Child:
    try:
        return stack.enter_context(opener())
    except ChildFailed as error:
        raise SideFailed(side, error) from error


def _settled(runners: Mapping[str, Runner], plan: PairPlan, sizes: Sizes | None) -> Sizes:
    """One block a side that does not count (page faults, thread pools), and in the first pair the sizes."""
    left = min(runner.left for runner in runners.values())
    if sizes is not None:
        sizes = fitted(sizes, plan.policy, left, blocks=1)
        for side, runner in runners.items():
            runner.block(sizes.calls[side], sizes.warm[side])
        return sizes
    blocks = {side: [_calibrated(runner, plan.policy)] for side, runner in runners.items()}
    return fitted(sizes_for(blocks, plan), plan.policy, min(runner.left for runner in runners.values()))


def sizes_for(blocks: Mapping[str, Sequence[Block]], plan: PairPlan) -> Sizes:
    """What the next pair needs, from blocks that were timed: the same length for every side, or its quicker calls would be colder."""
    typical = {side: median(block.launched_us for block in timed) for side, timed in blocks.items()}
    calls = {side: _calls(mean_us, plan) for side, mean_us in typical.items()}
    warm = {side: _warm(mean_us, plan.policy) for side, mean_us in typical.items()}
    if plan.exact:
        return Sizes(calls=calls, warm=warm, rounds=1)
    walls = {side: median(block.wall_us / (block.calls + block.warm) for block in timed) for side, timed in blocks.items()}
    round_us = sum(2 * wall_us * (calls[side] + warm[side]) for side, wall_us in walls.items())
    return Sizes(calls=calls, warm=warm, rounds=max(1, min(_MOST_ROUNDS, int(plan.budget_s * 1e6 / round_us))))


def fitted(sizes: Sizes, policy: BlockPolicy, left: float, *, blocks: int = 0) -> Sizes:
    """Fewer rounds, then shorter blocks alike, where ``left`` calls must do for them, ``blocks`` that do not count and the last bound.

    A block keeps the policy's least calls and one untimed call at the least, even where that is more than ``left``.
    """
    while _needed(sizes, blocks) > left:
        smaller = _smaller(sizes, policy)
        if smaller == sizes:
            break
        sizes = smaller
    return sizes


def _needed(sizes: Sizes, blocks: int) -> int:
    """The most calls that a side makes."""
    longest = max(_most_varied(calls) + sizes.warm[side] for side, calls in sizes.calls.items())
    return (2 * sizes.rounds + blocks) * longest + 1


def _smaller(sizes: Sizes, policy: BlockPolicy) -> Sizes:
    if sizes.rounds > 1:
        return replace(sizes, rounds=sizes.rounds - 1)
    calls = {side: max(policy.min_calls, calls * 9 // 10) for side, calls in sizes.calls.items()}
    warm = {side: max(min(warm, 1), warm * 9 // 10) for side, warm in sizes.warm.items()}
    return replace(sizes, calls=calls, warm=warm)


def _calibrated(runner: Runner, policy: BlockPolicy) -> Block:
    """A block of about a third of the wanted length, from blocks that grow towards it.

    One call may have been interrupted, so that short blocks are believed only when several agree.
    """
    block = min((runner.block(policy.min_calls, 1) for _ in range(_LOOKS)), key=lambda each: each.launched_us)
    while block.launched_us * block.calls < policy.min_us / 4 and block.calls < policy.max_calls:
        wanted = math.ceil(policy.min_us / 3 / block.launched_us)
        if 3 * wanted > runner.left:
            break
        block = runner.block(min(policy.max_calls, 8 * block.calls, max(2 * block.calls, wanted)), 0)
    return block


def _calls(mean_us: float, plan: PairPlan) -> int:
    return max(plan.policy.min_calls, min(plan.policy.max_calls, math.ceil(plan.policy.min_us / mean_us)))


def _warm(mean_us: float, policy: BlockPolicy) -> int:
    """Untimed calls after a hand-over: the policy's, of quick ones more, of slow ones fewer."""
    if mean_us > _SLOW_US:
        return 0 if mean_us > _SLOWEST_US else min(policy.warm_calls, 1)
    return max(policy.warm_calls, min(policy.max_calls, math.ceil(_WARM_SHARE * policy.min_us / mean_us)))


def _varied(calls: int, rng: random.Random, plan: PairPlan) -> int:
    """A few calls more, so that a candidate cannot count which of them ends a block."""
    return calls if plan.exact else rng.randint(calls, _most_varied(calls))


def _most_varied(calls: int) -> int:
    return calls + max(1, calls // 8)
