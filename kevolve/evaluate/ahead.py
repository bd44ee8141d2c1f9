"""Compile a candidate's specialisations before a device is held, in a confined child of its own; and what they need of the device."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from kevolve import registry
from kevolve.evaluate.arena import contiguous_strides, name_of
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import ChildFailed, Reply, Workers
from kevolve.evaluate.contents import Pool
from kevolve.evaluate.materialise import elements, materialise
from kevolve.evaluate.oracle import ReferenceFailed, blame
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan
from kevolve.languages import BuildError, CompilesAhead
from kevolve.spec.inputs import Tensor
from kevolve.spec.spec import Case, Draw, Spec

if TYPE_CHECKING:
    from kevolve.targets import Target

_PATIENCE = 4.0  # times the deadline in all, as long as it gets on: hundreds of specialisations, and nobody waits for the device
_BUDGET = 0.6  # of that: then compiling stops, and what is left is compiled at its first launch
_MOST_PROBLEMS = 3
_MOST_JOBS = 8  # each starts a compiler, which starts programs of its own: a child may have no more than Limits.processes
_LARGE = 1 << 22  # elements of a draw that is not made only to see its strides
Layout = list[Any]  # of one call: [dtype, shape, strides, offset] a tensor, {"value": …} for what is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a candidate will be launched on: distinct layouts, those of cases to be timed first, and how many of these there are."""

    layouts: tuple[Layout, ...]
    timed: int


def shapes(spec: Spec, cases: Iterable[Case], plan: Plan | None, *, seed: int = 0, pools: Callable[[Case], Pool] | None = None) -> Shapes:
    """The shapes of ``cases`` and of the draws of ``plan``; inputs that cannot be made are left out: the check says so.

    ``pools``: the contents that the cases will be timed on. What a function makes may take seconds to make, and is there already.
    """

    def made(draw: Draw, case: Case) -> tuple[Any, ...]:
        return materialise(spec, draw) if pools is None else pools(case).first()

    cased = [(Draw(values=case.values, seed=seed), case) for case in cases]
    timed = _distinct(_shape(spec, draw, partial(made, draw, case)) for draw, case in cased)
    numbers = range(len(plan.draws)) if plan is not None else ()
    drawn = _distinct(_shape(spec, plan.draws[number], partial(plan.inputs, number)) for number in numbers if plan is not None)
    return Shapes(layouts=(*timed.values(), *(layout for text, layout in drawn.items() if text not in timed)), timed=len(timed))


def _distinct(layouts: Iterable[Layout | None]) -> dict[str, Layout]:
    return {json.dumps(layout): layout for layout in layouts if layout is not None}


def _shape(spec: Spec, draw: Draw, make: Callable[[], tuple[Any, ...]]) -> Layout | None:
    """From the description where it says the shapes; else from the inputs, unless they are large."""
    described = spec.describe(**draw.values)
    if not callable(described) and all(_is_plain(item, draw) for item in described):
        return [_described(item) for item in described]
    if draw.distribution is not None and elements(spec, draw.values) > _LARGE:
        return None
    try:
        with blame(spec, draw, "the description of inputs for"):
            return _layout(make())
    except ReferenceFailed:
        return None


def _layout(inputs: Sequence[Any]) -> Layout:
    return [
        [name_of(value.dtype), list(value.shape), list(value.stride()), value.storage_offset()]
        if isinstance(value, torch.Tensor)
        else {"value": value}
        for value in inputs
    ]


def _is_plain(item: Any, draw: Draw) -> bool:
    if isinstance(item, Tensor):
        return (item.layout or draw.layout or "contiguous") == "contiguous"
    return item is None or isinstance(item, int | float)


def _described(item: Any) -> Any:
    if not isinstance(item, Tensor):
        return {"value": item}
    return [item.dtype, list(item.shape), contiguous_strides(item.shape), 0]


def architecture(target: Target) -> str | None:
    """The architecture of the target's device, where there is one and kernels can be compiled for it without holding it."""
    if not getattr(target, "compiles_for", ()) or target.missing() is not None:
        return None
    return target.device().get("arch")


def compile_ahead(
    workers: Workers, spec: Spec, candidate: Candidate, wanted: Shapes, *, target: Target, arch: str | None, deadline_s: float, jobs: int
) -> Candidate | Outcome:
    """The candidate with its ``resources`` and, in ``ahead``, what was compiled; or COMPILE_ERROR, TIMEOUT or a child's crash.

    A candidate comes back as it is where its language has nothing to compile ahead, or ``arch`` is unknown. Results are kept by source,
    shapes and toolchain, beside the candidate's own artifact.
    """
    language = registry.load("languages", candidate.language) if candidate.artifact is not None else None
    if arch is None or candidate.artifact is None or not isinstance(language, CompilesAhead):
        return candidate
    if not wanted.layouts:
        return candidate
    key = _key(spec, wanted, language)
    kept = language.kept(candidate.artifact, key, arch)
    if kept is not None:
        return replace(candidate, resources=kept, ahead="compiled before")
    arguments = {
        "items": wanted.layouts,
        "timed": wanted.timed,
        "arch": arch,
        "jobs": min(jobs, _MOST_JOBS),
        "budget_s": _BUDGET * _PATIENCE * deadline_s,
    }
    try:
        reply, archive = _compiled(workers, spec, candidate, target, arguments, deadline_s)
        problems = _checked(reply)
        if problems:
            return Outcome(status=Status.COMPILE_ERROR, stage=Stage.COMPILE, message=_message(problems, arch))
        needed = language.keep(candidate.artifact, key, arch, archive)
    except ChildFailed as error:
        log = f"\n--- its output ends with\n{error.log.rstrip()}" if error.log.strip() else ""
        return Outcome(status=error.status, stage=Stage.COMPILE, message=f"compiling ahead for {arch}: {error.message}{log}")
    except BuildError as error:
        return Outcome(status=Status.RUNTIME_ERROR, stage=Stage.COMPILE, message=str(error))
    return replace(candidate, resources=needed, ahead=_said(reply.fields))


def _key(spec: Spec, wanted: Shapes, language: Any) -> str:
    """Of what decides what is compiled besides the source and the architecture."""
    parts = [wanted.layouts, wanted.timed, list(spec.grad), list(spec.constant), sorted(language.versions().items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _compiled(
    workers: Workers, spec: Spec, candidate: Candidate, target: Target, arguments: Mapping[str, Any], deadline_s: float
) -> tuple[Reply, bytes]:
    positions = [spec.reference.inputs.index(name) for name in spec.constant]
    grad = {"grad": [spec.reference.inputs.index(name) for name in spec.grad], "grad_outputs": 0}
    loaded = {"language": candidate.language, "artifact": str(candidate.artifact), "entry": candidate.entry, "constant": positions}
    fd = os.memfd_create("kevolve-ahead", os.MFD_CLOEXEC)
    try:
        with workers.child(target=target, language=candidate.language) as child:
            limits = (deadline_s, _PATIENCE * deadline_s)
            reply = child.call("ahead", deadline_s=limits, fds=(fd,), **loaded, **grad, **arguments)
        return reply, os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _checked(reply: Reply) -> list[str]:
    """The compiler's complaints; every field is the child's word."""
    problems = reply.fields.get("problems")
    if not isinstance(problems, list) or not all(isinstance(problem, str) for problem in problems):
        raise BuildError(f"a forged answer: expected the compiler's problems, got {problems!r:.200}")
    return problems


def _message(problems: Sequence[str], arch: str) -> str:
    distinct = list(dict.fromkeys(problems))
    more = f"\nand {len(distinct) - _MOST_PROBLEMS} more" if len(distinct) > _MOST_PROBLEMS else ""
    return f"does not compile for {arch}: " + "\n".join(distinct[:_MOST_PROBLEMS]) + more


def _said(fields: Mapping[str, Any]) -> str:
    """``17 kernels compiled ahead``, and what was left to the first launch and why."""
    count = _number(fields.get("count"))
    said = f"{count} kernel{'' if count == 1 else 's'} compiled ahead"
    if _number(fields.get("skipped")):
        said += f", {_number(fields['skipped'])} left to their first launch"
    stopped = fields.get("stopped")
    return f"{said}; what else it launches is compiled then: {stopped:.400}" if isinstance(stopped, str) and stopped else said


def _number(value: Any) -> int:
    return value if type(value) is int else 0
