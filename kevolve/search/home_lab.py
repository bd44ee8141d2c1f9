"""The lab of a search whose candidates are timed on another machine: what can be said of a kernel before it travels.

It is compiled here for the device there, and checked here on a target that stands in for it (Triton's interpreter, small draws).
What is said here decides nothing: the other machine builds and checks anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from kevolve import registry
from kevolve.evaluate.ahead import Shapes, shapes
from kevolve.evaluate.build import build, refused_text
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.deviceless import SMALL_ELEMENTS, can_compile, compiled_for, stand_in
from kevolve.evaluate.oracle import ReferenceFailed
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan, held, make_plan
from kevolve.languages import BuildsFor, Language
from kevolve.search.answers import Answers
from kevolve.search.crew import Evaluated
from kevolve.search.node import Proposal
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.targets import Target


@dataclass(slots=True)
class _Known:
    """What is known of one source; ``busy`` is held by whoever finds out more."""

    busy: threading.Lock = field(default_factory=threading.Lock)
    built: Outcome | None = None
    checked: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeLab:
    """``Lab`` where the target's device is elsewhere: of architecture ``arch`` and called ``device``.

    ``seed``: of the development plan, never a grading one; ``kept``: counterexamples, replayed first where they are small enough.
    ``jobs``: kernels that are worked on at a time. Thread-safe.
    """

    spec: Spec
    cases: tuple[Case, ...]
    target: Target
    device: str
    arch: str
    workers: Workers
    kept: tuple[Draw, ...]
    cache: Path
    seed: int
    jobs: int
    compile_timeout_s: float = 60.0
    check_timeout_s: float = 60.0
    _known: Answers[_Known] = field(default_factory=lambda: Answers(_Known), repr=False)
    _plans: dict[int | None, Plan] = field(default_factory=dict, repr=False)  # by the most elements of a draw
    _shapes: list[Shapes] = field(default_factory=list, repr=False)  # at most one: every language is launched on the same
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _working: threading.Semaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_working", threading.Semaphore(max(1, self.jobs)))

    times = False

    def build(self, language: str, source: str) -> Outcome:
        """See ``Lab``; compiled for the device there."""
        return self._answer(self._built, language, source)

    def check(self, language: str, source: str) -> Outcome:
        """See ``Lab``; on the target that stands in, NOT_MEASURED where none can."""
        return self._answer(self._checked, language, source)

    def evaluate(self, language: str, source: str) -> Evaluated:
        """See ``Lab``; never a fitness: what passes here is NOT_MEASURED until it was timed there."""
        outcome = self.check(language, source)
        if outcome.passed or outcome.status is Status.NOT_MEASURED:
            waits = f"timing waits for {self.device} on the other machine: hand the kernel in, its times are told after the step"
            message = f"{outcome.message}; {waits}" if outcome.message else waits
            outcome = replace(outcome, status=Status.NOT_MEASURED, stage=Stage.QUICK, message=message)
        proposal = Proposal(language=language, source=source, operator="", idea="")
        return Evaluated(proposal=proposal, outcome=outcome, fitness=0.0, seconds=0.0)

    def profile(self, language: str, source: str) -> str:
        """See ``Lab``: nothing was timed here."""
        return ""

    # -- stages ----------------------------------------------------------------------------------------------------

    def _answer(self, stage: Callable[[_Known, Language, str], Outcome], language: str, source: str) -> Outcome:
        known, written = self._known.of(language, source), registry.load("languages", language)
        with known.busy:
            try:
                found = stage(known, written, source)
            except ReferenceFailed as error:
                return error.outcome(Stage.PROPERTIES)
            if found.status is Status.TIMEOUT:
                known.built = known.checked = None  # of a busy machine, perhaps: who asks again gets another try
            return found

    def _built(self, known: _Known, language: Language, source: str) -> Outcome:
        if known.built is None:
            known.built = refused_text(source, language, self.spec) or self._compiled(language, source)
        return known.built

    def _compiled(self, language: Language, source: str) -> Outcome:
        """Compiled for the architecture there, where a compiler for it is here; else for this machine, where the target is here too."""
        if (missing := language.missing()) is not None:
            return _undecided(f"{language.name} kernels cannot be built here: {missing}")
        with self._working:
            if self.arch and can_compile(self.target, language):
                built, where = self._compiled_there(language, source), self.arch
            elif self.target.missing() is None:
                built, where = self._compiled_here(language, source, self.target), "this machine"
            else:
                return _undecided(f"{language.name} kernels are built where their device is")
        if isinstance(built, Outcome):
            return built
        message = f"compiled for {where}{f' ({built.ahead})' if built.ahead else ''}"
        return Outcome(status=Status.PASSED, stage=Stage.COMPILE, message=message, detail=built.said)

    def _compiled_there(self, language: Language, source: str) -> Candidate | Outcome:
        return compiled_for(
            self.arch,
            source,
            language,
            self._wanted(language),
            workers=self.workers,
            spec=self.spec,
            target=self.target,
            cache=self.cache,
            timeout_s=self.compile_timeout_s,
            jobs=1,
        )

    def _compiled_here(self, language: Language, source: str, target: Target) -> Candidate | Outcome:
        return build(source, language.name, spec=self.spec, target=target, cache=self.cache, timeout_s=self.compile_timeout_s)

    def _checked(self, known: _Known, language: Language, source: str) -> Outcome:
        built = self._built(known, language, source)
        if not built.passed:
            return built
        if known.checked is None:
            known.checked = self._ran(language, source, built)
        return known.checked

    def _ran(self, language: Language, source: str, built: Outcome) -> Outcome:
        """The development plan on the target itself where it is here too, else on the one that stands in for it."""
        other = self.target if self.target.missing() is None else stand_in(self.target, language)
        if other is None:
            message = f"{built.message}; not run here: {language.name} kernels are checked where they are timed"
            return replace(built, status=Status.NOT_MEASURED, stage=Stage.PROPERTIES, message=message)
        candidate = self._compiled_here(language, source, other)
        if isinstance(candidate, Outcome):
            return candidate
        cap = other.largest(language.name)
        plan = self._plan(cap)
        kept = [draw for draw in self.kept if cap is None or held(self.spec, draw) <= cap]
        with self._working:
            outcome = check(self.workers, self.spec, candidate, plan, target=other, deadline_s=self.check_timeout_s, kept=kept)
        return _told(outcome, built, f"target {other.name} here, not on {self.device}")

    def _plan(self, cap: int | None) -> Plan:
        """The development plan with draws of at most ``cap`` elements."""
        with self._lock:
            if cap not in self._plans:
                self._plans[cap] = make_plan(self.spec, seed=self.seed, cap=cap, huge=False)
            return self._plans[cap]

    def _wanted(self, language: Language) -> Shapes:
        """What kernels are specialised by as they are launched: the cases, and small draws of the development plan."""
        if isinstance(language, BuildsFor):
            return Shapes(layouts=(), timed=0)
        plan = self._plan(SMALL_ELEMENTS)
        with self._lock:
            if not self._shapes:
                self._shapes.append(shapes(self.spec, self.cases, plan))
            return self._shapes[0]


def _undecided(message: str) -> Outcome:
    return Outcome(status=Status.NOT_MEASURED, stage=Stage.COMPILE, message=message)


def _told(outcome: Outcome, built: Outcome, where: str) -> Outcome:
    """A check's outcome with where it was made, and what the compiler said before."""
    if outcome.passed:
        message = f"right on {outcome.detail.get('draws')} draws on {where}; {built.message}"
    else:
        message = f"{outcome.message}\n(checked on {where})"
    return replace(outcome, message=message, detail={**built.detail, **outcome.detail})
