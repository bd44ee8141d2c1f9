"""A small spec with its reference in a module of its own, candidates for it, and results that nobody measured."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.report.record import Environment
from kevolve.search.node import Proposal
from kevolve.spec.declaration import build_spec
from kevolve.spec.spec import Case, Spec
from kevolve.spool import round as round_file
from kevolve.spool.results import JobResult, Results
from kevolve.spool.shelf import Sent
from tests.plain_kernel import NORMALISE

REFERENCE = """
import torch

from carried_constants import EPS

def normalise(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight
"""
SPEC = """
import kevolve, pytest
from kevolve import Tensor, sizes
from carried_reference import normalise

@kevolve.kernel(normalise, min_speedup=0.001, baseline=("eager",), vary=dict(rows=sizes(0, 8), cols=sizes(1, 40)))
@pytest.mark.parametrize("rows, cols", [(64, 512)])
def test_normalise(rows, cols):
    return Tensor(rows, cols), Tensor(cols)
"""
CASES = (Case(id="64-512", values={"rows": 64, "cols": 512}),)
MODULES = ("carried_constants", "carried_reference", "carried_spec")
WRONG = NORMALISE.replace("1e-6", "0.5")
BROKEN = NORMALISE.replace("double sum = 0;", "double sum = nothing;")
DEVICE = {"name": "a device", "arch": "a1"}


def write(folder: Path) -> None:
    (folder / "carried_constants.py").write_text("EPS = 1e-6\n")
    (folder / "carried_reference.py").write_text(REFERENCE)
    (folder / "carried_spec.py").write_text(SPEC)


@contextmanager
def declared(folder: Path) -> Iterator[Spec]:
    """The spec, as pytest would have collected it from ``folder``."""
    write(folder)
    sys.path.insert(0, str(folder))
    try:
        yield build_spec(importlib.import_module("carried_spec").test_normalise, nodeid="carried_spec.py::test_normalise", cases=CASES)
    finally:
        sys.path.remove(str(folder))
        for name in MODULES:
            sys.modules.pop(name, None)


def build() -> Spec:
    """The spec, its files on ``sys.path``."""
    function = importlib.import_module("carried_spec").test_normalise
    return build_spec(function, nodeid="carried_spec.py::test_normalise", cases=CASES)


def proposal(source: str = NORMALISE, **fields) -> Proposal:
    return Proposal(**{"language": "cpp", "source": source, "operator": "test", "idea": source[:8], **fields})


def answer(sent: Sent, *, device: dict[str, str] = DEVICE, statuses: dict[str, Status] | None = None) -> None:
    """Leave results as ``kevolve evaluate`` would; a candidate's speedup is its length."""
    asked = round_file.read(sent.path)
    found = []
    for identity, job in zip(asked.round.identities, asked.round.jobs, strict=True):
        status = (statuses or {}).get(job.source, Status.PASSED)
        stage = Stage.QUICK if job.kind == "quick" else Stage.PROPERTIES
        fitness = float(len(job.source)) if job.kind == "quick" and status is Status.PASSED else 0.0
        found.append(JobResult(job=identity, outcome=Outcome(status=status, stage=stage, message="said"), fitness=fitness, seconds=1.5))
    results = Results(round=asked.sha256, environment=environment(device), device=device, results=tuple(found))
    sent.results.write_bytes(results.packed())


def environment(device: dict[str, str] = DEVICE) -> Environment:
    return Environment(device=device["name"], arch=device["arch"], date="2026-01-01T00:00:00+00:00")


def changed(content: bytes, **fields) -> bytes:
    """A manifest's JSON with fields replaced."""
    return json.dumps({**json.loads(content), **fields}).encode()
