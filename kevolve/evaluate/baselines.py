"""The processes that a timing compares: a candidate's, the eager reference's, and forks of a compiled reference."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from kevolve.evaluate.arena import pack
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Child, ChildFailed, ServerFailed, Workers
from kevolve.evaluate.contents import Contents, Pool
from kevolve.evaluate.runner import SideFailed
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec
from kevolve.targets import Target

CANDIDATE = "candidate"
EAGER = "eager"
COMPILE = "compile"
START_S = 60.0  # loading a kernel or a reference
COMPILE_S = 240.0  # torch.compile with a cold cache
_EAGER_PROCESSES = 3  # of one case: timings that have theirs ready have the device one after another
_WORTH_ANOTHER = 8  # measurements that one served: another takes seconds to make
_COMPILED_SETS = 10  # sets of other sizes: a compiled reference that meets new guards in a timed call would compile there


def positions(spec: Spec, names: Sequence[str]) -> list[int]:
    """Where the inputs named stand."""
    return [spec.reference.inputs.index(name) for name in names]


def gradients(spec: Spec, pool: Pool) -> dict[str, Any]:
    """What every command about gradients carries."""
    return {"grad": positions(spec, spec.grad), "grad_outputs": pool.grad_outputs}


def open_candidate(workers: Workers, spec: Spec, candidate: Candidate, *, target: Target, pool: Pool) -> Child:
    """A fresh process with the candidate loaded, ready for ``time_inputs``. Raises ``ChildFailed``."""
    child = _entered(workers, target, candidate.language)
    try:
        if candidate.callable is not None:
            child.call("load_callable", deadline_s=START_S, **candidate.imported, **gradients(spec, pool))
        else:
            child.call(
                "load_candidate",
                deadline_s=START_S,
                language=candidate.language,
                artifact=str(candidate.artifact),
                entry=candidate.entry,
                backward=bool(spec.grad),
                **gradients(spec, pool),
            )
        if spec.constant:
            child.call("prepare", deadline_s=START_S, positions=positions(spec, spec.constant))
    except ChildFailed:
        child.close()
        raise
    return child


@contextmanager
def _resumed(child: Child, spec: Spec, *, target: Target, pool: Pool) -> Iterator[Child]:
    """A process that checked the candidate, ready for ``time_inputs``; it stays its owner's. Raises ``ChildFailed``."""
    child.call("enter", deadline_s=START_S, target=target.name, stage="time", **gradients(spec, pool))
    if spec.constant:
        child.call("prepare", deadline_s=START_S, positions=positions(spec, spec.constant))
    yield child


def open_reference(workers: Workers, spec: Spec, case: Case, *, target: Target, language: str, pool: Pool) -> Child:
    """A fresh process with the eager reference loaded. Raises ``ChildFailed``."""
    child = _entered(workers, target, language)
    try:
        _load_reference(child, spec, case, pool, compiled=False)
    except ChildFailed:
        child.close()
        raise
    return child


def _load_reference(child: Child, spec: Spec, case: Case, pool: Pool, *, compiled: bool) -> None:
    child.call(
        "load_reference",
        deadline_s=START_S,
        reference=reference_fields(spec.reference),
        values={name: case.values[name] for name in spec.reference.init or ()},
        compile="default" if compiled else False,
        **gradients(spec, pool),
    )


def _entered(workers: Workers, target: Target, language: str) -> Child:
    child = workers.child(target=target, language=language)
    try:
        _enter(workers, child, target)
    except ChildFailed:
        child.close()
        raise
    return child


def _enter(workers: Workers, child: Child, target: Target) -> None:
    """Make its context: nobody is timed meanwhile."""
    with workers.holds.shared(target):
        child.call("enter", deadline_s=START_S, target=target.name, stage="time")


def reference_fields(reference: Reference) -> dict[str, Any]:
    """A reference as JSON."""
    return {**asdict(reference), "file": str(reference.file)}


class Templates:
    """Compiled references: compiled once a case in a process of their own, forked for every pair. Thread-safe; close it.

    The compiler is imported once: the process of a later case is forked from one that holds nothing else. A reference that could not be
    compiled is remembered with its reason.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._roots: dict[tuple[str, str], Child] = {}
        self._made: dict[tuple[str, ...], Child | ChildFailed] = {}

    def fork(self, spec: Spec, case: Case, *, target: Target, language: str, pool: Pool) -> Child:
        """A process with the compiled reference of ``case``. Raises ``ChildFailed`` with the reason where there is none."""
        key = (spec.nodeid, spec.hash, case.id, target.name, language)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._compiled(spec, case, target, language, pool)
            found = self._made[key]
            if isinstance(found, ChildFailed):
                raise found
            return found.fork()

    def kept(self, spec: Spec, case: Case, *, target: Target, pool: Pool) -> Child:
        """The process with the compiled reference, where none can be forked. Raises ``ChildFailed`` with the reason where there is none."""
        key = (spec.nodeid, spec.hash, case.id, target.name)
        failed = self._made.get(key)
        if isinstance(failed, ChildFailed):
            raise failed
        try:
            return _kept(self._workers, COMPILE, spec, case, target=target, pool=pool)
        except ChildFailed as error:
            self._made[key] = error
            raise

    def begin(self, spec: Spec, case: Case, *, target: Target, pool: Pool) -> None:
        """Begin compiling the reference of ``case`` beside what else is done, where its process is kept. ``pool`` stays open meanwhile."""
        if COMPILE in spec.baseline and not getattr(target, "forks_after_use", True):
            threading.Thread(target=self._begun, args=(spec, case, target, pool), name="kevolve-compile", daemon=True).start()

    def _begun(self, spec: Spec, case: Case, target: Target, pool: Pool) -> None:
        with contextlib.suppress(
            ChildFailed, ServerFailed, OSError, ValueError
        ):  # the measurement that asks for it says so; or the run is over
            self.kept(spec, case, target=target, pool=pool)

    def _compiled(self, spec: Spec, case: Case, target: Target, language: str, pool: Pool) -> Child | ChildFailed:
        try:
            child = self._root(target, language).fork()
        except ChildFailed as error:
            return error
        try:
            _load_reference(child, spec, case, pool, compiled=True)
            with pack(_compile_sets(pool)) as arena:
                child.call("warm", deadline_s=COMPILE_S, fds=[arena.fd], layout=arena.layout)
        except ChildFailed as error:
            child.close()
            return error
        return child

    def _root(self, target: Target, language: str) -> Child:
        """A process that has imported the compiler."""
        if (target.name, language) not in self._roots:
            child = _entered(self._workers, target, language)
            try:
                child.call("time_compiler", deadline_s=START_S)
            except ChildFailed:
                child.close()
                raise
            self._roots[target.name, language] = child
        return self._roots[target.name, language]

    def close(self) -> None:
        """End the compiled processes."""
        with self._lock:
            for made in (*self._made.values(), *self._roots.values()):
                if isinstance(made, Child):
                    made.close()
            self._made.clear()
            self._roots.clear()

    def __enter__(self) -> Templates:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kept(workers: Workers, baseline: str, spec: Spec, case: Case, *, target: Target, pool: Pool, number: int = 0) -> Child:
    """A process with the reference of ``case`` that serves many candidates: a device's context is dear. Raises ``ChildFailed``.

    ``number``: which of several.
    """
    key = (baseline, spec.nodeid, spec.hash, case.id, target.name, *([str(number)] if number else []))
    return workers.kept(key, lambda: _reference_made(workers, baseline, spec, case, target=target, pool=pool))


def _reference_made(workers: Workers, baseline: str, spec: Spec, case: Case, *, target: Target, pool: Pool) -> Child:
    child = _compiler(workers, target) if baseline == COMPILE else _entered(workers, target, target.languages[0])
    try:
        _load_reference(child, spec, case, pool, compiled=baseline == COMPILE)
        if baseline == COMPILE:
            # What torch.compile makes it tries out on the device: nothing is timed meanwhile. Nor does a timing wait: it may take minutes.
            with pack(_compile_sets(pool)) as arena, workers.holds.interruptible(target, child.pause, child.resume):
                child.call("warm", deadline_s=COMPILE_S, fds=[arena.fd], layout=arena.layout)
    except ChildFailed:
        child.close()
        raise
    return child


def _compiler(workers: Workers, target: Target) -> Child:
    """A process that has imported the compiler, forked from one that has not used the device, where that is possible."""

    def imported() -> Child:
        made = workers.child(target=target, language=target.languages[0])
        made.call("time_compiler", deadline_s=START_S)
        return made

    try:
        with workers.forks:
            child = workers.kept(("compiler", target.name), imported).fork()
    except ChildFailed:
        return _entered(workers, target, target.languages[0])
    try:
        _enter(workers, child, target)
    except ChildFailed:
        child.close()
        return _entered(workers, target, target.languages[0])
    return child


@contextmanager
def _lent(workers: Workers, target: Target, *kept: Callable[[], Child]) -> Iterator[Child]:
    """A kept child, for one measurement at a time; it stays, and is ended where anything but the candidate fails.

    ``kept``: one, or several that do the same.
    """
    child = _acquired(workers, kept)
    try:
        yield child
        _make_room(workers, target, child)
    except SideFailed as failed:
        if failed.side != CANDIDATE:
            child.close()
        raise
    except Exception:
        child.close()
        raise
    finally:
        child.lent.release()


def _make_room(workers: Workers, target: Target, child: Child) -> None:
    """A child that waits for its next measurement keeps no great part of the device's memory from other processes."""
    if child.closed:
        return
    try:
        if child.call("time_crowds", deadline_s=START_S).fields["crowds"]:
            with workers.holds.shared(target):
                child.call("time_rest", deadline_s=START_S, seed=0)
    except ChildFailed:  # what was measured stays
        child.close()


def _acquired(workers: Workers, kept: Sequence[Callable[[], Child]]) -> Child:
    """The child that is free, or whose turn it is; one that was waited for may have ended meanwhile."""
    while True:
        child = _free(workers, kept)
        if not child.closed:
            child.served += 1
            return child
        child.lent.release()


def _free(workers: Workers, kept: Sequence[Callable[[], Child]]) -> Child:
    """The first that nobody uses; where there is none, and another is not worth making or cannot be made, the last when its turn comes."""
    child = kept[0]()
    for another in kept[1:]:
        if child.lent.acquire(blocking=False):
            return child
        if child.served < _WORTH_ANOTHER or not workers.has_room:
            break
        try:
            child = another()
        except ChildFailed:  # the device has no memory left for it: the one that is there is waited for, and others are not tried soon
            child.served = 0
            break
    child.lent.acquire()
    return child


def _compile_sets(pool: Pool) -> list[tuple[Any, ...]]:
    contents = Contents(pool.fd, pool.layout, pool.seed)
    count = min(_COMPILED_SETS, len(pool.layout))
    return [contents.inputs(number) for number in range(count)]  # more than one only from a bank, whose sets do not overwrite each other


Opener = Callable[[], AbstractContextManager[Child]]


def openers(
    workers: Workers,
    spec: Spec,
    case: Case,
    candidate: Candidate,
    *,
    target: Target,
    baselines: Sequence[str],
    pool: Pool,
    templates: Templates,
    process: Child | None = None,
    fresh: bool = False,
) -> Mapping[str, Opener]:
    """How each side's process is made, by name; the candidate first. Raises ``ValueError`` for an unknown baseline.

    ``process``: one that has checked the candidate and is to time it as well, as long as it lives. ``fresh``: no eager process that was
    kept (a compiled one is: making it anew takes as long as compiling).
    """
    language = candidate.language

    def of_candidate() -> AbstractContextManager[Child]:
        if process is not None and not process.closed:
            return _resumed(process, spec, target=target, pool=pool)
        return open_candidate(workers, spec, candidate, target=target, pool=pool)

    known: dict[str, Opener] = {
        EAGER: lambda: open_reference(workers, spec, case, target=target, language=language, pool=pool),
        COMPILE: lambda: templates.fork(spec, case, target=target, language=language, pool=pool),
    }
    if not getattr(target, "forks_after_use", True):
        known[COMPILE] = lambda: _lent(workers, target, lambda: templates.kept(spec, case, target=target, pool=pool))
        if not fresh:
            kept = partial(_kept, workers, EAGER, spec, case, target=target, pool=pool)
            known[EAGER] = lambda: _lent(workers, target, *(partial(kept, number=number) for number in range(_EAGER_PROCESSES)))
    unknown = [name for name in baselines if name not in known]
    if unknown:
        raise ValueError(f"unknown baseline: expected one of {', '.join(known)}, got {', '.join(unknown)}")
    sides: dict[str, Opener] = {CANDIDATE: of_candidate}
    return sides | {name: known[name] for name in baselines}
