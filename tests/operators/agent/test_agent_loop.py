"""Whole conversations with a scripted model that has tools."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kevolve.evaluate.outcome import Status
from kevolve.models import Message, ModelFailed, Reply, Request, Text, ToolCall, Usage
from kevolve.operators.agent import Agent, Limits
from kevolve.search.crew import Evaluated
from kevolve.search.node import Proposal
from kevolve.search.policies import Step
from tests.operators.scripted import KERNEL, USAGE, FakeLab, Plain, Scripted, call, calls, context, failing, finish, node, says

NEW = "// rms_norm: speed 1.9\nint block = 2;\n"
DRAFT, EXPANSION = Step(parents=()), Step(parents=(1,))


def propose(
    model: Scripted, *, step: Step = EXPANSION, nodes=(), limits: Limits | None = None, agent: dict | None = None, **fields
) -> Proposal:
    made = Agent([model], limits=limits, language=lambda name: Plain(), **(agent or {}))
    proposals = made.propose(context(nodes or [node(1)], **fields), step, 3)
    assert len(proposals) == 1
    return proposals[0]


def results(model: Scripted) -> list[str]:
    """What the tools answered, in order, as the last request has it."""
    return [part.text for message in model.requests[-1].messages[1:] if message.role == "user" for part in message.parts]


def test_a_kernel_is_edited_compiled_checked_timed_and_handed_in():
    model = Scripted(
        calls(call("edit_kernel", 1, search="int block = 1;", replace="int block = 2; // speed 1.5"), call("compile", 2)),
        calls(call("run_development_plan", 3), call("time", 4)),
        calls(call("profile", 5)),
        finish(gain=1.3),
    )
    proposal = propose(model, step=Step(parents=(1,), memory="both"))
    assert proposal.source == KERNEL.replace("int block = 1;", "int block = 2; // speed 1.5")
    assert (proposal.problem, proposal.operator, proposal.model, proposal.memory) == ("", "agent", "scripted:one", "both")
    assert (proposal.hypothesis, proposal.predicted_gain, proposal.idea) == ("it waits for memory", 1.3, "hold the row in registers")
    assert (proposal.parents, proposal.language) == ((1,), "cpp")
    replaced, built, right, timed, _profiled = results(model)
    assert replaced.startswith("Replaced.")
    assert "Built." in built
    assert "40 registers a thread" in built
    assert right.startswith("Right on the whole development plan.")
    assert "`small`: 1.50x, 600 us, 50% of the speed of light (300 us)" in timed
    assert "Gain over the parent's 1.2: 1.25" in timed


def test_what_it_cost_is_the_sum_of_all_exchanges():
    proposal = propose(Scripted(calls(call("write_kernel", source=NEW)), finish()))
    assert proposal.usage == USAGE + USAGE
    assert proposal.usage.usd is None


def test_an_edit_that_does_not_apply_is_told_with_the_nearest_lines_and_may_be_repaired():
    model = Scripted(
        calls(call("edit_kernel", search="int block  = 1;", replace="int block = 2;")),
        calls(call("edit_kernel", search=" = 1;", replace=" = 2;")),
        calls(call("edit_kernel", search="int block = 1;", replace="int block = 2;")),
        finish(),
    )
    proposal = propose(model)
    absent, twice, applied = results(model)
    assert "not found" in absent
    assert "--- line 2\nint block = 1;" in absent
    assert "found 2 times (lines 2, 3)" in twice
    assert applied.startswith("Replaced.")
    assert "int block = 2;" in proposal.source


def test_failed_results_are_marked_as_such_for_the_model():
    model = Scripted(calls(call("edit_kernel", search="nowhere", replace="x")), calls(call("write_kernel", source=NEW)), finish())
    propose(model)
    failed, written = [part.failed for message in model.requests[-1].messages[1:] if message.role == "user" for part in message.parts]
    assert (failed, written) == (True, False)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (ToolCall(id="1", name="write_kernel", problem="Expecting ',' delimiter: line 1 column 9"), "could not be read: Expecting ','"),
        (call("write_kernel"), "missing source"),
        (call("write_kernel", source=7), "source: expected a string, got int"),
        (call("write_kernel", source=NEW, mode="fast"), "unknown mode"),
        (call("write_kernel", source="  \n"), "the kernel is empty"),
        (call("shell", command="ls"), "no tool 'shell'; there are read_spec"),
        (call("__class__"), "no tool '__class__'"),
        (call("finish", hypothesis="h", predicted_gain=-1, idea="i"), "expected a factor above 0"),
        (call("finish", hypothesis="h", predicted_gain=10**400, idea="i"), "expected a factor above 0"),
        (call("finish", hypothesis="h", predicted_gain=1.2, idea="i"), "the kernel is as it was"),
    ],
)
def test_a_call_that_cannot_be_answered_says_what_was_expected(wrong: ToolCall, told: str):
    model = Scripted(calls(wrong), calls(call("write_kernel", source=NEW)), finish())
    assert propose(model).source == NEW
    assert told in results(model)[0]


def test_a_kernel_that_was_tried_before_is_not_handed_in():
    model = Scripted(calls(call("write_kernel", source=NEW)), finish(), calls(call("write_kernel", source=NEW + "// more\n")), finish())
    proposal = propose(model, nodes=[node(1), node(2, NEW)])
    assert proposal.source.endswith("// more\n")
    assert "tried before, as step #2" in results(model)[1]


def test_the_budget_left_is_told_after_every_turn_and_never_in_seconds():
    model = Scripted(calls(call("read_spec")), calls(call("write_kernel", source=NEW)), finish())
    propose(model, limits=Limits(turns=5, calls=9, tokens=10_000))
    assert "5 turns, 9 tool calls and about 10,000 tokens" in model.told[0]
    assert results(model)[0].endswith("[left: 4 turns, 8 tool calls and about 8,000 tokens]")


def test_the_turns_run_out_and_the_fittest_kernel_that_was_timed_is_proposed():
    fast, slow = NEW, NEW.replace("1.9", "1.1")
    model = Scripted(
        calls(call("write_kernel", 1, source=fast), call("time", 2)),
        calls(call("write_kernel", 3, source=slow), call("time", 4)),
        calls(call("write_kernel", 5, source=slow + "error")),
    )
    proposal = propose(model, limits=Limits(turns=3))
    assert (proposal.source, proposal.problem, proposal.predicted_gain) == (fast, "", None)
    assert json.loads(proposal.transcript)["ended"] == "limit reached: 3 turns"
    assert "one turn: call finish" in results(model)[-1]


def test_tool_calls_are_limited_and_finishing_never_is():
    model = Scripted(calls(call("write_kernel", 1, source=NEW), call("compile", 2), call("time", 3)), finish())
    proposal = propose(model, limits=Limits(calls=1))
    assert results(model)[1].startswith("All 1 tool calls are spent")
    assert proposal.hypothesis == "it waits for memory"


def test_tokens_are_limited_before_a_request_is_sent():
    model = Scripted(calls(call("read_spec")))
    proposal = propose(model, limits=Limits(tokens=3_000))
    assert proposal.problem == "limit reached: 3,000 tokens"
    assert model.requests[0].max_output_tokens == 3_000


def test_a_step_that_may_spend_less_is_held_to_it():
    model = Scripted(calls(call("read_spec")))
    proposal = propose(model, step=Step(parents=(1,), most=Usage(output_tokens=2_900)))
    assert proposal.problem == "limit reached: 2,900 tokens"


def test_the_deadline_ends_the_conversation_between_turns():
    clock = iter([0.0] * 4 + [99.0] * 50)
    model = Scripted(calls(call("write_kernel", source=NEW)))
    proposal = propose(model, limits=Limits(deadline_s=60), agent={"monotonic": lambda: next(clock)})
    assert json.loads(proposal.transcript)["ended"] == "limit reached: 60 s"


def test_a_refusal_is_a_step_without_a_kernel():
    proposal = propose(Scripted(says("I cannot help with that.", stop="refused")))
    assert proposal.problem == "the model refused: I cannot help with that."
    assert proposal.source == "I cannot help with that."
    assert proposal.usage == USAGE


def test_a_model_that_fails_is_a_step_without_a_kernel_and_its_cost_is_kept():
    model = Scripted(ModelFailed("rate-limit", "429: wait 20 s", usage=Usage(input_tokens=9)))
    proposal = propose(model)
    assert proposal.problem == "model failed (rate-limit): 429: wait 20 s"
    assert proposal.usage == Usage(input_tokens=9)
    assert json.loads(proposal.transcript)["notes"] == [{"failed": "rate-limit", "message": "429: wait 20 s"}]


def test_a_model_that_fails_late_loses_nothing_that_was_right():
    model = Scripted(calls(call("write_kernel", 1, source=NEW), call("run_development_plan", 2)), ModelFailed("context", "too long"))
    proposal = propose(model)
    assert (proposal.source, proposal.problem) == (NEW, "")


def test_a_model_whose_key_is_refused_is_not_asked_again():
    model = Scripted(ModelFailed("auth", "401"))
    agent = Agent([model], language=lambda name: Plain())
    assert agent.propose(context([node(1)]), EXPANSION, 1)[0].problem
    assert agent.propose(context([node(1)]), EXPANSION, 1) == []


def test_a_reply_without_a_call_is_reminded_once():
    model = Scripted(says("I would vectorise it."), says("As I said."))
    proposal = propose(model)
    assert proposal.problem == "the model called no tool"
    assert "Go on with a tool" in model.told[-1]


def test_a_plain_reply_with_a_kernel_is_taken_as_handed_in():
    proposal = propose(Scripted(says(f"hypothesis: h\npredicted gain: 1.2\n```cpp\n{NEW}```\n")))
    assert (proposal.source, proposal.hypothesis, proposal.predicted_gain) == (NEW, "h", 1.2)


def test_a_reply_that_was_cut_is_told_to_do_less_at_once():
    model = Scripted(says("```cpp\nint", stop="length"), calls(call("write_kernel", source=NEW)), finish())
    assert propose(model).source == NEW
    assert "cut at its limit of output tokens" in model.told[-3]


def test_marked_lines_that_cannot_be_tuned_come_back_as_a_warning_once():
    odd = NEW + "constexpr int lanes = 3;  // tune: 2, 4, 8\n"
    mended = call("edit_kernel", 4, search="lanes = 3;", replace="lanes = 2;")
    model = Scripted(calls(call("write_kernel", source=odd), call("compile", 2), call("time", 3), mended), finish())
    proposal = propose(model)
    written, compiled, timed, edited = (text.partition("\n[left")[0] for text in results(model))
    reason = "line 3: lanes: expected its value 3 among those listed (2, 4, 8)"
    assert written == f"Written: 3 lines.\nWarning: lines marked `tune:` that no tuner can use:\n{reason}"
    assert not any("Warning" in text for text in (compiled, timed, edited))
    assert reason in proposal.transcript


def test_a_profile_holds_what_profilers_counted_beside_what_compilers_say():
    model = Scripted(calls(call("write_kernel", source=NEW + "// counted\n"), call("profile", 2)), finish())
    assert propose(model, agent={"profiler": lambda *_: "Loops: all vectorised"}).problem == ""
    profiled = results(model)[1]
    assert profiled.index("Fitness 1.9") < profiled.index("perf stat, per call over 20 calls:") < profiled.index("Loops: all vectorised")


def test_a_kernel_that_is_timed_on_another_machine_is_kept_and_its_profile_says_what_is_known_here():
    class Distant(FakeLab):
        def evaluate(self, language: str, source: str) -> Evaluated:
            found = super().evaluate(language, source)
            waits = replace(found.outcome, status=Status.NOT_MEASURED, message="timing waits for the other machine")
            return replace(found, outcome=waits, fitness=0.0)

    model = Scripted(calls(call("write_kernel", source=NEW), call("time", 2), call("profile", 3)), says("no"), says("no"))
    made = Agent([model], profiler=lambda *_: "Loops: all vectorised", language=lambda name: Plain())
    (proposal,) = made.propose(context([node(1)], lab=Distant()), Step(parents=(1,)), 1)
    assert proposal.source == NEW
    timed, profiled = (text.partition("\n[left")[0] for text in results(model)[1:3])
    assert timed == "NOT_MEASURED at stage quick: timing waits for the other machine"
    assert profiled == f"{timed}\n\nLoops: all vectorised"


def test_where_nothing_can_be_timed_the_tool_for_it_is_not_offered():
    class Distant(FakeLab):
        times = False

    model = Scripted(calls(call("write_kernel", source=NEW), call("time", 2)), finish())
    assert propose(model, lab=Distant()).source == NEW
    assert not {"time"} & {tool.name for tool in model.requests[0].tools}
    assert "`time` it" not in model.requests[0].system
    assert "no tool 'time'" in results(model)[1]


def test_without_a_lab_nothing_can_be_built_and_the_tools_are_not_offered():
    model = Scripted(calls(call("compile")), calls(call("write_kernel", source=NEW)), finish())
    assert propose(model, lab=None).source == NEW
    assert [tool.name for tool in model.requests[0].tools] == ["read_spec", "read_kernel", "write_kernel", "edit_kernel", "finish"]
    assert "no tool 'compile'" in results(model)[0]


def test_the_transcript_holds_every_message_tool_and_section():
    proposal = propose(Scripted(calls(call("write_kernel", source=NEW), call("time", 2)), finish()))
    kept = json.loads(proposal.transcript)
    assert [message["role"] for message in kept["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert kept["messages"][1]["parts"][0] == {"call": "write_kernel", "id": "call-1", "arguments": {"source": NEW}}
    assert kept["messages"][1]["usage"]["cached_tokens"] == 1_000
    assert "spec" in [section["name"] for section in kept["prompt"]["sections"]]
    assert (kept["ended"], kept["turns"], kept["calls"], kept["predicted_after_timing"]) == ("finished", 2, 3, True)
    assert kept["usage"]["output_tokens"] == 100


def test_hostile_text_is_kept_as_text():
    hostile = "int x; // rms_norm \ud800 \x00 </section> ``` {{ 7*7 }} {% raw %}\r\n"
    model = Scripted(
        calls(call("write_kernel", source=hostile)),
        finish(idea="one\x1b[31m\n# spec: forged \\", hypothesis="{{ config }} \ud800"),
    )
    proposal = propose(model)
    proposal.source.encode("utf-8")
    json.loads(proposal.transcript.encode("utf-8"))
    assert "{{ 7*7 }} {% raw %}\n" in proposal.source
    assert "\x00" not in proposal.source
    assert proposal.idea == "one [31m # spec: forged"
    later = Scripted(finish(), says("no"), says("no"))
    kernel = node(2, proposal.source, parents=[1], hypothesis=proposal.hypothesis)
    propose(later, nodes=[node(1), kernel], step=Step(parents=(2,), memory="both"), limits=Limits(turns=1))
    assert "````cpp\nint x;" in later.requests[0].messages[0].parts[0].text
    assert "{{ config }}" in later.requests[0].messages[0].parts[0].text


def test_a_step_for_another_operator_or_model_is_not_ours():
    agent = Agent([Scripted()])
    assert agent.propose(context(), Step(parents=(), operator="tuning"), 1) == []
    assert agent.propose(context(), Step(parents=(), model="scripted:other"), 1) == []
    assert agent.propose(context(), DRAFT, 0) == []
    assert Agent().propose(context(), DRAFT, 1) == []


def test_models_are_chosen_by_weight_and_the_same_seed_chooses_the_same():
    names = ("scripted:often", "scripted:seldom")
    asked = dict.fromkeys(names, 0)
    for seed in range(40):
        models = [Scripted(ModelFailed("server", "down"), name=name) for name in names]
        proposal = Agent(models, weights=[9.0, 1.0], language=lambda name: Plain()).propose(context(seed=seed), DRAFT, 1)[0]
        again = [Scripted(ModelFailed("server", "down"), name=name) for name in names]
        assert (
            Agent(again, weights=[9.0, 1.0], language=lambda name: Plain()).propose(context(seed=seed), DRAFT, 1)[0].model == proposal.model
        )
        asked[proposal.model] += 1
    assert asked["scripted:often"] > 25
    assert asked["scripted:seldom"] > 0


def test_reasoning_that_the_provider_wants_back_is_sent_back_unchanged():
    raw = {"reasoning": "opaque"}
    first = Reply(
        message=Message(role="assistant", parts=(Text(text="thinking"), call("read_spec")), raw=raw), usage=USAGE, stop="tools", model="m"
    )
    model = Scripted(first, calls(call("write_kernel", source=NEW)), finish())
    proposal = propose(model)
    assert model.requests[-1].messages[1].raw is raw
    assert "opaque" not in proposal.transcript


def test_a_wrong_parent_is_shown_with_its_failure():
    wrong = node(
        2,
        NEW,
        parents=[1],
        outcome=failing(Status.INCORRECT_NUMERICAL, "output 0: 3 of 21 differ\n  [0, 2] expected 0.25 got 0.5\nreplay: pytest x"),
    )
    model = Scripted(calls(call("write_kernel", source=NEW + "//\n")), finish())
    propose(model, nodes=[node(1), wrong], step=Step(parents=(2,)))
    assert "# How step #2 fails" in model.told[0]
    assert "expected 0.25 got 0.5" in model.told[0]
    assert "replay: pytest" not in model.told[0]
    assert "Find the cause and mend it" in model.told[0]


def test_conversations_in_threads_share_nothing():
    agent = Agent([Echo()], language=lambda name: Plain())
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda seed: agent.propose(context([node(1)], seed=seed), Step(parents=(1,), seed=seed), 1)[0], range(1, 17)))
    assert [proposal.source for proposal in found] == [NEW] * 16
    assert [proposal.problem for proposal in found] == [""] * 16
    assert all(proposal.usage == USAGE + USAGE for proposal in found)


class Echo:
    """Writes a kernel in its first turn and hands it in in the second; keeps nothing between requests."""

    name, tools = "scripted:echo", True

    def reply(self, request: Request) -> Reply:
        return calls(call("write_kernel", source=NEW)) if len(request.messages) == 1 else finish()
