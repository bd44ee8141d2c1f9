"""Figures of the interpreter: what a source does on small inputs that follow from the spec's cases, counted call by call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kevolve.evaluate.arena import pack
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import ChildFailed, Workers
from kevolve.evaluate.materialise import elements, grad_outputs, materialise
from kevolve.evaluate.oracle import ReferenceFailed, blame, forward
from kevolve.evaluate.plan import make_plan
from kevolve.evaluate.threads import one_thread
from kevolve.gate.figures import Launch, Side
from kevolve.spec.domain import Sizes
from kevolve.spec.figures import COUNTED
from kevolve.spec.spec import Case, Draw, Spec

if TYPE_CHECKING:
    from kevolve.targets import Target

MOST_CASES = 3  # each whole, and once more with ragged sizes
_SEED = 0
_FEW = 8  # an axis shrinks to this before the next one does
_ROOM = 2  # times the cap: a case of 32 rows of 1024 with a weight shall stay what it is
_FITS = 8  # times the cap that an interpreter still does in a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """Inputs to count on: the draw's name for people, and what the entry is called with. ``grads``: how many are gradients of outputs."""

    name: str
    inputs: tuple[Any, ...]
    grads: int


def small(spec: Spec, target_name: str, cap: int) -> tuple[Small, ...]:
    """The target's cases with sizes halved, the first of ``vary`` first, until they hold at most ``cap`` elements; then with odd sizes.

    Where no case shrinks so far, the largest of the property plan's draws. The same every time.
    """
    cases = [case for case in spec.cases if case.targets is None or target_name in case.targets]
    draws = dict(draw for case in cases for draw in _shrunk(spec, case, cap))
    with one_thread():
        return tuple(made for draw in list(draws.items())[: 2 * MOST_CASES] or _planned(spec, cap) for made in _made(spec, *draw))


def _shrunk(spec: Spec, case: Case, cap: int) -> Iterator[tuple[str, Draw]]:
    values = dict(case.values)
    axes = {name: domain for name, domain in spec.vary.items() if isinstance(domain, Sizes) and type(values.get(name)) is int}
    for fewest in (_FEW, 1):
        for name, domain in axes.items():
            while elements(spec, values) > _ROOM * cap and values[name] > max(fewest, domain.low):
                values[name] = max(fewest, domain.low, values[name] // 2)
    if elements(spec, values) > _FITS * cap:
        return
    yield _named(values), Draw(values=values, seed=_SEED)
    ragged = values | {name: min(max(values[name] * 5 // 8 | 1, domain.low), domain.high) for name, domain in axes.items()}
    yield _named(ragged), Draw(values=ragged, seed=_SEED)


def _planned(spec: Spec, cap: int) -> list[tuple[str, Draw]]:
    draws = make_plan(spec, seed=_SEED, cap=cap, huge=False).draws
    plain = [draw for draw in draws if draw.layout in (None, "contiguous") and draw.distribution in (None, "normal")]
    largest = sorted(plain or draws, key=lambda draw: -elements(spec, draw.values))[:MOST_CASES]
    return [(_named(draw.values), draw) for draw in largest]


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _made(spec: Spec, name: str, draw: Draw) -> Iterator[Small]:
    """The inputs; none where the description or the reference refuses these sizes."""
    try:
        with blame(spec, draw, "the description of inputs for"):
            inputs = materialise(spec, draw)
        grads = grad_outputs(spec, draw, forward(spec, draw, inputs)) if spec.grad else ()
    except ReferenceFailed:
        return
    yield Small(name=name, inputs=(*inputs, *grads), grads=len(grads))


def counted(workers: Workers, spec: Spec, candidate: Candidate, items: Sequence[Small], *, target: Target, deadline_s: float) -> Side:
    """What each of ``items`` takes, counted in a confined child of ``target``, which interprets the candidate's language."""
    try:
        with workers.child(target=target, language=candidate.language) as child:
            child.call("enter", deadline_s=deadline_s, target=target.name, stage="check")
            grad: dict[str, Any] = {"grad": _positions(spec, spec.grad), "grad_outputs": items[0].grads}
            artifact: dict[str, Any] = {"language": candidate.language, "artifact": str(candidate.artifact), "entry": candidate.entry}
            loaded = child.call("load_candidate", deadline_s=deadline_s, **artifact, **grad)
            if loaded.fields.get("prepare") is True and spec.constant:
                child.call("prepare", deadline_s=deadline_s, positions=_positions(spec, spec.constant))
            with pack([item.inputs for item in items]) as arena:
                arguments = {"layout": arena.layout, "language": candidate.language, "mutates": _positions(spec, spec.mutates)}
                reply = child.call("count", deadline_s=deadline_s, fds=(arena.fd,), **arguments)
    except ChildFailed as error:
        return Side(problem=error.message)
    return _side(spec, items, reply.fields.get("counts"))


def _positions(spec: Spec, names: Sequence[str]) -> list[int]:
    return [spec.reference.inputs.index(name) for name in names]


def _side(spec: Spec, items: Sequence[Small], counts: Any) -> Side:
    """The child's word: whole numbers by name, for every item."""
    if not isinstance(counts, list) or len(counts) != len(items):
        return Side(problem=f"a forged answer: expected figures of {len(items)} calls, got {counts!r:.200}")
    launches: dict[str, tuple[Launch, ...]] = {}
    for item, figures in zip(items, counts, strict=True):
        if not isinstance(figures, dict) or not all(type(figures.get(name)) is int for name in COUNTED):
            return Side(problem=f"a forged answer: expected {', '.join(COUNTED)}, got {figures!r:.200}")
        launches[item.name] = (Launch(kernel=spec.name, figures={name: figures[name] for name in COUNTED}),)
    return Side(launches=launches)
