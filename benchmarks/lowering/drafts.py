"""A first draft and the seconds that it takes, each in a process of its own: as a search asks for it, the first of its process.

``python -m benchmarks.lowering.drafts FILE NAME LANGUAGE`` prints one spec's as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from kevolve.operators.lowering import Draft, drafted
from kevolve.spec.spec import Spec

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A draft; the seconds of tracing and printing, and before it those of what a search does first.

    ``before_s``: torch is imported; its tracer is imported, and the reference's graph is made that samples are matched with.
    """

    draft: Draft
    seconds: float
    before_s: float = 0.0


def timed_draft(spec: Spec, language: str) -> Timed:
    """Lower and print, the first time in this process."""
    began = time.perf_counter()
    draft = drafted(spec, language)
    return Timed(draft=draft, seconds=time.perf_counter() - began)


def draft_apart(file: Path, name: str, language: str) -> Timed:
    """The draft of the spec ``name`` in the test ``file``, made in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.lowering.drafts", str(file), name, language]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        return Timed(draft=Draft(problem="lowering failed: its process ended", trace=done.stderr), seconds=0.0)
    told = json.loads(done.stdout.splitlines()[-1])
    return Timed(draft=Draft(**told["draft"]), seconds=told["seconds"], before_s=told["before_s"])


def main(file: str, name: str, language: str) -> None:
    """Print one draft as JSON."""
    import torch  # noqa: F401  # before the clock is read

    from benchmarks.specs import collect
    from kevolve.operators import traced

    spec = collect(folder=Path(file))[name]
    began = time.perf_counter()
    traced(spec, "cpu")()
    before_s = time.perf_counter() - began
    timed = timed_draft(spec, language)
    print(json.dumps(dict(draft=asdict(timed.draft), seconds=timed.seconds, before_s=before_s)))


if __name__ == "__main__":
    main(*sys.argv[1:])
