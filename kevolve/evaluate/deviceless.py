"""What can be known of a kernel without its device: compiled for an architecture that is named, run on a target that stands in."""

from __future__ import annotations

from pathlib import Path

from kevolve import registry
from kevolve.evaluate.ahead import Shapes, compile_ahead
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Workers
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.languages import BuildError, BuildsFor, CompilesAhead, Language
from kevolve.spec.spec import Spec
from kevolve.targets import Target

SMALL_ELEMENTS = 1 << 15  # of the draws that are compiled for, as an interpreter's


def stand_in(target: Target, language: Language) -> Target | None:
    """The target that checks these kernels instead (an interpreter's), or None."""
    name = getattr(target, "checks_elsewhere", None)
    if name is None:
        return None
    other: Target = registry.load("targets", name)
    return other if language.name in other.languages and other.missing() is None else None


def compiles_for(target: Target) -> tuple[str, ...]:
    """The architectures for which the target's kernels are compiled where it has no device."""
    return tuple(getattr(target, "compiles_for", ()))


def can_compile(target: Target, language: Language) -> bool:
    """Whether that can be done here in this language."""
    return isinstance(language, CompilesAhead | BuildsFor) and language.missing() is None and bool(compiles_for(target))


def compiled_for(
    arch: str,
    source: str,
    language: Language,
    wanted: Shapes,
    *,
    workers: Workers,
    spec: Spec,
    target: Target,
    cache: Path,
    timeout_s: float,
    jobs: int,
) -> Candidate | Outcome:
    """The candidate with what its compiler said of it, for ``arch`` (``"sm90"``); or the outcome of the stage that refused it.

    ``wanted``: what it will be launched on, where its language specialises kernels; ``jobs``: such compilations at a time.
    """
    if isinstance(language, BuildsFor):
        try:
            built = language.build_for(source, arch=arch, cache=cache, timeout_s=timeout_s)
        except BuildError as error:
            return Outcome(status=Status.COMPILE_ERROR, stage=Stage.COMPILE, message=f"does not compile for {arch}: {error}")
        needs = dict(built.resources)
        return Candidate(name=spec.name, language=language.name, entry=spec.name, source=source, resources=needs, remarks=built.diagnostics)
    candidate = build(source, language.name, spec=spec, target=target, cache=cache, timeout_s=timeout_s)
    if isinstance(candidate, Outcome):
        return candidate
    return compile_ahead(workers, spec, candidate, wanted, target=target, arch=arch, deadline_s=timeout_s, jobs=jobs)
