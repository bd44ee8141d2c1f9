"""A printed kernel against the oracle on a few dozen draws, in a process of its own: quick enough to run while printers are written."""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.lowering.drafts import timed_draft
from kevolve import registry
from kevolve.evaluate.build import build
from kevolve.evaluate.compare import compare
from kevolve.evaluate.draws import drawn
from kevolve.evaluate.materialise import grad_outputs, materialise
from kevolve.evaluate.operators import forbidden
from kevolve.evaluate.oracle import ReferenceFailed, answers, expect, forward
from kevolve.evaluate.outcome import Outcome
from kevolve.evaluate.plan import make_plan
from kevolve.evaluate.shrink import simplify
from kevolve.evaluate.state import WorkerState, check_outputs, private_copy
from kevolve.evaluate.watch import Watch
from kevolve.languages import Language
from kevolve.spec.spec import Draw, Spec
from kevolve.targets import Target

CACHE = Path(tempfile.gettempdir()) / "kevolve-lowering"
SHRINK_S = 10.0
COMPILE_S = 120.0
_TRACEBACK_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one spec. ``status``: ``right``, ``wrong``, ``refused`` (does not build), ``crashed``, ``not covered``, ``failed``."""

    spec: str
    status: str
    message: str = ""
    draws: int = 0
    excluded: int = 0
    draft_s: float = 0.0
    build_s: float = 0.0
    seconds: float = 0.0
    source: str = ""

    @property
    def line(self) -> str:
        """The verdict in one line, the message below it."""
        times = f"draft {self.draft_s:.2f} s, build {self.build_s:.1f} s, {self.seconds:.1f} s in all"
        counted = f"{self.draws} draws" + (f", {self.excluded} excluded" if self.excluded else "")
        head = f"{self.spec:28s} {self.status:12s} {counted if self.draws else ''}{'; ' if self.draws else ''}{times}"
        return "\n".join([head, *("    " + line for line in self.message.splitlines())])


class _Wrong(Exception):
    """A draw on which the kernel is wrong."""


def check_apart(spec: Spec, language: str, *, count: int, seed: int, limit_s: float, only: Draw | None = None) -> Verdict:
    """The verdict of a forked process, which may crash or hang."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, spec, language, count, seed, only), daemon=True)
    began = time.monotonic()
    child.start()
    theirs.close()
    stage = "starting"
    try:
        while ours.poll(max(0.0, began + limit_s - time.monotonic())):
            told = ours.recv()
            if isinstance(told, Verdict):
                return replace(told, seconds=time.monotonic() - began)
            stage = told
        message = f"no answer within {limit_s:.0f} s; last: {stage}"
    except EOFError:
        child.join()
        message = f"the process ended with {child.exitcode}; last: {stage}"
    finally:
        child.kill()
        child.join()
    return Verdict(spec=spec.name, status="crashed", message=message, seconds=time.monotonic() - began)


def _child(tell: Connection, spec: Spec, language: str, count: int, seed: int, only: Draw | None) -> None:
    warnings.simplefilter("ignore")  # of numpy, where the interpreter divides by zero
    tell.send("lowering")
    timed = timed_draft(spec, language)
    made = timed.draft
    verdict = Verdict(spec=spec.name, status="right", draft_s=timed.seconds, source=made.source)
    if made.problem:
        trace = "\n".join(made.trace.splitlines()[-_TRACEBACK_LINES:])
        tell.send(replace(verdict, status="failed" if trace else "not covered", message=trace or made.problem))
        return
    try:
        tell.send(_judged(tell, spec, language, verdict, count, seed, only))
    except ReferenceFailed as error:
        tell.send(replace(verdict, status="reference", message=str(error)))


def _judged(tell: Connection, spec: Spec, written: str, verdict: Verdict, count: int, seed: int, only: Draw | None) -> Verdict:
    target: Target = registry.load("targets", "cpu")
    began = time.monotonic()
    tell.send("building")
    built = build(verdict.source, written, spec=spec, target=target, cache=CACHE, timeout_s=COMPILE_S)
    verdict = replace(verdict, build_s=time.monotonic() - began)
    if isinstance(built, Outcome):
        return replace(verdict, status="refused", message=f"{built.status}: {built.message}")
    target.enter("check")
    language: Language = registry.load("languages", written)
    assert built.artifact is not None
    try:
        loaded = language.load(built.artifact, entry=spec.name, target=target)
    except Exception:  # noqa: BLE001  # whatever a printed file raises as it is loaded is what is looked for
        return replace(verdict, status="refused", message=_traceback())
    state = WorkerState(fields={}, channel=None, progress=None, target=target, loaded=loaded)  # type: ignore[arg-type]
    state.grad = tuple(spec.reference.inputs.index(name) for name in spec.grad)
    draws, excluded = 0, 0
    for draw in [only] if only is not None else chosen(spec, written, target, count=count, seed=seed):
        tell.send(f"draw {draw.to_json()}")
        failure, judged = _failure(spec, state, draw)
        draws, excluded = draws + 1, excluded + (not judged)
        if failure is not None:
            smallest, failure = _smallest(tell, spec, state, draw, failure)
            message = f"{failure}\n--draw '{smallest.to_json()}'"
            return replace(verdict, status="wrong", message=message, draws=draws, excluded=excluded)
    return replace(verdict, draws=draws, excluded=excluded)


def chosen(spec: Spec, language: str, target: Target, *, count: int, seed: int) -> Iterator[Draw]:
    """Draws of the sweep (the ends always) and of the others, half of each; in a language that is timed then its cases."""
    cap = target.largest(language)
    plan = make_plan(spec, seed=seed, cap=cap, examples=1, huge=False)
    swept = [draw for draw in plan.draws if draw.origin == "sweep"]
    ends = [draw for draw in swept if any(draw.values[name] <= 1 for name in spec.vary if isinstance(draw.values[name], int))]
    chance = random.Random(seed)
    some = chance.sample(ends, min(len(ends), count // 4)) + chance.sample(swept, min(len(swept), count // 4))
    yield from {draw.to_json(): draw for draw in some}.values()
    yield from drawn(spec, seed=seed, cap=cap, examples=count // 2)
    for case in spec.cases if cap is None else ():
        yield Draw(values=case.values, seed=seed)


def _failure(spec: Spec, state: WorkerState, draw: Draw) -> tuple[str | None, bool]:
    """What is wrong on a draw, or None; and whether its values were judged at all."""
    inputs = materialise(spec, draw)
    expected = expect(spec, draw, inputs)
    grads = grad_outputs(spec, draw, forward(spec, draw, inputs)) if spec.grad else ()
    state.grad_outputs = len(grads)
    mutated = [spec.reference.inputs.index(name) for name in spec.mutates]
    own = [private_copy(value) if isinstance(value, torch.Tensor) else value for value in (*inputs, *grads)]
    watch = Watch()
    try:
        with watch:
            outputs = state.call(own)
        watch.look()
        others = [value for position, value in enumerate(own) if position not in mutated]
        check_outputs(outputs, others, trusted=False)
    except Exception:  # noqa: BLE001  # whatever a kernel raises is what is looked for
        return _traceback(), True
    called = forbidden(watch.names, spec.allow)
    if called:
        return f"calls library operators: {', '.join(called)}", True
    for position, (before, after) in enumerate(zip((*inputs, *grads), own, strict=True)):
        if position not in mutated and isinstance(before, torch.Tensor) and not _same(before, after):
            return f"wrote to input {position}", True
    results = [*outputs, *(own[position] for position in mutated)]
    outcome = compare(spec, expected, results, inputs, draw=draw)
    if outcome.passed:
        return None, expected.unreliable is None
    native = compare(spec, expected, answers(spec, draw, [*inputs]), inputs, draw=draw)
    return outcome.message + ("" if native.passed else "\nthe reference itself, as declared, fails here too: the spec's fault"), True


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    return torch.equal(before, after) or bool(((before == after) | ((before != before) & (after != after))).all())


def _smallest(tell: Connection, spec: Spec, state: WorkerState, draw: Draw, failure: str) -> tuple[Draw, str]:
    """The simplest draw that still fails within the time, and how."""
    found = {draw.to_json(): failure}
    deadline = time.monotonic() + SHRINK_S

    def fails(simpler: Draw) -> bool:
        if time.monotonic() > deadline:
            return False
        tell.send(f"draw {simpler.to_json()}")
        try:
            why, _ = _failure(spec, state, simpler)
        except (ReferenceFailed, ValueError):
            return False
        if why is not None:
            found[simpler.to_json()] = why
        return why is not None

    smallest = simplify(spec, draw, fails)
    return smallest, found[smallest.to_json()]


def _traceback() -> str:
    return "\n".join(traceback.format_exc().splitlines()[-_TRACEBACK_LINES:])


def table(verdicts: Sequence[Verdict]) -> str:
    """How many of each status, and which."""
    by: dict[str, list[str]] = {}
    for verdict in verdicts:
        by.setdefault(verdict.status, []).append(verdict.spec)
    return "\n".join(f"{status}: {len(names)}" + ("" if status == "right" else f" ({', '.join(names)})") for status, names in by.items())


def write(path: Path, verdicts: Sequence[Verdict]) -> None:
    """The verdicts as JSON."""
    rows: list[dict[str, Any]] = [{key: value for key, value in asdict(verdict).items() if key != "source"} for verdict in verdicts]
    path.write_text(json.dumps(rows, indent=1) + "\n")
