"""Judging large outputs on the device, in a trusted process that never loads a candidate: the oracle's and the comparison's.

The judge does not start the device (nothing could be forked from it then), and float64 on the host takes seconds for 10^8 elements.
``judged`` is the judge's side; ``handle`` answers its ``judge`` command in the process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kevolve.evaluate.arena import Held, Mapped, pack, placed_outputs
from kevolve.evaluate.baselines import START_S, reference_fields
from kevolve.evaluate.client import Child, ChildFailed, Workers
from kevolve.evaluate.compare import compare
from kevolve.evaluate.oracle import ReferenceFailed, expect
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.resident import Resident
from kevolve.spec.comparators import Comparator, Quantised, Unordered
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Draw, Spec

if TYPE_CHECKING:
    from kevolve.evaluate.contents import Pool
    from kevolve.evaluate.worker import WorkerState
    from kevolve.targets import Target

_JUDGE_S = 120.0
_COMPARATORS: Mapping[str, Callable[..., Comparator]] = {"unordered": Unordered, "quantised": Quantised}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The outcome of each set of outputs for one draw; ``unreliable``: outputs that were not judged, and why."""

    outcomes: tuple[Outcome, ...]
    unreliable: Mapping[int, str]
    outputs: int  # how many the reference gives

    @property
    def reason(self) -> str | None:
        """Why outputs of this draw are excluded, or None."""
        return "; ".join(f"output {position}: {why}" for position, why in self.unreliable.items()) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedCall:
    """The inputs of a timed call, which the process makes again from the pool."""

    pool: Pool
    seed: int
    number: int


def judges(target: Target, spec: Spec, draw: Draw, inputs: Sequence[Any]) -> bool:
    """Whether the target's device judges this draw: it is large, and the spec can be told to another process."""
    least = getattr(target, "judges_from", None)
    if least is None or sum(value.numel() for value in inputs if isinstance(value, torch.Tensor)) < least:
        return False
    return can_be_told(spec, draw)


def can_be_told(spec: Spec, draw: Draw) -> bool:
    """Whether what a judgement needs of a spec and a draw is plain data."""
    return "$" not in _flat_json(draw) and all(isinstance(found, Unordered | Quantised) for found in spec.compare.values())


def _flat_json(draw: Draw) -> set[str]:
    """The keys of values that are no plain JSON."""
    values = json.loads(draw.to_json())["values"].values()
    return {key for value in values if isinstance(value, dict) for key in value}


def judged(
    workers: Workers,
    target: Target,
    spec: Spec,
    draw: Draw,
    inputs: Sequence[Any] | TimedCall,
    outputs: Held,
    *,
    stage: Stage,
) -> Judgement:
    """Compare sets of ``outputs`` with the oracle for ``inputs`` on the device. Raises ``ReferenceFailed``."""
    with workers.referees, workers.holds.shared(target):
        child = workers.kept(("referee", target.name), lambda: _opened(workers, target))
        fields = {"spec": _spec_fields(spec), "draw": draw.to_json(), "stage": stage.value, "outputs": list(outputs.metas)}
        try:
            if isinstance(inputs, TimedCall):
                pool = inputs.pool
                call = {"pool": pool.layout, "seed": inputs.seed, "number": inputs.number, "grad_outputs": pool.grad_outputs}
                reply = child.call("judge", deadline_s=_JUDGE_S, fds=[pool.fd, outputs.arena.fd], **fields, **call)
            else:
                with pack([inputs]) as arena:
                    reply = child.call("judge", deadline_s=_JUDGE_S, fds=[arena.fd, outputs.arena.fd], layout=arena.layout, **fields)
        except ChildFailed as failed:
            child.close()
            raise ReferenceFailed(f"the oracle of {spec.reference.path} on the device: {failed.message}", draw=draw) from failed
    if "failed" in reply.fields:
        raise ReferenceFailed(reply.fields["failed"], draw=draw)
    return Judgement(
        outcomes=tuple(_outcome(found) for found in reply.fields["outcomes"]),
        unreliable={int(position): why for position, why in reply.fields["unreliable"].items()},
        outputs=reply.fields["count"],
    )


def _opened(workers: Workers, target: Target) -> Child:
    child = workers.child(target=target, language=target.languages[0])
    child.call("enter", deadline_s=START_S, target=target.name, stage="judge")
    return child


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    return Outcome(status=Status(fields["status"]), stage=Stage(fields["stage"]), message=fields["message"], detail=fields["detail"])


def _spec_fields(spec: Spec) -> dict[str, Any]:
    """What a judgement needs of a spec, as JSON."""
    compare_by = {str(at): [type(found).__name__.lower(), _own(found)] for at, found in spec.compare.items()}
    return {
        "name": spec.name,
        "reference": reference_fields(spec.reference),
        "grad": list(spec.grad),
        "mutates": list(spec.mutates),
        "tolerance": spec.tolerance,
        "compare": compare_by,
    }


def _own(comparator: Any) -> dict[str, int]:
    return {"dim": comparator.dim} if isinstance(comparator, Unordered) else {"steps": comparator.steps}


# --- in the process ---


def handle(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Answer ``judge``: inputs from an arena (``layout``) or a pool, several sets of outputs from another arena."""
    spec, draw = _spec(arguments["spec"]), Draw.from_json(arguments["draw"], origin="case")
    place = state.target.place
    inputs = _inputs(arguments, fds[0], place)
    try:
        expected = expect(spec, draw, inputs)
    except ReferenceFailed as failed:
        return {"failed": str(failed)}
    outcomes = []
    for meta in arguments["outputs"]:
        (outputs,) = placed_outputs(fds[1], [meta], place)
        outcomes.append(compare(spec, expected, outputs, inputs, draw=draw, stage=Stage(arguments["stage"])))
    return {
        "outcomes": [{"status": o.status.value, "stage": o.stage.value, "message": o.message, "detail": dict(o.detail)} for o in outcomes],
        "unreliable": {str(at): output.unreliable for at, output in enumerate(expected.outputs) if output.unreliable},
        "count": len(expected.outputs),
    }


def _inputs(arguments: Mapping[str, Any], fd: int, place: Any) -> tuple[Any, ...]:
    if "pool" in arguments:
        made = Resident(fd, arguments["pool"], arguments["seed"], place=place).inputs(arguments["number"])
        return made[: len(made) - arguments["grad_outputs"]]
    found = Mapped(fd, arguments["layout"]).take(0)
    return tuple(place(value) if isinstance(value, torch.Tensor) else value for value in found)


def _spec(fields: Mapping[str, Any]) -> Spec:
    """A spec that says what a judgement asks."""
    given = dict(fields["reference"])
    given |= {"file": Path(given["file"]), "inputs": tuple(given["inputs"])}
    given["init"] = tuple(given["init"]) if given.get("init") is not None else None
    return Spec(
        name=fields["name"],
        nodeid=fields["name"],
        folder=Path(),
        describe=lambda **_: (),
        reference=Reference(**given),
        cases=(),
        vary={},
        choices={},
        hash="",
        grad=tuple(fields["grad"]),
        mutates=tuple(fields["mutates"]),
        tolerance=fields["tolerance"],
        compare={int(at): _COMPARATORS[kind](**own) for at, (kind, own) in fields["compare"].items()},
    )
