"""A kernel of the attack suite from its text to its verdict, by the stages of every evaluation."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from attack_specs import SPECS
from catalogue import KERNELS, first_line

from kevolve import registry
from kevolve.evaluate.build import build, refused_text
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Limits, Workers
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan, make_plan, of_draws
from kevolve.evaluate.timing import measure
from kevolve.spec.spec import Draw, Spec
from kevolve.targets import Peaks, Target

HERE = Path(__file__).parent
LANGUAGES: Mapping[str, str] = {".cpp": "cpp", ".py": "triton", ".cu": "cuda"}
SEED = 20261
_DEADLINE_S = 20.0  # a kernel that loops is waited for so long
_PAIRS = 3
_BUDGET_S = 0.2  # of a measurement's timed rounds: what is asked is whether it cheats, not how fast it is
# Generous, and the same on every machine: an attack is refused for what it does, not for how fast the machine is.
PEAKS = Peaks(bandwidth=((1024.0, 20e12),), empty_call_us=0.05, margin=1.25)


class Judge:
    """Workers and plans that all attacks of a process share; a context manager."""

    def __init__(self, *, scratch: Path, cache: Path) -> None:
        self.cache = cache
        self.workers = Workers(sys_path=[str(HERE), *sys.path], scratch=scratch, limits=Limits(memory_bytes=1 << 30), cache=cache)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.workers.close()

    def text(self, kernel: str) -> Outcome:
        """What parse and policy say of the text alone: no compiler and no device is needed."""
        path = KERNELS / kernel
        refused = refused_text(path.read_text(), registry.load("languages", LANGUAGES[path.suffix]), SPECS[first_line(kernel)[0]])
        return refused or Outcome(status=Status.PASSED, stage=Stage.POLICY)

    def verdict(self, kernel: str, *, where: str, timed: bool, read: bool = True) -> Outcome:
        """The first stage that refuses, or PASSED. ``read``: False leaves the policy out, as where its reading is deceived."""
        if where == "text":
            return self.text(kernel)
        spec_name, _ = first_line(kernel)
        spec, target = SPECS[spec_name], registry.load("targets", "cpu" if where == "cpu" else "cuda")
        candidate = self._built(KERNELS / kernel, spec, target, read=read)
        if isinstance(candidate, Outcome):
            return candidate
        plan = self._plan(spec_name, target.largest(candidate.language))
        outcome = check(self.workers, spec, candidate, plan, target=target, deadline_s=_DEADLINE_S)
        if not outcome.passed or not timed:
            return outcome
        return self._timed(spec, candidate, target)

    def _timed(self, spec: Spec, candidate: Candidate, target: Target) -> Outcome:
        (case,) = spec.cases
        outcome = check(
            self.workers, spec, candidate, of_draws(spec, [Draw(values=case.values, seed=SEED)]), target=target, deadline_s=_DEADLINE_S
        )
        if not outcome.passed:
            return outcome
        measured = measure(
            self.workers,
            spec,
            case,
            candidate,
            target=target,
            baselines=spec.baseline,
            seed=SEED,
            peaks=PEAKS,
            budget_s=_BUDGET_S,
            pairs=_PAIRS,
        )
        return measured.outcome

    def _built(self, path: Path, spec: Spec, target: Target, *, read: bool) -> Candidate | Outcome:
        source, name = path.read_text(), LANGUAGES[path.suffix]
        if read:
            return build(source, name, spec=spec, target=target, cache=self.cache, timeout_s=120.0)
        language = registry.load("languages", name)
        built = language.build(source, entry=spec.name, target=target, cache=self.cache, timeout_s=120.0)
        return Candidate(name=spec.name, language=name, entry=spec.name, source=source, artifact=built.artifact)

    @functools.cached_property
    def _plans(self) -> dict[tuple[str, int | None], Plan]:
        return {}

    def _plan(self, spec_name: str, cap: int | None) -> Plan:
        key = (spec_name, cap)
        if key not in self._plans:
            self._plans[key] = make_plan(SPECS[spec_name], seed=SEED, cap=cap, examples=40, huge=False)
        return self._plans[key]


def said(outcome: Outcome) -> str:
    """The verdict in a line, as the table shows it."""
    lines: list[Any] = [line.strip() for line in outcome.message.splitlines() if not line.startswith("replay:")]
    return " / ".join(line for line in lines if line)
