"""From a kernel's text to a candidate that a worker can load: parse, policy, compile."""

from __future__ import annotations

from pathlib import Path

from kevolve import registry
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.languages import BuildError, Language
from kevolve.spec.spec import Spec
from kevolve.targets import Target


def build(source: str, language_name: str, *, spec: Spec, target: Target, cache: Path, timeout_s: float) -> Candidate | Outcome:
    """The built candidate, or the outcome of the stage that refused it. Thread-safe; runs none of the candidate's code."""
    language: Language = registry.load("languages", language_name)
    missing = language.missing()
    if missing is not None:
        return Outcome(status=Status.NOT_MEASURED, stage=Stage.COMPILE, message=f"{language_name} kernels cannot be built here: {missing}")
    refused = refused_text(source, language, spec)
    if refused is not None:
        return refused
    try:
        built = language.build(source, entry=spec.name, target=target, cache=cache, timeout_s=timeout_s)
    except BuildError as error:
        return Outcome(status=Status.COMPILE_ERROR, stage=Stage.COMPILE, message=str(error))
    return Candidate(
        name=spec.name,
        language=language_name,
        entry=spec.name,
        source=source,
        artifact=built.artifact,
        resources=dict(built.resources),
        remarks=built.diagnostics,
    )


def refused_text(source: str, language: Language, spec: Spec) -> Outcome | None:
    """What parse or policy refuse, or None."""
    problem = language.parse(source, spec.name)
    if problem is not None:
        return Outcome(status=Status.COMPILE_ERROR, stage=Stage.PARSE, message=problem)
    problem = language.policy(source, spec.allow)
    if problem is not None:
        return Outcome(status=Status.REWARD_HACK, stage=Stage.POLICY, message=problem)
    return None
