"""Figures of the binaries: a source compiled ahead of time for one architecture, on the inputs of the spec's cases."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kevolve.evaluate.ahead import Layout, shapes
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import ChildFailed, Reply, Workers
from kevolve.gate.figures import Launch, Side
from kevolve.languages import BuildError, Inspected
from kevolve.spec.spec import Spec

if TYPE_CHECKING:
    from kevolve.targets import Target

MOST_CASES = 12
_BUDGET = 0.8  # of the deadline, then nothing more is begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A case's name, and the layout of its inputs."""

    case: str
    layout: Layout


def laid_out(spec: Spec, target_name: str) -> tuple[Laid, ...]:
    """The cases of the target with layouts of their own, the first ``MOST_CASES``."""
    found: dict[str, Laid] = {}
    for case in spec.cases:
        if case.targets is None or target_name in case.targets:
            for layout in shapes(spec, [case], None).layouts:
                found.setdefault(json.dumps(layout), Laid(case=case.id, layout=layout))
    return tuple(found.values())[:MOST_CASES]


def compiled(
    workers: Workers,
    spec: Spec,
    candidate: Candidate,
    cases: Sequence[Laid],
    *,
    language: Inspected,
    target: Target,
    arch: str,
    deadline_s: float,
) -> Side:
    """What the candidate launches for each case, compiled for ``arch`` in a confined child that holds no device."""
    constant = [spec.reference.inputs.index(name) for name in spec.constant]
    arguments: dict[str, Any] = {
        "language": candidate.language,
        "artifact": str(candidate.artifact),
        "entry": candidate.entry,
        "constant": constant,
        "grad": [spec.reference.inputs.index(name) for name in spec.grad],
        "grad_outputs": 0,
        "items": [case.layout for case in cases],
        "timed": len(cases),
        "arch": arch,
        "jobs": 1,
        "budget_s": _BUDGET * deadline_s,
    }
    fd = os.memfd_create("kevolve-gate", os.MFD_CLOEXEC)
    try:
        with workers.child(target=target, language=candidate.language) as child:
            reply = child.call("ahead", deadline_s=deadline_s, fds=(fd,), **arguments)
        figures = language.inspected(os.pread(fd, os.fstat(fd).st_size, 0), arch)
    except ChildFailed as error:
        return Side(problem=error.message)
    except BuildError as error:
        return Side(problem=str(error))
    finally:
        os.close(fd)
    return _side(reply, figures, cases)


def _side(reply: Reply, figures: Mapping[str, Mapping[str, float]], cases: Sequence[Laid]) -> Side:
    """Every field is the child's word."""
    problems, stopped = reply.fields.get("problems"), reply.fields.get("stopped")
    if problems:
        return Side(problem=str(problems[0] if isinstance(problems, list) else problems))
    launches: dict[str, list[Launch]] = {}
    for entry in reply.fields.get("launches") or ():
        match entry:
            case [int(item), str(name), str(folder)] if 0 <= item < len(cases) and folder in figures:
                launches.setdefault(cases[item].case, []).append(Launch(kernel=name, figures=figures[folder]))
    if not launches:
        return Side(problem=f"no kernel was compiled: {stopped or 'the entry launched none'}")
    return Side(launches={case: tuple(found) for case, found in launches.items()})
