"""Triton drafts compiled ahead of time for GPUs that are not here, on the shapes of their cases."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from kevolve import registry
from kevolve.evaluate.build import build
from kevolve.evaluate.client import Limits, Workers
from kevolve.evaluate.outcome import Outcome
from kevolve.gate.compiled import compiled, laid_out
from kevolve.spec.spec import Spec

ARCHES = ("sm80", "sm90", "sm100", "gfx942", "gfx950")
DEADLINE_S = 300.0
_LIMITS = Limits(memory_bytes=4 << 30, processes=24)


def compiled_everywhere(spec: Spec, source: str, folder: Path) -> dict[str, Any]:
    """By architecture how many kernels were compiled on the cases' shapes, and which no case launches; or what the compiler refused."""
    target, language = registry.load("targets", "cuda"), registry.load("languages", "triton")
    cases = laid_out(spec, target.name)
    built = build(source, language.name, spec=spec, target=target, cache=folder / "cache", timeout_s=DEADLINE_S)
    if isinstance(built, Outcome):
        return {arch: {"problem": built.message} for arch in ARCHES}
    found: dict[str, dict[str, Any]] = {}
    with Workers(sys_path=sys.path, scratch=folder / "scratch", limits=_LIMITS) as workers:
        for arch in ARCHES:
            side = compiled(workers, spec, built, cases, language=language, target=target, arch=arch, deadline_s=DEADLINE_S)
            if side.problem:
                found[arch] = {"problem": side.problem}
                continue
            compiled_names = {launch.kernel for each in side.launches.values() for launch in each}
            found[arch] = {"kernels": len(compiled_names)}
            if missing := sorted(launched(source) - compiled_names):
                found[arch]["elsewhere"] = missing  # long rows, inputs that are not contiguous: no case launches them
    return found


def launched(source: str) -> set[str]:
    """The kernels that a file launches somewhere."""
    names = re.findall(r"^@triton\.jit(?:\([^)]*\))?\s*\ndef (\w+)", source, re.MULTILINE)
    return {name for name in names if re.search(rf"\b{name}\[", source)}
