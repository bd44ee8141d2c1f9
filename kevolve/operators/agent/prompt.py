"""Prompt synthesis: from a step's context to named sections within their budgets, the stable ones first. Rendering is pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kevolve.languages import Language
from kevolve.languages.guide import guide
from kevolve.models import Tool
from kevolve.operators import tune_lines
from kevolve.operators.agent.memory import Recalled
from kevolve.operators.agent.outcomes import figures_text, outcome_text, step_line
from kevolve.operators.agent.sections import Fitted, Section, fenced, fit, one_line
from kevolve.search.node import Graph, Node

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
# Tokens a section. A prompt is at most their sum, about 24,000, and commonly a third of it.
BUDGETS = {
    "rules": 1_000,
    "spec": 2_500,
    "language": 2_000,
    "hardware": 600,
    "times": 600,
    "knowledge": 4_500,
    "diagnosis": 800,
    "history": 1_500,
    "kernel": 9_000,
    "other kernels": 6_000,
    "failure": 1_500,
    "task": 300,
}
STABLE = ("rules", "spec", "language", "hardware")  # the same for every step of a search: what a model's prompt cache lives on


# How a model answers: by tools, by fenced blocks in a reply, or in a folder of its own.
Mode: TypeAlias = Literal["tools", "blocks", "workspace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What is told of a document."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """All that a prompt is made of, as plain values. ``spec``: ``described.facts_of``; ``facts``: ``Context.facts``."""

    spec: Mapping[str, Any]
    target: str
    language: Language
    facts: Mapping[str, Any]
    graph: Graph
    recalled: Recalled
    sources: Mapping[str, str]  # by source_hash
    knowledge: Sequence[Excerpt] = ()
    diagnosis: str = ""
    mode: Mode = "tools"
    left: str = ""  # the budget of the conversation, in words
    documents: bool = False  # whether there are any to look into
    times: bool = True  # whether kernels can be timed while the conversation lasts
    launched: bool = False  # whether a device of its own runs what the host launches


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model is sent: ``system`` is stable over the steps of a search, ``text`` is this step's."""

    system: str
    text: str
    sections: tuple[Fitted, ...]

    @property
    def tokens(self) -> int:
        """Estimated."""
        return sum(section.tokens for section in self.sections)


def synthesise(made_of: Ingredients, budgets: Mapping[str, int] = BUDGETS) -> Prompt:
    """The prompt of one step; a section without contents is left out, one over its budget is cut visibly."""
    fitted = tuple(fit(section) for section in _sections(made_of, budgets) if section.text.strip())
    stable = [section.text for section in fitted if section.name in STABLE]
    rest = [section.text for section in fitted if section.name not in STABLE]
    return Prompt(system="\n\n".join(stable) + "\n", text="\n\n".join(rest) + "\n", sections=fitted)


def spec_text(spec: Mapping[str, Any]) -> str:
    """The whole spec, uncut."""
    texts = {name: fenced(spec[name], "python") if spec[name] else "" for name in ("reference", "made_by")}
    return render("spec.md.jinja", **{**spec, **texts})


@cache
def tools() -> tuple[Tool, ...]:
    """The tools that a model may be offered, from their file."""
    return tuple(Tool(**declared) for declared in json.loads((TEMPLATES / "tools.json").read_text(encoding="utf-8")))


def render(template: str, **values: Any) -> str:
    """A template of ours with ``values``; a value that the template names and nobody gave is an error."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    """Jinja as the templates expect it; imported late, because the plugin's import must stay cheap."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701 - the output is Markdown for a model, not HTML
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )


# How the reader gets at what was cut, by mode and section.
_REST: Mapping[str, Mapping[str, str]] = {
    "tools": {"spec": "read_spec gives all of it", "kernel": "read_kernel gives all of it", "knowledge": "read_knowledge gives a document"},
    "blocks": {"spec": "", "kernel": "an edit may name only what is shown", "knowledge": ""},
    "workspace": {"spec": "SPEC.md has all of it", "kernel": "the file has all of it", "knowledge": "knowledge/ has all of them"},
}


def _sections(made_of: Ingredients, budgets: Mapping[str, int]) -> list[Section]:
    """Every section before it is fitted, in the order in which they are sent."""
    rest = _REST[made_of.mode]
    texts: list[tuple[str, str, str]] = [
        ("rules", _rules(made_of), ""),
        ("spec", spec_text(made_of.spec), rest["spec"]),
        ("language", render("language.md.jinja", name=made_of.language.name, guide=guide(made_of.language)), ""),
        ("hardware", _hardware(made_of), ""),
        ("times", _times(made_of), ""),
        ("knowledge", _knowledge(made_of), rest["knowledge"]),
        ("diagnosis", render("diagnosis.md.jinja", text=made_of.diagnosis) if made_of.diagnosis else "", ""),
        ("history", _history(made_of), ""),
        ("kernel", _kernel(made_of), rest["kernel"]),
        ("other kernels", "\n\n".join(_shown(made_of, node, f"Another parent: step #{node.id}") for node in made_of.recalled.others), ""),
        ("failure", _failure(made_of), ""),
        ("task", _task(made_of), ""),
    ]
    both = ("failure",)
    return [
        Section(name=name, text=text, budget=budgets[name], keep="both" if name in both else "head", rest=left_out)
        for name, text, left_out in texts
    ]


def _knowledge(made_of: Ingredients) -> str:
    if not made_of.knowledge:
        return ""
    shortened = any("[…]" in document.text for document in made_of.knowledge)
    return render("knowledge.md.jinja", documents=made_of.knowledge, whole=_REST[made_of.mode]["knowledge"] if shortened else "")


def _rules(made_of: Ingredients) -> str:
    device = made_of.facts.get("device", {})
    return render(
        "rules.md.jinja",
        language=made_of.language.name,
        device=device.get("name") or f"the target {made_of.target}",
        baseline=made_of.spec["baseline"][0],
        allow=made_of.spec["allow"],
        launched=made_of.launched,
        outlined=hasattr(made_of.language, "outline"),
        mode=made_of.mode,
        documents=made_of.documents,
        times=made_of.times,
        suffix=made_of.language.suffix,
        fence=fence_of(made_of.language),
        example=(TEMPLATES / "example.txt").read_text(encoding="utf-8").strip(),
    )


def fence_of(language: Language) -> str:
    """The info string of a block in the language."""
    return "python" if language.suffix == ".py" else language.name


def info_words(language: Language) -> frozenset[str]:
    """The info strings, lower case, that stand for the language in a reply."""
    family = {"python", "py"} if language.suffix == ".py" else {"cpp", "c++", "cc", "cxx", "c"} if language.comment == "//" else set[str]()
    return frozenset({language.name.lower(), language.suffix.lstrip(".").lower(), *family})


def _hardware(made_of: Ingredients) -> str:
    facts = made_of.facts
    device, peaks = facts.get("device", {}), facts.get("peaks", {})
    if not device and not peaks:
        return ""
    empty = peaks.get("empty_call_us")
    return render(
        "hardware.md.jinja",
        device=[f"- {name}: {one_line(str(value), 160)}" for name, value in device.items()],
        bandwidth=[f"{_bytes(size)} {rate / 1e9:,.0f} GB/s" for size, rate in _few(peaks.get("bandwidth", ()))],
        operations=[f"{name} {rate / 1e12:.3g} Tops/s" for name, rate in peaks.get("operations", {}).items()],
        random=[f"{_bytes(size)} {rate / 1e6:,.0f} M/s" for size, rate in _few(peaks.get("random_accesses", ()))],
        empty_call=f"{empty:.3g} us" if empty else "",
    )


def _times(made_of: Ingredients) -> str:
    """What is measured of the cases: it grows while a search runs, and is no part of the stable prefix."""
    known = made_of.facts.get("cases", {})
    columns = {"baseline_us": f"{made_of.spec['baseline'][0]} (us)", "floor_us": "speed of light (us)", "bound": "which is"}
    said = {name: title for name, title in columns.items() if any(each.get(name) for each in known.values())}
    rows = [
        [f"`{case}`", *(each.get(name) or "unknown" if name == "bound" else _us(each.get(name)) for name in said)]
        for case, each in known.items()
        if each
    ]
    return render("times.md.jinja", titles=["case", *said.values()], rows=rows) if rows else ""


def _us(value: float | None) -> str:
    return "unknown" if not value else f"{value:.4g}"


def _few(points: Sequence[Sequence[float]], most: int = 6) -> list[Sequence[float]]:
    """At most ``most`` points of a curve, both ends among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def _bytes(size: float) -> str:
    for unit, scale in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << scale:
            return f"{size / (1 << scale):.3g} {unit}"
    return f"{size:.0f} B"


def _history(made_of: Ingredients) -> str:
    recalled = made_of.recalled
    named = (("The way to the parent", recalled.ancestors), ("Tried from the same parent", recalled.siblings))
    groups = [{"title": title, "steps": [step_line(node, made_of.graph) for node in nodes]} for title, nodes in named if nodes]
    return render("history.md.jinja", baseline=made_of.spec["baseline"][0], groups=groups) if groups else ""


def _kernel(made_of: Ingredients) -> str:
    base = made_of.recalled.base
    return _shown(made_of, base, f"The kernel: step #{base.id}") if base is not None else ""


def _shown(made_of: Ingredients, node: Node, title: str) -> str:
    figures = figures_text(node.fitness, node.outcome.detail, made_of.facts, made_of.spec["baseline"][0]) if node.fitness > 0 else ""
    source = source_of(node, made_of.sources)
    warning = tune_lines.warning(source, made_of.language)
    return render("kernel.md.jinja", title=title, figures=figures, warning=warning, source=fenced(source, fence_of(made_of.language)))


def source_of(node: Node, sources: Mapping[str, str]) -> str:
    """The text of a node, from the artifacts where it is not with it."""
    return node.proposal.source or sources.get(node.source_hash, "")


def _failure(made_of: Ingredients) -> str:
    failed = made_of.recalled.failed
    if failed is None:
        return ""
    if failed.outcome.message or not failed.proposal.problem:
        text = outcome_text(failed.outcome)
    else:
        text = failed.proposal.problem
    title = "The last step from here gave no kernel" if failed.proposal.problem else f"How step #{failed.id} fails"
    return render("failure.md.jinja", title=f"{title}", text=fenced(text))


def _task(made_of: Ingredients) -> str:
    recalled = made_of.recalled
    return render(
        "task.md.jinja",
        kind=recalled.kind,
        parent_fitness=recalled.fitness,
        baseline=made_of.spec["baseline"][0],
        mode=made_of.mode,
        left=made_of.left,
        has_kernel=recalled.base is not None,
    )
