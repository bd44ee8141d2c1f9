"""Conversations with a scripted model that has no tools: fenced blocks, edits and repairs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kevolve.evaluate.outcome import Outcome, Status
from kevolve.operators.agent import Agent, Limits, answers
from kevolve.operators.agent.edits import Edit, EditFailed, apply
from kevolve.search.node import Proposal
from kevolve.search.policies import Step
from tests.operators.scripted import KERNEL, FakeLab, Plain, Scripted, context, node, says

NEW = "// rms_norm\nint block = 2;\n"
SAID = "**Hypothesis:** rows are read twice,\nonce is enough\nPredicted gain: about 1.4x\nIdea: one pass\n"
EDIT = "```edit\n<<<<<<< SEARCH\nint block = 1;\n=======\nint block = 4;\n>>>>>>> REPLACE\n```\n"


def propose(*replies, step: Step = Step(parents=(1,)), nodes=None, limits: Limits | None = None, **fields) -> tuple[Proposal, Scripted]:  # noqa: B008 - a value
    model = Scripted(*(says(reply) for reply in replies), tools=False)
    agent = Agent([model], limits=limits, language=lambda name: Plain())
    return agent.propose(context([node(1)] if nodes is None else nodes, **fields), step, 1)[0], model


def test_a_whole_kernel_in_one_block_with_its_prediction_is_a_proposal():
    proposal, model = propose(f"{SAID}\n```cpp\n{NEW}```\nGood luck.")
    assert (proposal.source, proposal.problem) == (NEW, "")
    assert (proposal.hypothesis, proposal.predicted_gain, proposal.idea) == ("rows are read twice, once is enough", 1.4, "one pass")
    assert model.requests[0].tools == ()
    assert "in one block fenced as `cpp`" in model.requests[0].system


def test_edits_are_applied_to_the_parent():
    proposal, _ = propose(SAID + EDIT)
    assert proposal.source == KERNEL.replace("block = 1", "block = 4")


def test_an_edit_that_does_not_apply_is_told_and_repaired():
    proposal, model = propose(SAID + EDIT.replace("block = 1", "blocks = 1"), SAID + EDIT)
    assert "block = 4" in proposal.source
    assert "Your reply could not be used: not found" in model.told[-1]
    assert proposal.usage.output_tokens == 100


def test_an_edit_that_never_applies_is_a_recorded_step_that_the_next_prompt_tells():
    wrong = SAID + EDIT.replace("block = 1", "blocks = 1")
    proposal, _ = propose(wrong, wrong)
    assert proposal.problem.startswith("the reply could not be used: not found")
    assert (proposal.source, proposal.parents) == (wrong, (1,))
    from kevolve.evaluate.outcome import Outcome, Stage, Status

    said = Outcome(status=Status.NO_CANDIDATE, stage=Stage.PROPOSE, message=proposal.problem)
    step = node(2, proposal.source, parents=[1], outcome=said, problem=proposal.problem)
    _, later = propose(SAID + EDIT, nodes=[node(1), step])
    assert "# The last step from here gave no kernel" in later.told[0]
    assert "not found: the text to search for" in later.told[0]
    _, from_it = propose(SAID + EDIT, nodes=[node(1), step], step=Step(parents=(2,)))
    assert "# The kernel: step #1" in from_it.told[0]


def test_no_repair_is_asked_for_where_the_limits_allow_none():
    proposal, model = propose("no block at all", limits=Limits(repairs=0))
    assert proposal.problem == "the reply could not be used: expected one fenced block with the whole kernel, or `edit` blocks; got 0"
    assert len(model.requests) == 1


def test_a_kernel_that_fails_the_development_plan_may_be_mended_by_an_edit_of_itself():
    wrong = f"{SAID}```cpp\n{NEW}int wrong;\n```"
    proposal, model = propose(wrong, SAID + "```edit\n<<<<<<< SEARCH\nint wrong;\n=======\nint right;\n>>>>>>> REPLACE\n```")
    assert proposal.source == NEW + "int right;\n"
    assert "INCORRECT_NUMERICAL at stage properties" in model.told[-1]


def test_a_kernel_that_is_wrong_twice_is_proposed_all_the_same():
    wrong = f"{SAID}```cpp\n{NEW}int wrong;\n```"
    proposal, _ = propose(wrong, wrong.replace("int wrong", "float wrong"))
    assert (proposal.problem, proposal.source) == ("", NEW + "float wrong;\n")
    assert json.loads(proposal.transcript)["ended"] == "finished"


def test_a_kernel_that_nothing_here_can_check_needs_no_mending():
    class Distant(FakeLab):
        def check(self, language: str, source: str) -> Outcome:
            return replace(super().check(language, source), status=Status.NOT_MEASURED, message="checked where it is timed")

    proposal, model = propose(f"{SAID}```cpp\n{NEW}```", lab=Distant())
    assert (proposal.problem, proposal.source, len(model.requests)) == ("", NEW, 1)


def test_without_a_lab_a_kernel_is_taken_unchecked():
    proposal, model = propose(f"{SAID}```cpp\n{NEW}int wrong;\n```", lab=None)
    assert proposal.problem == ""
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```cpp\nint rms_norm;", "never closed"),
        ("```cpp\n   \n```", "is empty"),
        ("```cpp\nint a;\n```\n```cpp\nint b;\n```", "got 0"),
        ("```cpp\nint rms_norm;\n```\n```cpp\nint rms_norm, b;\n```", "got 2"),
        ("```python\nimport this\n```", "got others only"),
        ("```edit\nint block = 1;\n```", "stands outside of <<<<<<< SEARCH"),
        ("```edit\n<<<<<<< SEARCH\nint block = 1;\n```", "ends before its ======="),
        ("```edit\n<<<<<<< SEARCH\nint block = 1;\n=======\nint b;\n```", "ends before its >>>>>>> REPLACE"),
        ("```edit\n```", "ends before its <<<<<<< SEARCH"),
        ("```cpp\nint rms_norm;\n```\n" + EDIT, "got 1 of them and 1 of edits"),
    ],
)
def test_a_reply_that_cannot_be_used_says_why(text: str, problem: str):
    assert problem in answers.read(text, words=frozenset({"cpp"}), parses=lambda source: "rms_norm" in source).problem


def test_of_several_blocks_the_one_with_the_entry_is_the_kernel():
    read = answers.read(
        "```cpp\nint part;\n```\n~~~~C++ {.x}\nint rms_norm;\n```\n~~~~\n",
        words=frozenset({"cpp", "c++"}),
        parses=lambda s: "rms_norm" in s,
    )
    assert (read.kernel, read.problem) == ("int rms_norm;\n```\n", "")


def test_a_block_without_a_language_is_the_kernel_where_there_is_no_other():
    assert answers.read("```\nint rms_norm;\n```", words=frozenset({"cpp"})).kernel == "int rms_norm;\n"


@pytest.mark.parametrize(
    ("said", "gain"),
    [("1.3", 1.3), ("1.3x", 1.3), ("30%", 1.3), ("×.5", 0.5), ("maybe", None), ("0", None), ("9" * 400, None), (True, None), (None, None)],
)
def test_a_gain_is_read_as_a_factor(said: object, gain: float | None):
    assert answers.gain_of(said) == gain


def test_lines_inside_a_block_are_no_prediction():
    assert answers.read("```cpp\n// predicted gain: 9\nint rms_norm;\n```", words=frozenset({"cpp"})).predicted_gain is None


def test_edits_apply_all_or_none():
    with pytest.raises(EditFailed, match="edit 2 of 2: not found"):
        apply("a\nb\n", [Edit(search="a", replace="c"), Edit(search="zzz", replace="")])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit(search=" \n", replace="x"), "is empty"),
        (Edit(search="aa", replace="aa"), "the same as the text that it replaces"),
        (Edit(search="aa", replace="b"), r"found 2 times \(lines 1, 1\)"),
        (Edit(search="  return scale * rows", replace=""), "--- line 3\nreturn scale \\* row;"),
        (Edit(search="qqqqqq", replace=""), "No line is like its first line"),
        (Edit(search="return", replace="x" * 500_000), "expected at most 400,000"),
    ],
)
def test_an_edit_that_does_not_apply_says_why(edit: Edit, message: str):
    with pytest.raises(EditFailed, match=message):
        apply("aaa\nint x;\nreturn scale * row;\n", [edit])
