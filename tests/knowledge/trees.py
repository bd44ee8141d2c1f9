"""Small trees of documents, nodes and specs for these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.search.node import Node, Proposal
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec

FRONT = {
    "title": "A title",
    "vendor": "any",
    "architectures": "[]",
    "languages": "[]",
    "families": "[]",
    "topic": "optimisation",
    "bottlenecks": "[memory]",
    "phases": "[]",
    "source": "https://example.org/manual",
    "evidence": "sample",
}


def document(text: str = "Some text.", **fields: str) -> str:
    head = "\n".join(f"{name}: {value}" for name, value in (FRONT | fields).items())
    return f"---\n{head}\n---\n{text}\n"


def write(folder: Path, **documents: str) -> Path:
    """Files by id, with ``__`` for a slash."""
    for name, text in documents.items():
        path = folder / (name.replace("__", "/").replace("_", "-") + ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def spec(name: str = "rms_norm", cases: tuple[str, ...] = ("large", "small")) -> Spec:
    return Spec(
        name=name,
        nodeid=f"suites/test_x.py::test_{name}",
        folder=Path(),
        describe=lambda: (),
        reference=Reference(module="m", qualname=name, file=Path("m.py"), inputs=("x",)),
        cases=tuple(Case(id=case, values={}) for case in cases),
        vary={},
        choices={},
        hash="0",
        min_speedup=1.5,
    )


def node(number: int, status: Status = Status.PASSED, *, stage: Stage = Stage.QUICK, fitness: float = 0.0, **fields: Any) -> Node:
    """``message``, ``detail`` and ``source`` go to the outcome and the proposal; other fields are the proposal's."""
    message, detail, source = fields.pop("message", ""), fields.pop("detail", {}), fields.pop("source", "")
    proposal = Proposal(**{"language": "triton", "source": source, "operator": "model", "idea": f"idea {number}", **fields})
    return Node(
        id=number,
        run=1,
        spec="suites/test_x.py::test_rms_norm",
        spec_hash="0",
        target="cpu: x",
        proposal=proposal,
        source_hash=f"s{number}",
        normal_hash=f"n{number}",
        outcome=Outcome(status=status, stage=stage, message=message, detail=detail),
        fitness=fitness,
        seconds=1.0,
        created="2026-11-21T00:00:00+00:00",
    )
