"""The half of the gate that needs no device: both sources compiled for every architecture and counted in the interpreter.

Native code for the machine itself is listed: how much of it works on vectors.

Same sources, same toolchain: same figures. Nothing here is timed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Workers
from kevolve.evaluate.deviceless import stand_in
from kevolve.evaluate.outcome import Outcome
from kevolve.files import write_atomically
from kevolve.gate.compiled import Laid, compiled, laid_out
from kevolve.gate.counted import Small, counted, small
from kevolve.gate.figures import Launch, Side, compared, fails
from kevolve.languages import BuildError, Inspected, Language, Listed
from kevolve.report.values import Figure
from kevolve.spec.spec import Spec
from kevolve.targets import Target

__all__ = ["compare", "fails"]

INTERPRETER = "interpreter"
_FORMAT = 1  # of what is kept; counted up when figures change their meaning
_DEADLINE_S = 240.0  # of one source on one architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One comparison under way."""

    workers: Workers
    spec: Spec
    language: Language
    target: Target
    cache: Path


def compare(
    spec: Spec,
    language: Language,
    old: str,
    new: str,
    *,
    target: Target,
    workers: Workers,
    cache: Path,
    jobs: int,
    arches: Sequence[str] | None = None,
) -> tuple[Figure, ...]:
    """The figures of both sources, each with its allowance; deterministic. Empty where the language has none without a device.

    ``arches``: those to compile for; None: the target's and those that the language is portable to. ``jobs``: processes at a time.
    A source that does not compile or run where the old one did gives a figure ``compiles`` or ``runs`` that fell from 1 to 0.
    """
    work = _Work(workers=workers, spec=spec, language=language, target=target, cache=cache)
    if language.missing() is not None:
        return ()
    if isinstance(language, Listed):
        before, after = (
            _kept(work, source, [target.device().get("arch")], partial(_listed, work, language, source)) for source in (old, new)
        )
        return compared(target.name, before, after, declared=spec.allowance, possible="compiles")
    if not isinstance(language, Inspected):
        return ()
    wanted = (*getattr(target, "compiles_for", ()), *language.portable) if arches is None else arches
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        compiling = _compiling(work, language, (old, new), wanted, pool) if wanted else []
        counting = _counting(work, (old, new), pool)
        found = [(name, "compiles", *sides()) for name, sides in compiling] + [(INTERPRETER, "runs", *sides()) for sides in counting]
    return tuple(
        figure
        for where, possible, before, after in found
        for figure in compared(where, before, after, declared=spec.allowance, possible=possible)
    )


Sides = Callable[[], tuple[Side, Side]]


def _compiling(
    work: _Work, language: Inspected, sources: tuple[str, str], arches: Sequence[str], pool: ThreadPoolExecutor
) -> list[tuple[str, Sides]]:
    """Both sources on every architecture, begun."""
    cases = laid_out(work.spec, work.target.name)

    def one(source: str, arch: str) -> Side:
        return _kept(work, source, [arch, [asdict(case) for case in cases]], partial(_compiled, work, language, source, cases, arch))

    return [(arch, _both(one, sources, arch, pool)) for arch in arches] if cases else []


def _compiled(work: _Work, language: Inspected, source: str, cases: Sequence[Laid], arch: str) -> Side:
    built = _built(work, source, work.target)
    if isinstance(built, Side):
        return built
    return compiled(work.workers, work.spec, built, cases, language=language, target=work.target, arch=arch, deadline_s=_DEADLINE_S)


def _listed(work: _Work, language: Listed, source: str) -> Side:
    """Built for the target itself, whose machine code is listed."""
    built = _built(work, source, work.target)
    if isinstance(built, Side):
        return built
    try:
        figures = language.listed(built.artifact or Path())
    except BuildError as error:
        return Side(problem=str(error))
    return Side(launches={"all": (Launch(kernel=work.spec.name, figures=figures),)})


def _counting(work: _Work, sources: tuple[str, str], pool: ThreadPoolExecutor) -> list[Sides]:
    """Both sources in the interpreter, begun; none where no target here interprets the language."""
    target = stand_in(work.target, work.language) or work.target
    cap = target.largest(work.language.name)
    if cap is None or target.missing() is not None or work.language.name not in target.languages:
        return []
    items = small(work.spec, work.target.name, cap)

    def one(source: str, _: str) -> Side:
        return _kept(work, source, [INTERPRETER, [item.name for item in items]], partial(_counted, work, source, items, target))

    return [_both(one, sources, INTERPRETER, pool)] if items else []


def _counted(work: _Work, source: str, items: Sequence[Small], target: Target) -> Side:
    built = _built(work, source, target)
    return built if isinstance(built, Side) else counted(work.workers, work.spec, built, items, target=target, deadline_s=_DEADLINE_S)


def _both(one: Callable[[str, str], Side], sources: tuple[str, str], where: str, pool: ThreadPoolExecutor) -> Sides:
    before, after = (pool.submit(one, source, where) for source in sources)
    return lambda: (before.result(), after.result())


def _built(work: _Work, source: str, target: Target) -> Candidate | Side:
    built = build(source, work.language.name, spec=work.spec, target=target, cache=work.cache, timeout_s=_DEADLINE_S)
    return Side(problem=built.message) if isinstance(built, Outcome) else built


def _kept(work: _Work, source: str, inputs: Any, make: Callable[[], Side]) -> Side:
    """What was found of this source before with this toolchain: in CI, of the old one. A problem is no finding, and is not kept."""
    parts = [_FORMAT, source, work.spec.hash, work.spec.name, inputs, work.target.name, sorted(work.language.versions().items())]
    path = work.cache / "gate" / f"{hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]}.json"
    if path.exists():
        return _read(path.read_text(encoding="utf-8"))
    made = make()
    if not made.problem:
        write_atomically(path, json.dumps(asdict(made)))
    return made


def _read(text: str) -> Side:
    launches = json.loads(text)["launches"]
    return Side(launches={case: tuple(Launch(**launch) for launch in found) for case, found in launches.items()})
