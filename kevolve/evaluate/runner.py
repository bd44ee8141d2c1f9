"""One side of a pair: what the judge asks of its process, and what of its answers can be true. The judge's side of ``timed``."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kevolve.evaluate.arena import BadMeta, Held, Outputs, described_outputs, read_outputs
from kevolve.evaluate.client import Child, ChildFailed
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.outcome import Status
from kevolve.evaluate.processor import least_between_us, look
from kevolve.evaluate.resident import REPLAYED_FROM, batch_size, captured_numbers, replayed_numbers, set_count
from kevolve.evaluate.statistics import block_mean
from kevolve.targets import BlockPolicy

_INPUTS_S = 60.0
_FEWEST_REPLAYS = 3
_DELIVERED_BYTES = 4 << 20  # of calls whose outputs are all handed over
_MOST_DELIVERED, _MOST_DELIVERED_SETS = 32, 4  # calls; where contents come from a bank of few sets


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

    def in_form(self, *, replayed: bool) -> float:
        """Replayed where that is wanted and there is such a time, else launched."""
        return self.replayed_us if replayed and self.replayed_us is not None else self.launched_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The judge's own time of one call, microseconds; how much of it the process had no core, and how much all its threads used cores.

    None where the system does not say.
    """

    host_us: float
    waited_us: float | None
    used_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one timed call of the candidate returned: outputs copied out, and what its inputs follow from.

    ``held``: where the outputs lie that a process on the device will read; ``outputs`` then have shapes and no memory.
    """

    number: int
    seed: int
    outputs: tuple[torch.Tensor, ...]
    held: Held | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Calls whose outputs were all handed over: what one took of the processor, inputs made and outputs copied too, and one to verify.

    ``least_us``: by the system's count, microseconds a call; None where it does not count.
    """

    least_us: float | None
    answer: Answer


def delivered_count(output_bytes: int, sets: int | None) -> int:
    """How many calls are asked to hand their outputs over: a few megabytes' worth."""
    most = _MOST_DELIVERED if sets is None else _MOST_DELIVERED_SETS
    return max(1, min(most, _DELIVERED_BYTES // max(output_bytes, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """How a pair is run.

    ``budget_s``: what its timed rounds should take. ``exact``: a model's clock: one round, no host clock. ``answers``: whether outputs
    of a timed call are wanted. ``captures``: calls are captured and replayed too, where the target can. ``kept``: whether processes
    besides the candidate's may outlive the pair, so that others wait for them.
    """

    policy: BlockPolicy
    pool: Pool
    mutates: Sequence[int]
    budget_s: float
    deadline_s: float
    exact: bool
    clock: Callable[[], float]
    answers: bool = True
    captures: bool = True
    kept: bool = True
    judged_from: int | None = None  # elements of outputs from which a process on the device judges them


class Runner:
    """One side's process."""

    def __init__(self, side: str, child: Child, plan: PairPlan, seed: int) -> None:
        self.side = side
        self.seed = seed
        self.captured = False
        self.child = child
        self._plan = plan
        self._replay_number = REPLAYED_FROM
        self._last_replay: Sequence[int] = ()
        pool, mutates = plan.pool, list(plan.mutates)
        self._number = 0
        self._count(self._call("time_inputs", [pool.fd], deadline_s=_INPUTS_S, layout=pool.layout, seed=seed, mutates=mutates))

    def _count(self, fields: Mapping[str, Any]) -> None:
        self._number = fields["calls"] if fields.get("calls") in range(1000) else 0  # what it made to settle

    def again(self, seed: int) -> None:
        """Other buffers and contents in the same process, captured anew. Raises ``SideFailed``."""
        self.seed, self._replay_number = seed, REPLAYED_FROM
        self._count(self._call("time_again", deadline_s=_INPUTS_S, seed=seed))
        refused = self.capture() if self.captured else None
        if refused is not None:
            raise SideFailed(self.side, ChildFailed(Status.RUNTIME_ERROR, f"captured once, and then: {refused}"))

    def capture(self) -> str | None:
        """Have a call on every input set captured; why that is not possible (the process is of no further use then), or None."""
        refused = self._call("time_graph", deadline_s=_INPUTS_S).get("refused")
        if refused is not None:
            return f"{refused!s:.300}"
        self.captured = True
        self._replay_number = captured_numbers(self._plan.pool.layout, self.seed, REPLAYED_FROM, self._sets)[-1] + 1
        return None

    @property
    def _sets(self) -> int:
        return set_count(self._plan.pool.layout, self._plan.policy.sets, self._plan.policy.sets_bytes)

    @property
    def _batch(self) -> int:
        return batch_size(self._plan.pool.layout, self._sets)

    def _call(self, command: str, fds: Sequence[int] = (), *, deadline_s: float | None = None, **arguments: Any) -> Mapping[str, Any]:
        try:
            return self.child.call(command, deadline_s=deadline_s or self._plan.deadline_s, fds=fds, **arguments).fields
        except ChildFailed as error:
            raise SideFailed(self.side, error) from error

    @property
    def left(self) -> float:
        """How many calls more get contents that this process has not seen; negative after it has seen some twice."""
        sets = self._plan.pool.sets
        return math.inf if sets is None else sets // self._plan.policy.pairs_a_process - self._number

    def block(self, calls: int, warm: int) -> Block:
        """``warm`` untimed calls, then ``calls`` timed ones, then replays. Raises ``Hack`` for times that cannot be."""
        start = self._plan.clock()
        fields = self._call("time_block", count=calls, warm=warm)
        wall_us = (self._plan.clock() - start) * 1e6
        self._number += warm + calls
        replayed = fields.get("replayed_us")
        launched_us = self._mean(fields.get("launched_us"), calls, wall_us)
        replayed_us = None if replayed is None else self._mean(replayed, calls, wall_us)
        if self.captured:
            replayed_us = self._replay(max(_FEWEST_REPLAYS, -(-calls // 2)))
        total_us = (self._plan.clock() - start) * 1e6
        return Block(launched_us=launched_us, replayed_us=replayed_us, calls=calls, warm=warm, wall_us=total_us)

    def _replay(self, count: int) -> float:
        """Microseconds a captured call, the mean of ``count`` replays."""
        numbers = replayed_numbers(self._plan.pool.layout, self.seed, self._replay_number, count=count, sets=self._sets, batch=self._batch)
        start = self._plan.clock()
        fields = self._call("time_replay", count=count)
        wall_us = (self._plan.clock() - start) * 1e6
        self._last_replay = numbers[-1]
        self._replay_number = numbers[-1][-1] + 1
        return self._mean(fields.get("replayed_us"), count, wall_us)

    def _mean(self, claimed: Any, calls: int, wall_us: float) -> float:
        if not isinstance(claimed, list) or not all(type(value) in (int, float) and 0 < value < math.inf for value in claimed):
            raise Hack(f"{self.side}: expected positive times, got {claimed!r:.200}")
        if not claimed or (len(claimed) != calls and not self._plan.exact):
            raise Hack(f"{self.side}: expected {calls} times, got {len(claimed)}")
        if sum(claimed) > wall_us and not self._plan.exact:
            raise Hack(f"{self.side}: claims {sum(claimed):.1f} us for a block that took {wall_us:.1f} us by the judge's clock")
        return block_mean(claimed, trim=self._plan.policy.trim)

    def bound(self, calls: int) -> Bound:
        """A call by the judge's clock, for calls one after another."""
        self._number += 1
        self._call("time_next")
        return self._bound(calls, count=calls)

    def delivered(self, count: int, room: int, pick: random.Random) -> Delivered:
        """``count`` calls, the outputs of all handed over, one of them to verify. ``room``: bytes that they take.

        What a process says of its own clock, or of calls whose outputs nobody asks for, has no part in it. Raises ``Hack``.
        """
        with Outputs(bytes=max(room, _DELIVERED_BYTES)) as arena:
            fields, passed_us = self._deliver(arena, count)
            place = pick.randrange(count)
            outputs = self._handed_over(arena, fields.get("outputs"), count, place)
        answer = Answer(number=self._number - count + place, seed=self.seed, outputs=tuple(outputs))
        return Delivered(least_us=passed_us, answer=answer)

    def idle_us(self, count: int, room: int) -> float | None:
        """What making the contents of a call and handing outputs over takes, without the call. Asked of a trusted process."""
        with Outputs(bytes=max(room, _DELIVERED_BYTES)) as arena:
            _, passed_us = self._deliver(arena, count, idle=True)
        return passed_us

    def _deliver(self, arena: Outputs, count: int, *, idle: bool = False) -> tuple[Mapping[str, Any], float | None]:
        """What the process answers, and the least microseconds a call that it took by the system's count."""
        self._call("time_arena", [arena.fd])
        self._number += 1
        before = look(self.child.pid, self._plan.clock)
        fields = self._call("time_delivered", [arena.fd], count=count, idle=idle)  # where they need more than their room after all
        passed_us = least_between_us(before, look(self.child.pid, self._plan.clock))
        self._number += count
        return fields, None if passed_us is None else passed_us / count

    def _handed_over(self, arena: Outputs, metas: Any, count: int, place: int) -> list[torch.Tensor]:
        if not isinstance(metas, list) or len(metas) != count:
            raise Hack(f"{self.side}: expected the outputs of {count} calls, got {metas!r:.80}")
        try:
            return read_outputs(arena, metas)[place]
        except (BadMeta, ValueError) as error:
            raise Hack(f"{self.side}: outputs handed over: {error}") from error

    def replayed_bound(self, count: int) -> Bound | None:
        """A captured call by the judge's clock, for replays one after another; None where nothing is captured."""
        if not self.captured:
            return None
        count = 4 * count  # of short calls enough that asking for them counts little
        return self._bound(count * self._batch, count=count, form="replayed")

    def _bound(self, calls: int, **arguments: Any) -> Bound:
        before, start = look(self.child.pid, self._plan.clock), self._plan.clock()
        self._call("time_bound", **arguments)
        host_us = (self._plan.clock() - start) * 1e6 / calls
        after = look(self.child.pid, self._plan.clock)
        if before is None or after is None:
            return Bound(host_us=host_us, waited_us=None, used_us=None)
        return Bound(host_us=host_us, waited_us=(after.waited - before.waited) / calls, used_us=(after.used - before.used) / calls)

    def answer(self, back: int, *, replayed: bool = False) -> Answer:
        """The outputs of the call that was ``back`` before the last of the block just timed, or of the earliest that is kept.

        ``replayed``: of the last replay, where calls were captured.
        """
        form = "replayed" if replayed and self.captured else "launched"
        back = min(back, len(self._last_replay) - 1) if form == "replayed" else back
        arena = Outputs()
        fields = self._call("time_outputs", [arena.fd], back=back, form=form)
        number = self._number - 1 - (fields["back"] if fields.get("back") in range(back + 1) else 0)
        if form == "replayed":
            number = self._last_replay[-1 - back]
        try:
            metas = [fields["outputs"][0]]
            (outputs,) = described_outputs(arena, metas)
            held = Held(arena=arena, metas=metas) if self._is_judged_on_device(outputs) else None
            if held is None:
                (outputs,) = read_outputs(arena, metas)
        except (BadMeta, IndexError, KeyError, TypeError, ValueError) as error:
            raise Hack(f"{self.side}: outputs of a timed call: {error}") from error
        return Answer(number=number, seed=self.seed, outputs=tuple(outputs), held=held)

    def _is_judged_on_device(self, outputs: Sequence[torch.Tensor]) -> bool:
        least = self._plan.judged_from
        return least is not None and sum(output.numel() for output in outputs) >= least
