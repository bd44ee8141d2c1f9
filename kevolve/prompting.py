"""``kevolve prompt TEST``: what a model would be sent for the next step of a spec's search. No kernel is run and no model asked.

The specs are collected by pytest in a process of its own (``--kevolve-prompt``), which leaves what it rendered in a file.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kevolve.operators.agent.prompt import Mode, Prompt
    from kevolve.run import Run
    from kevolve.search.node import Graph
    from kevolve.search.policies import Step
    from kevolve.spec.spec import Spec

DONE, FAILED = 0, 2
_TAIL_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The prompt of one spec's next step. ``sections``: name, tokens, budget and left_out of each."""

    spec: str
    step: str
    system: str
    text: str
    sections: tuple[Mapping[str, Any], ...]


class Unrenderable(Exception):
    """A prompt that cannot be made; the message says why."""


def render(run: Run, spec: Spec) -> Rendered:
    """The prompt for the next step of ``spec`` in ``run``: a draft, or an expansion of the best node that the store has.

    Raises ``Unrenderable``.
    """
    from kevolve.modelled import skills_of
    from kevolve.operators import Context
    from kevolve.operators.agent import Agent
    from kevolve.operators.agent.retrieval import UnusableKnowledge, retrieval
    from kevolve.operators.trace import trace_reference

    languages = run.languages(spec)
    if not languages:
        raise Unrenderable(f"{spec.nodeid}: expected a language that it may be written in on target {run.target.name}, got none")
    graph, language = _graph(run, spec), languages[0].name
    step = next_step(graph, language)
    context = Context(
        spec=spec,
        trace=trace_reference(spec, target=run.target.name),
        target=run.target.name,
        language=language,
        graph=graph,
        sources={node.source_hash: node.proposal.source for node in graph.nodes},
        random=random.Random(0),
        facts=_facts(run),
    )
    try:
        library, diagnose = retrieval(run.settings.knowledge, run.cache, skills=skills_of(run.settings), today=date.today())
    except UnusableKnowledge as error:
        raise Unrenderable(str(error)) from error
    sent = Agent(library=library, diagnose=diagnose).prompt(context, step, mode=mode_of(run.settings.models))
    return _rendered(spec, step, language, sent)


def next_step(graph: Graph, language: str) -> Step:
    """What a greedy search would do next: expand the best node of ``language``, else draft."""
    from kevolve.search.policies import Step

    best = graph.best(language)
    return Step(parents=()) if best is None else Step(parents=(best.id,), memory="both")


def mode_of(models: Sequence[str]) -> Mode:
    """How the first of ``models`` answers, as a user wrote it; by tools where none is given."""
    first = models[0] if models else ""
    if first.startswith("command:"):
        return "workspace" if "{workspace}" in first else "blocks"
    return "blocks" if "#tools=no" in first.replace(" ", "") else "tools"


def _rendered(spec: Spec, step: Step, language: str, sent: Prompt) -> Rendered:
    sizes = tuple({name: value for name, value in asdict(part).items() if name != "text"} for part in sent.sections)
    told = f"expansion of step #{step.parents[0]}, memory {step.memory}" if step.parents else "draft"
    return Rendered(spec=spec.nodeid, step=f"{told}, in {language}", system=sent.system, text=sent.text, sections=sizes)


def _graph(run: Run, spec: Spec) -> Graph:
    """What earlier searches on this device left; the store is opened only where there is one."""
    from kevolve.search.node import Graph

    if not (run.settings.store / "kevolve.db").exists():
        return Graph.of(())
    from kevolve.store.graph_store import GraphStore

    with GraphStore(run.settings.store) as store:
        return Graph.of(store.nodes(spec.nodeid, f"{run.target.name}: {run.target.device()['name']}", spec_hash=spec.hash))


def _facts(run: Run) -> dict[str, Any]:
    """The device, and its peaks where it is here; no case is timed."""
    from kevolve.targets.peaks import to_json

    device = dict(run.target.device())
    return {"device": device} if run.target.missing() is not None else {"device": device, "peaks": to_json(run.peaks)}


# -- between the two processes ---------------------------------------------------------------------------------------------------


def write(rendered: Sequence[Rendered], file: Path) -> None:
    """Leave prompts for the command that started this process."""
    file.write_text(json.dumps([asdict(each) for each in rendered], ensure_ascii=False), encoding="utf-8")


def read(file: Path) -> list[Rendered]:
    """What ``write`` left."""
    return [Rendered(**fields) for fields in json.loads(file.read_text(encoding="utf-8"))]


def lines(rendered: Rendered) -> list[str]:
    """The sections with their token counts, for a person."""
    told = [f"{rendered.spec}: {rendered.step}"]
    for part in rendered.sections:
        left_out = f", {part['left_out']} cut" if part["left_out"] else ""
        told.append(f"  {part['name']:<14}{part['tokens']:>7} of {part['budget']:>6} tokens{left_out}")
    return [*told, f"  {'all':<14}{sum(part['tokens'] for part in rendered.sections):>7} tokens (estimated)"]


# -- the command -----------------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="kevolve prompt",
        description="Print what a model would be sent for the next step of a spec's search: a draft, or an expansion of the best kernel "
        "so far. Sections and their tokens go to standard error. No kernel is run, no model is asked.",
    )
    made.add_argument("test", metavar="TEST", help="a spec's node id or test file: tests/test_norms.py::test_rms_norm")
    for name, text in (
        ("target", "where kernels run"),
        ("language", "the language of the kernel"),
        ("model", "how its model is told to answer"),
    ):
        made.add_argument(f"--{name}", metavar="NAME", help=text)
    made.add_argument(
        "--knowledge", action="append", default=[], metavar="DIR", help="documents of one's own; repeatable; none: no documents"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 2 where nothing could be rendered (pytest's words are on standard error)."""
    given = parser().parse_args(arguments)
    options = [f"--kevolve-{name}={value}" for name in ("target", "language", "model") if (value := getattr(given, name))]
    options += [f"--kevolve-knowledge={folder}" for folder in given.knowledge]
    with tempfile.TemporaryDirectory(prefix="kevolve-prompt-") as folder:
        file = Path(folder) / "prompts.json"
        command = [sys.executable, "-m", "pytest", given.test, f"--kevolve-prompt={file}", *options, "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = read(file) if done.returncode == 0 and file.exists() else []
    if not found:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-_TAIL_LINES:])
        sys.stderr.write(f"kevolve prompt: expected a kernel spec, got none from {given.test}; pytest says:\n{said}\n")
        return FAILED
    for rendered in found:
        sys.stderr.write("\n".join(lines(rendered)) + "\n")
        sys.stdout.write(f"{rendered.system}\n{rendered.text}")
    return DONE
