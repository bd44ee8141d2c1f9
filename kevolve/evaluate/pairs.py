"""One process pair: a fresh process a side, taking turns in palindromic rounds of blocks. The judge's side of ``timed``."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from kevolve.evaluate.arena import BadMeta, Outputs, read_outputs
from kevolve.evaluate.baselines import CANDIDATE, Opener
from kevolve.evaluate.client import Child, ChildFailed
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.statistics import block_mean
from kevolve.targets import BlockPolicy

_SLOW_US = 10_000.0  # a call beyond this gets one untimed call after a hand-over,
_SLOWEST_US = 100_000.0  # beyond this none: the pair's first block was untimed already
_WARM_SHARE = 0.1  # of a block's length that quick calls are warmed for: three calls of 10 us end before a cold core is warm
_MOST_ROUNDS = 5
_LOOKS = 3
_INPUTS_S = 60.0


class Hack(Exception):
    """What the candidate claims cannot be true."""


class SideFailed(Exception):
    """One side's process failed."""

    def __init__(self, side: str, error: ChildFailed) -> None:
        super().__init__(f"{side}: {error.message}")
        self.side = side
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Mean times of a block, microseconds a call. ``wall_us`` is the whole block by the judge's clock, untimed work included."""

    launched_us: float
    replayed_us: float | None
    calls: int
    warm: int
    wall_us: float

    def fastest_us(self) -> float:
        """The quicker of the two forms."""
        return self.launched_us if self.replayed_us is None else min(self.launched_us, self.replayed_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one timed call of the candidate returned: outputs copied out, and what its inputs follow from."""

    number: int
    seed: int
    outputs: tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A finished pair: two blocks a round by side, the answer to verify, and the judge's own time of one candidate call."""

    blocks: Mapping[str, tuple[Block, ...]]
    answer: Answer | None
    host_us: float | None
    repeated: bool = False  # whether a process met contents twice: a bank of few sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Calls of a block by side, untimed calls before it, and rounds a pair."""

    calls: Mapping[str, int]
    warm: Mapping[str, int]
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """How a pair is run.

    ``budget_s``: what its timed rounds should take. ``exact``: a model's clock: one round, no host clock. ``answers``: whether outputs
    of a timed call are wanted.
    """

    policy: BlockPolicy
    pool: Pool
    mutates: Sequence[int]
    budget_s: float
    deadline_s: float
    exact: bool
    clock: Callable[[], float]
    answers: bool = True


class Runner:
    """One side's process."""

    def __init__(self, side: str, child: Child, plan: PairPlan, seed: int) -> None:
        self.side = side
        self.seed = seed
        self._child = child
        self._plan = plan
        pool, mutates = plan.pool, list(plan.mutates)
        fields = self._call("time_inputs", [pool.fd], deadline_s=_INPUTS_S, layout=pool.layout, seed=seed, mutates=mutates)
        self._number = fields["calls"] if fields.get("calls") in range(1000) else 0  # what it made to settle

    def _call(self, command: str, fds: Sequence[int] = (), *, deadline_s: float | None = None, **arguments: Any) -> Mapping[str, Any]:
        try:
            return self._child.call(command, deadline_s=deadline_s or self._plan.deadline_s, fds=fds, **arguments).fields
        except ChildFailed as error:
            raise SideFailed(self.side, error) from error

    @property
    def left(self) -> float:
        """How many calls more get contents that this process has not seen; negative after it has seen some twice."""
        return math.inf if self._plan.pool.sets is None else self._plan.pool.sets - self._number

    def block(self, calls: int, warm: int) -> Block:
        """``warm`` untimed calls, then ``calls`` timed ones. Raises ``Hack`` for times that cannot be."""
        start = self._plan.clock()
        fields = self._call("time_block", count=calls, warm=warm)
        wall_us = (self._plan.clock() - start) * 1e6
        self._number += warm + calls
        replayed = fields.get("replayed_us")
        return Block(
            launched_us=self._mean(fields.get("launched_us"), calls, wall_us),
            replayed_us=None if replayed is None else self._mean(replayed, calls, wall_us),
            calls=calls,
            warm=warm,
            wall_us=wall_us,
        )

    def _mean(self, claimed: Any, calls: int, wall_us: float) -> float:
        if not isinstance(claimed, list) or not all(type(value) in (int, float) and 0 < value < math.inf for value in claimed):
            raise Hack(f"{self.side}: expected positive times, got {claimed!r:.200}")
        if not claimed or (len(claimed) != calls and not self._plan.exact):
            raise Hack(f"{self.side}: expected {calls} times, got {len(claimed)}")
        if sum(claimed) > wall_us and not self._plan.exact:
            raise Hack(f"{self.side}: claims {sum(claimed):.1f} us for a block that took {wall_us:.1f} us by the judge's clock")
        return block_mean(claimed)

    def host_us(self, calls: int) -> float:
        """Microseconds a call by the judge's clock, for calls one after another."""
        start = self._plan.clock()
        self._call("time_bound", count=calls)
        self._number += 1
        return (self._plan.clock() - start) * 1e6 / calls

    def answer(self, back: int) -> Answer:
        """The outputs of the call that was ``back`` before the last of the block just timed, or of the earliest that is kept."""
        with Outputs() as arena:
            fields = self._call("time_outputs", [arena.fd], back=back)
            number = self._number - 1 - (fields["back"] if fields.get("back") in range(back + 1) else 0)
            try:
                (outputs,) = read_outputs(arena, fields["outputs"])
            except (BadMeta, KeyError, ValueError) as error:
                raise Hack(f"{self.side}: outputs of a timed call: {error}") from error
        return Answer(number=number, seed=self.seed, outputs=tuple(outputs))


def run_pair(openers: Mapping[str, Opener], plan: PairPlan, sizes: Sizes | None, rng: random.Random) -> tuple[Pair, Sizes]:
    """Start every side, let them take turns, end them. ``sizes`` None: measure them. Returns the pair, and sizes for the next one.

    Raises ``SideFailed`` when a side's process does, ``Hack`` for claims that cannot be true.
    """
    with ExitStack() as stack:
        runners = _started(openers, plan, rng, stack)
        sizes = _settled(runners, plan, sizes)
        blocks: dict[str, list[Block]] = {side: [] for side in runners}
        answer = None
        asked = rng.randrange(sizes.rounds) if plan.answers else None
        for number in range(sizes.rounds):
            order = rng.sample(list(runners), len(runners))
            for place, side in enumerate([*order, *reversed(order)]):
                blocks[side].append(runners[side].block(_varied(sizes.calls[side], rng, plan), sizes.warm[side]))
                if number == asked and place < len(order):  # of every side, so that none is put at a disadvantage
                    given = runners[side].answer(rng.randrange(8))
                    answer = given if side == CANDIDATE else answer
        host_us = None if plan.exact else runners[CANDIDATE].host_us(sizes.calls[CANDIDATE])
        repeated = min(runner.left for runner in runners.values()) < 0
    pair = Pair(blocks={side: tuple(made) for side, made in blocks.items()}, answer=answer, host_us=host_us, repeated=repeated)
    return pair, sizes_for(blocks, plan)


def _started(openers: Mapping[str, Opener], plan: PairPlan, rng: random.Random, stack: ExitStack) -> dict[str, Runner]:
    """The sides' processes, started in random order: who comes first gets other memory."""
    runners = {}
    for side in rng.sample(list(openers), len(openers)):
        try:
            child = stack.enter_context(openers[side]())
        except ChildFailed as error:
            raise SideFailed(side, error) from error
        runners[side] = Runner(side, child, plan, rng.randrange(1 << 62))
    return runners


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
