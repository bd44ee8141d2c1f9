"""Prompts: the sections, what each memory mode shows, cutting in the open, and whole prompts as snapshots.

To take the snapshots anew: ``KEVOLVE_SNAPSHOTS=write pytest tests/operators/agent/test_agent_prompt.py``, then read the difference.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.operators.agent import Agent, prompt
from kevolve.operators.agent.memory import recall
from kevolve.operators.agent.prompt import BUDGETS, STABLE, Prompt
from kevolve.operators.agent.sections import Section, cut, estimate, fenced, fit, one_line
from kevolve.search.node import Graph
from kevolve.search.policies import Step
from tests.operators.scripted import FACTS, KERNEL, Plain, Scripted, context, failing, node

SNAPSHOTS = Path(__file__).parents[1] / "agent_snapshots"
GRAPH = (
    node(1, KERNEL, fitness=1.2),
    node(2, KERNEL + "int two;\n", parents=[1], fitness=1.5, predicted_gain=1.4, hypothesis="rows are read twice"),
    node(3, KERNEL + "int three;\n", parents=[2], outcome=failing(Status.INCORRECT_NUMERICAL, "output 0: 3 of 21 elements differ")),
    node(4, KERNEL + "int four;\n", parents=[2], fitness=1.1, predicted_gain=2.0, hypothesis="it waits for the divider"),
    node(5, "```edit\n```", parents=[1], outcome=failing(Status.NO_CANDIDATE, "not found", Stage.PROPOSE), problem="not found"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeDiagnosis:
    graph: Graph
    step: Step
    families: tuple[str, ...]
    tried: tuple[str, ...] = ("said elsewhere",)

    def render(self) -> str:
        return f"It waits for memory ({len(self.graph.nodes)} steps known). {' '.join(self.tried)}\n\nTo try:\n1. read every row once"


def diagnose(graph, step, *, spec, language, device, facts, families):
    assert (spec.name, language, device["arch"]) == ("rms_norm", "cpp", "sm90")
    return FakeDiagnosis(graph=graph, step=step, families=tuple(families))


class FakeLibrary:
    """One document that answers every question."""

    def __init__(self, text: str = "Hold a row in registers between two reductions.") -> None:
        self.document = SimpleNamespace(id="samples/normalisation/rows", title="A row in registers", text=text * 3)
        self.found = [SimpleNamespace(document=self.document, score=1.0, excerpt=text)]
        self.asked: list[object] = []

    def search(self, wanted, *, limit=5):
        self.asked.append(wanted)
        return self.found

    def find(self, words, *, scope=None, limit=5):
        self.asked.append((words, scope))
        return self.found if "row" in words else []

    def read(self, id):
        if id != self.document.id:
            raise KeyError(f"no document {id!r}: perhaps {self.document.id}")
        return self.document


def made(step: Step, nodes=GRAPH, mode="tools", *, agent: dict | None = None, **fields) -> Prompt:
    return Agent([Scripted()], **(agent or {})).prompt(context(nodes, **fields), step, mode=mode)


def section(of: Prompt, name: str) -> str:
    return next((part.text for part in of.sections if part.name == name), "")


WITH_KNOWLEDGE = {"library": FakeLibrary(), "diagnose": diagnose}
PROMPTS = {
    "draft-tools": lambda: made(Step(parents=()), agent=WITH_KNOWLEDGE),
    "draft-blocks": lambda: made(Step(parents=()), (), "blocks"),
    "improve-both": lambda: made(Step(parents=(2,), memory="both"), agent=WITH_KNOWLEDGE),
    "debug-blocks": lambda: made(Step(parents=(3,)), mode="blocks"),
    "combine-workspace": lambda: made(Step(parents=(2, 4), memory="siblings"), mode="workspace"),
    "restart-tools": lambda: made(Step(parents=(2,), memory="restart")),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_as_its_snapshot(name: str):
    sent = PROMPTS[name]()
    sizes = "\n".join(f"{part.name}: {part.tokens} of {part.budget} tokens" for part in sent.sections)
    text = f"{sizes}\n\n=== system ===\n\n{sent.system}\n=== message ===\n\n{sent.text}"
    file = SNAPSHOTS / f"{name}.txt"  # no .md: formatters would take it for their own
    if os.environ.get("KEVOLVE_SNAPSHOTS") == "write":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{name}: read the difference, then write it with KEVOLVE_SNAPSHOTS=write"


def test_the_stable_part_is_the_same_for_every_step_of_a_search():
    systems = {
        made(step, agent=WITH_KNOWLEDGE).system for step in (Step(parents=()), Step(parents=(2,), memory="both"), Step(parents=(3,)))
    }
    assert len(systems) == 1
    sent = made(Step(parents=(2,), memory="both"), agent=WITH_KNOWLEDGE)
    names = [part.name for part in sent.sections]
    assert names == [*STABLE, "times", "knowledge", "diagnosis", "history", "kernel", "task"]
    assert set(names) <= set(BUDGETS)


def test_times_that_become_known_change_nothing_of_the_stable_part():
    unmeasured = {name: value for name, value in FACTS.items() if name != "cases"}
    early, later = (made(Step(parents=()), facts=facts) for facts in (unmeasured, FACTS))
    assert early.system == later.system
    assert "| `small` | 900 | 300 |" in section(later, "times")
    assert "| `many` | 700 | unknown |" in section(later, "times")
    assert section(early, "times") == ""


@pytest.mark.parametrize("step", [Step(parents=()), Step(parents=(), memory="restart"), Step(parents=(2,), memory="restart")])
def test_drafts_and_restarts_are_told_of_no_other_step(step: Step):
    sent = made(step, agent=WITH_KNOWLEDGE)
    assert "(0 steps known)" in section(sent, "diagnosis")
    assert not any(section(sent, name) for name in ("history", "kernel", "failure", "other kernels"))
    assert "rows are read twice" not in sent.text


@pytest.mark.parametrize(("memory", "ancestors", "siblings"), [("parent", True, False), ("siblings", False, True), ("both", True, True)])
def test_an_expansion_sees_what_its_memory_mode_says(memory: str, ancestors: bool, siblings: bool):
    sent = made(Step(parents=(2,), memory=memory), agent=WITH_KNOWLEDGE)
    history = section(sent, "history")
    assert ("rows are read twice" in history) is ancestors
    assert ("it waits for the divider" in history) is siblings
    assert "int two;" in section(sent, "kernel")
    assert f"({5 if siblings else 3} steps known)" in section(sent, "diagnosis")


def test_a_prediction_stands_beside_what_came_of_it():
    line = "- #2 from #1; fitness 1.5, gain 1.25; predicted 1.4; idea 2; hypothesis: rows are read twice"
    assert line in section(made(Step(parents=(2,))), "history")


def test_the_next_step_is_told_which_marked_lines_of_the_kernel_no_tuner_can_use():
    odd = "// rms_norm\n" + "".join(f"int lanes{number} = 4;  // tune: 4\n" for number in range(7))
    text = made(Step(parents=(1,)), [node(1, odd)]).text
    assert "no tuner can use:\nline 2: lanes0: expected 2 to 64 different values, got 1\nline 3: " in text
    assert "and 2 more\n" in text
    assert "no tuner can use" not in made(Step(parents=(1,)), [node(1)]).text


def test_a_step_without_a_kernel_is_worked_from_its_parents():
    recalled = recall(Graph.of(GRAPH), Step(parents=(5,)))
    assert (recalled.base.id, recalled.failed.id, recalled.kind) == (1, 5, "improve")


def test_a_draft_that_gave_no_kernel_is_a_draft_again_that_is_told():
    lost = node(9, "text", outcome=failing(Status.NO_CANDIDATE, "got 0", Stage.PROPOSE), problem="got 0")
    sent = made(Step(parents=(9,)), (lost,))
    assert "got 0" in section(sent, "failure")
    assert "Write the first kernel" in section(sent, "task")


def test_a_compiler_output_is_cut_in_the_middle_where_everybody_sees_it():
    noise = "\n".join(f"kernel.cpp:{line}:1: error: trouble {line}" for line in range(2_000))
    broken = node(7, KERNEL, outcome=Outcome(status=Status.COMPILE_ERROR, stage=Stage.COMPILE, message=noise))
    failure = section(made(Step(parents=(7,)), (broken,)), "failure")
    assert "trouble 0\n" in failure
    assert "trouble 1999" in failure
    assert "cut here to keep within" in failure
    assert estimate(failure) <= BUDGETS["failure"]


def test_a_kernel_over_its_budget_is_cut_with_its_block_closed():
    long = node(7, "\n".join(f"int line_{number} = {number};" for number in range(6_000)))
    sent = made(Step(parents=(7,)), (long,))
    kernel = next(part for part in sent.sections if part.name == "kernel")
    assert kernel.tokens <= BUDGETS["kernel"]
    assert kernel.left_out > 10_000
    assert kernel.text.count("```") == 2
    assert kernel.text.endswith("read_kernel gives all of it]")


@pytest.mark.parametrize("keep", ["head", "both"])
@pytest.mark.parametrize("budget", [40, 60, 100, 333])
def test_a_cut_text_keeps_within_its_budget(keep, budget):
    text = "\n".join("é" * (number % 90) for number in range(500))
    assert estimate(cut(text, budget, keep=keep)) <= budget


def test_a_long_line_is_cut_within_the_line():
    assert cut("x" * 10_000, 60).startswith("xxxx")
    assert estimate(cut("x" * 10_000, 60)) <= 60


def test_a_text_within_its_budget_is_left_alone():
    fitted = fit(Section(name="a", text="\n\nsome text\n", budget=10))
    assert (fitted.text, fitted.left_out) == ("some text", 0)


def test_no_text_closes_the_fence_around_it():
    assert fenced("a\n````\nb", "cpp") == "`````cpp\na\n````\nb\n`````"


def test_one_line_has_no_control_characters_and_joins_nothing():
    assert one_line("a\x1b[1m\n b\t\u202ec \\\n") == "a [1m b c"
    assert one_line("x" * 300, 10) == "xxxxxxxxx…"


def test_without_a_library_nothing_is_retrieved_and_nothing_can_be_searched():
    agent = Agent([Scripted()], diagnose=diagnose, language=lambda name: Plain())
    assert section(agent.prompt(context(GRAPH), Step(parents=(2,))), "knowledge") == ""


def test_documents_are_asked_for_by_the_diagnosis():
    library = FakeLibrary()
    sent = made(Step(parents=(2,)), agent={"library": library, "diagnose": diagnose})
    assert isinstance(library.asked[0], FakeDiagnosis)
    assert "## A row in registers (`samples/normalisation/rows`)" in section(sent, "knowledge")


def test_a_value_that_a_template_names_and_nobody_gives_is_an_error():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        prompt.render("task.md.jinja", kind="debug")


def test_every_tool_has_a_schema_of_an_object():
    for tool in prompt.tools():
        assert tool.parameters["type"] == "object"
        assert set(tool.parameters["required"]) <= set(tool.parameters["properties"])


def test_what_a_case_is_bound_by_stands_beside_its_floor_and_a_baseline_that_nobody_timed_has_no_column():
    facts = {**FACTS, "cases": {"small": {"floor_us": 300.0, "bound": "memory"}, "many": {}}}
    assert section(made(Step(parents=()), facts=facts), "times").splitlines()[2:5] == [
        "| case | speed of light (us) | which is |",
        "|---|---|---|",
        "| `small` | 300 | memory |",
    ]


def test_unknown_facts_are_left_out():
    sent = made(Step(parents=()), facts={})
    assert section(sent, "hardware") == ""
    assert "an expert in cpp kernels for the target cpu" in sent.system
