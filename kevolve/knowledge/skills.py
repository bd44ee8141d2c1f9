"""What a run taught, as short documents: moves that made a kernel faster than its parent, and those that did not.

Only measured gains count: a child and its parent that both work and were both timed on the same cases. A move that was seen before
is merged into its document, whose statistics decide how high it stands (``standing``).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from kevolve.evaluate.statistics import geometric_mean, interval
from kevolve.files import write_atomically
from kevolve.knowledge.diagnosis import diagnose
from kevolve.knowledge.documents import Document, read_tree
from kevolve.search.node import Graph, Node
from kevolve.search.policies import Step
from kevolve.spec.spec import Spec

NOISE = 1.05  # two quick timings of equal kernels differ by less
MOST_SEEN = 24  # uses that a document lists
_MOST_OF_A_RUN = 6
_WORDS_OF_A_NAME = 7
_TEMPLATE = Path(__file__).with_name("skill.md.jinja")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One measured use of a move. ``gain``: of the parent's fitness; ``low``, ``high``: its interval over cases, of several."""

    spec: str
    target: str
    run: str  # of which run and when, so that nothing is counted twice
    node: int
    parent: int
    gain: float
    low: float | None
    high: float | None
    date: str

    @property
    def shown(self) -> str:
        """``1.31x [1.20, 1.43]``."""
        return f"{self.gain:.2f}x" + (f" [{self.low:.2f}, {self.high:.2f}]" if self.low is not None and self.high is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """A move and what became of it."""

    id: str  # "skills/…"
    title: str
    vendor: str
    language: str
    families: tuple[str, ...]
    bottlenecks: tuple[str, ...]
    move: str
    hypothesis: str
    before: str
    toolchain: str
    seen: tuple[Use, ...]

    @property
    def gain(self) -> float:
        """The geometric mean over uses."""
        return geometric_mean(use.gain for use in self.seen)

    @property
    def agreeing(self) -> int:
        """Uses that point where the mean does: faster, slower or neither."""
        return sum(_direction(use.gain) == _direction(self.gain) for use in self.seen)


def distil(
    graph: Graph,
    *,
    spec: Spec,
    run: int,
    device: Mapping[str, Any],
    facts: Mapping[str, Any],
    families: Sequence[str],
    toolchain: str,
    today: date,
    existing: Iterable[Document] = (),
    noise: float = NOISE,
) -> dict[str, str]:
    """The documents to write after ``run``: texts by id, the run's best and worst moves, merged into ``existing`` skills. Pure.

    ``device``, ``facts``, ``families``: as for ``diagnose``. A gain between 1/``noise`` and ``noise`` says "did not help".
    """
    known = {document.id: read_skill(document) for document in existing if document.provenance.get("seen")}
    nodes = {node.id: node for node in graph.nodes}
    found: dict[str, Skill] = {}
    for node in graph.nodes:
        parent = _timed_parent(node, nodes)
        if node.run != run or parent is None:
            continue
        skill = _skill(graph, node, parent, spec=spec, device=device, facts=facts, families=families, toolchain=toolchain, today=today)
        before = found.get(skill.id) or known.get(skill.id)
        found[skill.id] = skill if before is None else _merged(before, skill)
    chosen = sorted(found.values(), key=lambda skill: -abs(math.log(skill.gain)))
    helped = [skill for skill in chosen if _direction(skill.gain, noise) > 0][:_MOST_OF_A_RUN]
    others = [skill for skill in chosen if _direction(skill.gain, noise) <= 0]
    # a skill that is written already is brought up to date, whatever became of it
    wanted = {skill.id: skill for skill in (*helped, *others[: _MOST_OF_A_RUN // 2], *(skill for skill in chosen if skill.id in known))}
    return {id: rendered(skill, noise) for id, skill in sorted(wanted.items())}


def write(folder: Path, documents: Mapping[str, str]) -> list[Path]:
    """Write what ``distil`` gave below ``folder`` (``knowledge/skills`` of a repository); the paths."""
    paths = []
    for id, text in documents.items():
        paths.append(folder / f"{id.removeprefix('skills/')}.md")
        write_atomically(paths[-1], text)
    return paths


def existing(folder: Path) -> list[Document]:
    """The skills that stand in ``folder``; none where there is no such folder. Raises ``BadDocument``."""
    return read_tree(folder, below="skills/") if folder.is_dir() else []


# --- from nodes to skills ---


def _timed_parent(node: Node, nodes: Mapping[int, Node]) -> Node | None:
    """The fittest parent, where both were timed on the same cases."""
    parents = [nodes[number] for number in node.proposal.parents if number in nodes]
    parent = max(parents, key=lambda parent: parent.fitness, default=None)
    if parent is None or min(node.fitness, parent.fitness) <= 0 or not (node.works and parent.works):
        return None
    return parent if _speedups(node).keys() == _speedups(parent).keys() else None


def _speedups(node: Node) -> Mapping[str, float]:
    found = node.outcome.detail.get("speedups")
    return found if isinstance(found, Mapping) else {}


def _skill(
    graph: Graph,
    node: Node,
    parent: Node,
    *,
    spec: Spec,
    device: Mapping[str, Any],
    facts: Mapping[str, Any],
    families: Sequence[str],
    toolchain: str,
    today: date,
) -> Skill:
    proposal = node.proposal
    step = Step(parents=(parent.id,), memory="parent")
    began = diagnose(graph, step, spec=spec, language=proposal.language, device=device, facts=facts, families=families)
    move = _move(node, parent)
    return Skill(
        id=f"skills/{_name(proposal.language, began.vendor, move)}",
        title=f"{move[:1].upper()}{move[1:]} ({proposal.language})"[:110],
        vendor=began.vendor,
        language=proposal.language,
        families=tuple(families),
        bottlenecks=began.bottlenecks[:2],
        move=move,
        hypothesis=" ".join(proposal.hypothesis.split()),
        before=" ".join(began.summary.split()),
        toolchain=toolchain,
        seen=(_use(node, parent, today),),
    )


def _move(node: Node, parent: Node) -> str:
    """What was changed: knobs of one family by name and value, else the idea."""
    mine, theirs = node.proposal.knobs, parent.proposal.knobs
    if node.proposal.family and node.proposal.family == parent.proposal.family and mine.keys() == theirs.keys():
        changed = [f"{name} {theirs[name]} to {mine[name]}" for name in mine if mine[name] != theirs[name]]
        if changed:
            return f"{node.proposal.family}: {', '.join(changed)}"
    return " ".join(node.proposal.idea.split()) or "a change without a name"


def _name(language: str, vendor: str, move: str) -> str:
    """A file's name for the move: its first words, and a digest of all that tells it from others."""
    words = re.findall(r"[a-z0-9]+", move.lower())
    digest = hashlib.sha256(f"{language} {vendor} {' '.join(words)}".encode()).hexdigest()[:6]
    return "-".join((language, *words[:_WORDS_OF_A_NAME], digest))


def _use(node: Node, parent: Node, today: date) -> Use:
    mine, theirs = _speedups(node), _speedups(parent)
    ratios = [math.log(mine[case] / theirs[case]) for case in mine if mine[case] > 0 and theirs[case] > 0]
    over_cases = interval(ratios) if len(ratios) > 2 else None  # of two, Student's interval says nothing
    return Use(
        spec=node.spec,
        target=node.target,
        run=f"{node.run} of {node.created[:10]}",
        node=node.id,
        parent=parent.id,
        gain=round(node.fitness / parent.fitness, 4),
        low=round(over_cases.low, 4) if over_cases else None,
        high=round(over_cases.high, 4) if over_cases else None,
        date=today.isoformat(),
    )


def _merged(before: Skill, now: Skill) -> Skill:
    """One skill with the uses of both, each once, the latest kept; the words are the first's, the toolchain the latest."""
    uses = {(use.spec, use.target, use.run, use.node): use for use in (*before.seen, *now.seen)}
    families = tuple(dict.fromkeys((*before.families, *now.families)))
    seen = tuple(sorted(uses.values(), key=lambda use: (use.date, use.node)))[-MOST_SEEN:]
    return replace(before, seen=seen, families=families, toolchain=now.toolchain, hypothesis=before.hypothesis or now.hypothesis)


def _direction(gain: float, noise: float = NOISE) -> int:
    return 1 if gain >= noise else -1 if gain <= 1 / noise else 0


# --- skills as documents ---


def rendered(skill: Skill, noise: float = NOISE) -> str:
    """The Markdown with its front matter."""
    import yaml

    gains = [use.gain for use in skill.seen]
    verdict = {1: "It helped:", 0: "It did not help:", -1: "It made the kernel slower:"}[_direction(skill.gain, noise)]
    text = _template().render(
        verdict=verdict,
        uses=len(gains),
        gain=f"{skill.gain:.2f}x",
        least=f"{min(gains):.2f}x",
        greatest=f"{max(gains):.2f}x",
        move=skill.move,
        hypothesis=skill.hypothesis,
        before=skill.before,
        seen=skill.seen,
        toolchain=skill.toolchain,
    )
    front = yaml.safe_dump(_front(skill, verdict), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n{text.strip()}\n"


def _front(skill: Skill, verdict: str) -> dict[str, Any]:
    first = skill.seen[0]
    return {
        "title": ("" if verdict.startswith("It helped") else "Did not help: ") + skill.title,
        "vendor": skill.vendor or "any",
        "architectures": [],
        "languages": [skill.language],
        "families": list(skill.families),
        "topic": "skill",
        "bottlenecks": list(skill.bottlenecks),
        "phases": ["draft", "optimise"],
        "source": f"run {first.run}, {first.spec} on {first.target}",
        "evidence": "measured",
        "provenance": {
            "uses": len(skill.seen),
            "agreeing": skill.agreeing,
            "gain": round(skill.gain, 4),
            "last_seen": skill.seen[-1].date,
            "move": skill.move,
            "hypothesis": skill.hypothesis,
            "before": skill.before,
            "toolchain": skill.toolchain,
            "seen": [{name: value for name, value in asdict(use).items() if value is not None} for use in skill.seen],
        },
    }


def read_skill(document: Document) -> Skill:
    """The skill that ``rendered`` wrote. Raises ``KeyError`` or ``TypeError`` where somebody took a field of its provenance away."""
    provenance = document.provenance
    uses = tuple(Use(**{"low": None, "high": None, **use, "date": str(use["date"])}) for use in provenance["seen"])
    return Skill(
        id=document.id,
        title=document.title.removeprefix("Did not help: "),
        vendor=document.vendor[0] if document.vendor else "",
        language=document.languages[0] if document.languages else "",
        families=document.families,
        bottlenecks=document.bottlenecks,
        move=str(provenance["move"]),
        hypothesis=str(provenance.get("hypothesis", "")),
        before=str(provenance.get("before", "")),
        toolchain=str(provenance.get("toolchain", "")),
        seen=uses,
    )


@cache
def _template() -> Any:
    import jinja2

    return jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(_TEMPLATE.read_text(encoding="utf-8"))  # noqa: S701  Markdown, not HTML
