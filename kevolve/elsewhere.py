"""Where a target has no device: its kernels are still checked on another target and compiled for the architectures that it names."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kevolve import registry
from kevolve.evaluate import counterexamples
from kevolve.evaluate.ahead import Shapes, shapes
from kevolve.evaluate.build import build, refused_text
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.deviceless import SMALL_ELEMENTS, can_compile, compiled_for, compiles_for, stand_in
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import held, make_plan, of_draws
from kevolve.languages import BuildsFor, Language
from kevolve.search.accept import KernelFile
from kevolve.spec.spec import Draw, Spec
from kevolve.targets import Target


def architectures(target: Target) -> tuple[str | None, ...]:
    """For which architectures kernel files stand for the target here: its device's, else none in particular or any it compiles for."""
    if target.missing() is None:
        return (target.device().get("arch"),)
    return (None, *compiles_for(target))


def planned(target: Target, language: Language) -> str:
    """What the property item does with a kernel where there is no device, in words; empty where that is nothing."""
    other = stand_in(target, language)
    parts = [f"checks it on target {other.name}"] if other is not None else []
    parts += [f"compiles it for {', '.join(compiles_for(target))}"] if can_compile(target, language) else []
    return " and ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """One kernel file of a target without a device. ``seed``: the plan's; ``replay``: the only draw; ``jobs``: compilations at a time."""

    workers: Workers
    spec: Spec
    file: KernelFile
    target: Target
    seed: int
    cache: Path
    check_timeout_s: float
    compile_timeout_s: float
    jobs: int
    replay: Draw | None = None

    def judge(self) -> Outcome:
        """The first failure, or NOT_MEASURED with what was checked: a kernel that no device has run has not passed."""
        language: Language = registry.load("languages", self.file.language)
        refused = refused_text(self.file.source, language, self.spec)
        if refused is not None:
            return refused
        said = []
        for outcome in self._stages(language):
            if not outcome.passed:
                return outcome
            said.append(outcome.message)
        missing = f"target {self.target.name}: {self.target.missing()}"
        message = f"{missing}; checked instead: {', '.join(said)}" if said else missing
        return Outcome(status=Status.NOT_MEASURED, stage=Stage.PROPERTIES, message=message)

    def _stages(self, language: Language) -> Iterator[Outcome]:
        other = stand_in(self.target, language)
        if other is not None:
            yield self._checked(other)
        arches = (self.file.arch,) if self.file.arch is not None else compiles_for(self.target)
        if not can_compile(self.target, language):
            return
        compiled = partial(self._compiled, language, self._wanted(language))
        if not isinstance(language, BuildsFor):
            yield from map(compiled, arches)  # each starts several compilers itself
            return
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            yield from pool.map(compiled, arches)

    def _checked(self, other: Target) -> Outcome:
        """The other target's property plan."""
        built = build(
            self.file.source, self.file.language, spec=self.spec, target=other, cache=self.cache, timeout_s=self.compile_timeout_s
        )
        if isinstance(built, Outcome):
            return built
        cap = other.largest(self.file.language)
        if self.replay is not None:
            plan, kept = of_draws(self.spec, [self.replay]), list[Draw]()
        else:
            plan = make_plan(self.spec, seed=self.seed, cap=cap)
            kept = [draw for draw in counterexamples.load(self.spec) if cap is None or held(self.spec, draw) <= cap]
        outcome = check(self.workers, self.spec, built, plan, target=other, deadline_s=self.check_timeout_s, kept=kept)
        if not outcome.passed:
            return outcome
        what = "the draw" if self.replay is not None else f"{outcome.detail.get('draws')} draws"
        return _passed(f"right on {what} on target {other.name}")

    def _compiled(self, language: Language, wanted: Shapes, arch: str) -> Outcome:
        """Compiled for one architecture."""
        compiled = compiled_for(
            arch,
            self.file.source,
            language,
            wanted,
            workers=self.workers,
            spec=self.spec,
            target=self.target,
            cache=self.cache,
            timeout_s=self.compile_timeout_s,
            jobs=self.jobs,
        )
        if isinstance(compiled, Outcome):
            return compiled
        return _passed(f"compiled for {arch}{f' ({compiled.ahead})' if compiled.ahead else ''}")

    def _wanted(self, language: Language) -> Shapes:
        """The cases and small draws, where kernels are specialised by them."""
        if isinstance(language, BuildsFor):
            return Shapes(layouts=(), timed=0)
        return shapes(self.spec, self.spec.cases, make_plan(self.spec, seed=self.seed, cap=SMALL_ELEMENTS))


def _passed(message: str) -> Outcome:
    return Outcome(status=Status.PASSED, stage=Stage.COMPILE, message=message)
