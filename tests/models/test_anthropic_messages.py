from __future__ import annotations

import pytest
import wire
from asking import BUILD, ask

from kevolve.models import Message, ModelFailed, Text, ToolCall, ToolResult, Usage

pytest.importorskip("anthropic", reason="pip install 'kevolve[models]'")

MARK = {"type": "ephemeral"}


def test_the_stable_prefix_is_marked_for_the_cache(anthropic_model, server):
    server.will(wire.Events(events=wire.messages([{"text": "ok"}])))
    turns = (*ask("first").messages, Message(role="assistant", parts=(Text(text="second"),)), *ask("third").messages)
    anthropic_model().reply(ask(messages=turns, tools=(BUILD,)))
    body = server.asked[0].body
    assert body["system"] == [{"type": "text", "text": "You write kernels.", "cache_control": MARK}]
    assert [turn["content"][-1].get("cache_control") for turn in body["messages"]] == [MARK, None, MARK]
    assert body["tools"] == [{"name": "build", "description": BUILD.description, "input_schema": BUILD.parameters}]
    assert body["max_tokens"] == 16_000


def test_cached_tokens_are_told_and_priced_apart(anthropic_model, server):
    usage = {"input_tokens": 100, "cache_read_input_tokens": 5_000, "cache_creation_input_tokens": 300}
    server.will(wire.Events(events=wire.messages([{"text": "ok"}], usage=usage, output=40)))
    told = anthropic_model().reply(ask()).usage
    usd = (100 * 1.0 + 5_000 * 0.1 + 300 * 2.0 + 40 * 10.0) / 1e6
    assert told == Usage(input_tokens=100, cached_tokens=5_000, cache_write_tokens=300, output_tokens=40, usd=pytest.approx(usd))


def test_without_a_price_the_cost_is_unknown_and_the_tokens_are_not(anthropic_model, server):
    server.will(wire.Events(events=wire.messages([{"text": "ok"}])))
    assert anthropic_model(price=None).reply(ask()).usage == Usage(input_tokens=11, output_tokens=7, usd=None)


def test_parallel_calls_are_answered_in_one_turn_with_the_thinking_unchanged(anthropic_model, server):
    blocks = [
        {"thinking": "Two drafts, then.", "signature": "c2lnbmF0dXJl"},
        {"text": "I build both."},
        {"tool": "build", "id": "toolu_1", "json": '{"source": "a"}'},
        {"tool": "build", "id": "toolu_2", "json": '{"source": "b", "deep": {"n": [1, 2]}}'},
        {"tool": "look", "id": "toolu_3", "json": ""},
    ]
    server.will(wire.Events(events=wire.messages(blocks, stop="tool_use")), wire.Events(events=wire.messages([{"text": "done"}])))
    model, request = anthropic_model(), ask(tools=(BUILD,))
    reply = model.reply(request)
    assert reply.stop == "tools"
    assert reply.text == "I build both."
    assert reply.calls == (
        ToolCall(id="toolu_1", name="build", arguments={"source": "a"}),
        ToolCall(id="toolu_2", name="build", arguments={"source": "b", "deep": {"n": [1, 2]}}),
        ToolCall(id="toolu_3", name="look"),
    )
    results = (Text(text="Both are built."), *(ToolResult(id=call.id, text="ok") for call in reply.calls))
    model.reply(ask(messages=(*request.messages, reply.message, Message(role="user", parts=results)), tools=(BUILD,)))
    _, assistant, user = server.asked[1].body["messages"]
    assert assistant["content"][0] == {"type": "thinking", "thinking": "Two drafts, then.", "signature": "c2lnbmF0dXJl"}
    assert assistant["content"][3] == {
        "type": "tool_use",
        "id": "toolu_2",
        "name": "build",
        "input": {"source": "b", "deep": {"n": [1, 2]}},
    }
    assert [block["type"] for block in user["content"]] == ["tool_result", "tool_result", "tool_result", "text"]


def test_malformed_arguments_are_the_calls_problem_and_go_back_as_an_object(anthropic_model, server):
    blocks = [{"tool": "build", "id": "toolu_1", "json": '{"source": "a'}, {"tool": "build", "id": "toolu_2", "json": "[1]"}]
    server.will(wire.Events(events=wire.messages(blocks, stop="tool_use")))
    reply = anthropic_model().reply(ask(tools=(BUILD,)))
    assert [call.arguments for call in reply.calls] == [{}, {}]
    assert "arguments of 'build' are not JSON" in reply.calls[0].problem
    assert '{"source": "a' in reply.calls[0].problem
    assert reply.calls[1].problem == "arguments of 'build' are no JSON object; got [1]"
    assert [block["input"] for block in reply.message.raw["content"]] == [{}, {}]


def test_arguments_that_the_output_limit_cut_are_told_as_such(anthropic_model, server):
    server.will(wire.Events(events=wire.messages([{"tool": "build", "id": "toolu_1", "json": '{"source": "a'}], stop="max_tokens")))
    reply = anthropic_model().reply(ask(tools=(BUILD,)))
    assert reply.stop == "length"
    assert "cut off by the limit of output tokens" in reply.calls[0].problem


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
def test_a_reply_that_reached_a_limit_says_so(anthropic_model, server, stop):
    server.will(wire.Events(events=wire.messages([{"text": "half a ker"}], stop=stop)))
    assert anthropic_model().reply(ask()).stop == "length"


def test_a_refusal_is_a_reply(anthropic_model, server):
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    server.will(wire.Events(events=wire.messages(stop="refusal", details=details)))
    reply = anthropic_model().reply(ask())
    assert (reply.stop, reply.model) == ("refused", "model-2026")
    assert reply.text in ("Not this.", "")  # the explanation is younger than the oldest package


@pytest.mark.parametrize(
    "status, kind, message",
    [
        (400, "invalid_request_error", "prompt is too long: 212034 tokens > 200000 maximum"),
        (400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"),
        (413, "request_too_large", "Request exceeds the maximum size"),
    ],
)
def test_a_prompt_that_is_too_long_is_told_as_such(anthropic_model, server, status, kind, message):
    server.will(wire.Plain(status=status, body=wire.anthropic_error(kind, message)))
    with pytest.raises(ModelFailed, match="shorten the prompt") as caught:
        anthropic_model().reply(ask())
    assert caught.value.kind == "context"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "kind, expected",
    [("overloaded_error", "server"), ("rate_limit_error", "rate-limit"), ("api_error", "server"), ("authentication_error", "auth")],
)
def test_an_error_inside_the_stream_is_told_with_what_it_cost(anthropic_model, server, kind, expected):
    begun = wire.messages([{"text": "A ker"}])[:4]
    server.will(wire.Events(events=[*begun, wire.sse(wire.anthropic_error(kind, "Overloaded"))]))
    with pytest.raises(ModelFailed, match="the stream told: Overloaded") as caught:
        anthropic_model().reply(ask())
    assert caught.value.kind == expected
    assert caught.value.usage.input_tokens == 11


def test_a_turn_without_anything_is_not_sent_empty(anthropic_model, server):
    server.will(wire.Events(events=wire.messages([{"text": "ok"}])))
    nothing = Message(role="assistant", parts=(), raw={"provider": "anthropic", "content": []})
    anthropic_model().reply(ask(messages=(*ask().messages, nothing, *ask("Again.").messages), system=""))
    assert server.asked[0].body["messages"][1]["content"] == [{"type": "text", "text": "(nothing)"}]
    assert "system" not in server.asked[0].body
