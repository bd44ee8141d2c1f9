"""The operator ``lowering``: a first kernel for any reference, printed from its traced graph. It needs no sample and no model."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kevolve.search.node import Proposal

if TYPE_CHECKING:
    from kevolve.operators import Context
    from kevolve.search.step import Step
    from kevolve.spec.spec import Spec

LIBRARY = {"cpp": False, "triton": True}  # the languages that are printed, and whether their kernels can call a library's operators

_lock = threading.Lock()  # a trace replaces functions of torch meanwhile: one at a time
_known: dict[tuple[str, str, str], Draft] = {}  # by node id, hash and language


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A printed kernel, or in ``problem`` why there is none; ``trace`` is the traceback where that is a fault of ours."""

    source: str = ""
    idea: str = ""
    problem: str = ""
    trace: str = ""


class Lowering:
    """Drafts the kernel that the reference's graph is lowered to, once; nothing for an expansion."""

    name = "lowering"

    def propose(self, context: Context, step: Step, count: int) -> list[Proposal]:
        """The draft, or a step without a candidate that says why; nothing where the graph holds either already."""
        if step.parents or count < 1 or context.language not in LIBRARY:
            return []
        made = drafted(context.spec, context.language)
        nodes = [node for node in context.graph.nodes if node.proposal.language == context.language]
        if any(node.proposal.source == made.source and node.proposal.problem == made.problem for node in nodes):
            return []
        return [
            Proposal(
                language=context.language,
                source=made.source,
                operator=self.name,
                idea=made.idea,
                memory=step.memory,
                problem=made.problem,
            )
        ]


def drafted(spec: Spec, language: str) -> Draft:
    """The draft of a spec's reference in one of ``LIBRARY``'s languages, made once a process. Thread-safe."""
    key = (spec.nodeid, spec.hash, language)
    with _lock:
        if key not in _known:
            _known[key] = _drafted(spec, language)
        return _known[key]


def _drafted(spec: Spec, language: str) -> Draft:
    from kevolve.operators.lowering.capture import Uncovered
    from kevolve.operators.lowering.printing import Unprintable

    try:
        with _quiet():
            source = _printed(spec, language)
    except (Uncovered, Unprintable) as reason:
        return Draft(idea="no draft", problem=f"lowering: {reason}")
    except Exception as error:  # noqa: BLE001  # a fault of ours: other operators go on, and the user can tell us
        last = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"lowering failed: {type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno}); a fault of kevolve's"
        return Draft(idea="no draft", problem=problem, trace="".join(traceback.format_exception(error)))
    return Draft(source=source, idea=f"lowered: {_idea(source)}")


def _printed(spec: Spec, language: str) -> str:
    """Trace, lower, print. Torch is imported here, with the tracer."""
    from importlib import import_module

    from kevolve.operators.lowering.expression import forget
    from kevolve.operators.lowering.lower import lower

    library = LIBRARY[language]
    try:
        forward = lower(spec, library=library)
        backward = lower(spec, backward=True, library=library) if spec.grad else None
        text: str = import_module(f"kevolve.operators.lowering.{language}.printer").source(forward, backward)
    finally:
        forget()  # a session of hundreds of specs would hold the expressions of all
    return text


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the journal that torch's tracer keeps for its own tools: pytest would show a failing test's user every line."""
    journal = logging.getLogger("torch.__trace")
    before, journal.disabled = journal.disabled, True
    try:
        yield
    finally:
        journal.disabled = before


def _idea(source: str) -> str:
    """What the printer wrote at the head of the file."""
    from kevolve.search.header import read

    comment = "#" if source.startswith("#") else "//"
    return read(source, comment).get("idea", ["the reference's graph"])[0]
