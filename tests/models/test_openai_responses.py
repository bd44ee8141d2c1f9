from __future__ import annotations

import pytest
import wire
from asking import BUILD, ask

from kevolve.models import Message, ModelFailed, Text, ToolCall, ToolResult, Usage

pytest.importorskip("openai", reason="pip install 'kevolve[models]'")


def test_nothing_is_stored_and_reasoning_comes_encrypted(responses_model, server):
    server.will(wire.Events(events=wire.responses([wire.said("ok")])))
    responses_model().reply(ask(tools=(BUILD,), max_output_tokens=99))
    body = server.asked[0].body
    assert server.asked[0].path == "/v1/responses"
    assert (body["store"], body["include"], body["max_output_tokens"]) == (False, ["reasoning.encrypted_content"], 99)
    assert body["instructions"] == "You write kernels."
    assert body["input"] == [{"role": "user", "content": [{"type": "input_text", "text": "Write a kernel."}]}]
    assert body["tools"] == [
        {"type": "function", "name": "build", "description": BUILD.description, "parameters": BUILD.parameters, "strict": False}
    ]


def test_a_model_that_does_not_reason_is_asked_again_without_reasoning_and_from_then_on(responses_model, server):
    told = wire.openai_error("Encrypted content is not supported with this model.")
    server.will(wire.Plain(status=400, body=told), wire.Events(events=wire.responses([wire.said("ok")])))
    model = responses_model()
    assert [model.reply(ask()).text, model.reply(ask()).text] == ["ok", "ok"]
    assert [asked.body.get("include") for asked in server.asked] == [["reasoning.encrypted_content"], None, None]


def test_cached_tokens_are_told_and_priced_apart(responses_model, server):
    details = {"cached_tokens": 4_000, "cache_write_tokens": 500}
    usage = {"input_tokens": 5_000, "output_tokens": 70, "input_tokens_details": details}
    server.will(wire.Events(events=wire.responses([wire.said("ok")], usage=usage)))
    told = responses_model().reply(ask()).usage
    usd = (500 * 1.0 + 4_000 * 0.1 + 500 * 2.0 + 70 * 10.0) / 1e6
    assert told == Usage(input_tokens=500, cached_tokens=4_000, cache_write_tokens=500, output_tokens=70, usd=pytest.approx(usd))


def test_parallel_calls_go_back_with_the_reasoning_that_led_to_them(responses_model, server):
    items = [wire.reasoned("gAAAAencrypted"), wire.called("call_1", "build", '{"source": "a"}'), wire.called("call_2", "look", "{}")]
    server.will(wire.Events(events=wire.responses(items)), wire.Events(events=wire.responses([wire.said("done")])))
    model, request = responses_model(), ask(tools=(BUILD,))
    reply = model.reply(request)
    assert reply.stop == "tools"
    assert reply.calls == (ToolCall(id="call_1", name="build", arguments={"source": "a"}), ToolCall(id="call_2", name="look"))
    results = tuple(ToolResult(id=call.id, text="ok") for call in reply.calls)
    model.reply(ask(messages=(*request.messages, reply.message, Message(role="user", parts=results))))
    sent = server.asked[1].body["input"]
    assert [item.get("type", item.get("role")) for item in sent] == [
        "user",
        "reasoning",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]
    assert sent[1]["encrypted_content"] == "gAAAAencrypted"
    assert sent[4] == {"type": "function_call_output", "call_id": "call_1", "output": "ok"}


def test_reasoning_that_came_without_its_content_does_not_go_back(responses_model, server):
    server.will(wire.Events(events=wire.responses([wire.reasoned(None), wire.said("ok")])))
    assert [item["type"] for item in responses_model().reply(ask()).message.raw["output"]] == ["message"]


def test_malformed_arguments_are_the_calls_problem_and_go_back_as_an_object(responses_model, server):
    server.will(wire.Events(events=wire.responses([wire.called("call_1", "build", '{"source": "a')])))
    reply = responses_model().reply(ask(tools=(BUILD,)))
    assert "arguments of 'build' are not JSON" in reply.calls[0].problem
    assert reply.message.raw["output"][0]["arguments"] == "{}"


def test_a_reply_that_reached_the_output_limit_says_so(responses_model, server):
    events = wire.responses([wire.called("call_1", "build", '{"sou')], status="incomplete", incomplete="max_output_tokens")
    server.will(wire.Events(events=events))
    reply = responses_model().reply(ask())
    assert reply.stop == "length"
    assert "cut off by the limit" in reply.calls[0].problem


@pytest.mark.parametrize(
    "events, text",
    [
        (wire.responses([wire.refused("I cannot.")]), "I cannot."),
        (wire.responses([wire.said("Well")], status="incomplete", incomplete="content_filter"), "Well"),
        (wire.responses(status="failed", error={"code": "bio_policy", "message": "Blocked."}), "Blocked."),
    ],
    ids=["in words", "by the filter", "by a policy"],
)
def test_a_refusal_is_a_reply(responses_model, server, events, text):
    server.will(wire.Events(events=events))
    reply = responses_model().reply(ask())
    assert (reply.stop, reply.text) == ("refused", text)


@pytest.mark.parametrize("code, kind", [("server_error", "server"), ("rate_limit_exceeded", "rate-limit"), ("invalid_image", "request")])
def test_a_response_that_fails_is_told_with_what_it_cost(responses_model, server, code, kind):
    server.will(wire.Events(events=wire.responses(status="failed", error={"code": code, "message": "It failed."})))
    with pytest.raises(ModelFailed, match="the stream told: It failed") as caught:
        responses_model().reply(ask())
    assert (caught.value.kind, caught.value.usage.tokens) == (kind, 18)


def test_an_error_event_ends_the_exchange(responses_model, server):
    event = {"type": "error", "code": "context_length_exceeded", "message": "Too long.", "param": None, "sequence_number": 1}
    server.will(wire.Events(events=[*wire.responses()[:1], wire.sse(event)]))
    with pytest.raises(ModelFailed) as caught:
        responses_model().reply(ask())
    assert caught.value.kind == "context"


def test_a_prompt_that_is_too_long_is_told_as_such(responses_model, server):
    message = "Your input exceeds the context window of this model. Please adjust your input and try again."
    server.will(wire.Plain(status=400, body=wire.openai_error(message, code="context_length_exceeded")))
    with pytest.raises(ModelFailed, match="shorten the prompt") as caught:
        responses_model().reply(ask())
    assert caught.value.kind == "context"


def test_an_exhausted_quota_is_the_accounts_trouble(responses_model, server):
    told = wire.openai_error("You exceeded your current quota.", kind="insufficient_quota", code="insufficient_quota")
    server.will(wire.Plain(status=429, body=told, headers={"Retry-After": "0.05"}))
    with pytest.raises(ModelFailed, match="account's credit") as caught:
        responses_model().reply(ask())
    assert caught.value.kind == "auth"


def test_a_conversation_without_raw_is_rebuilt_from_its_parts(responses_model, server):
    server.will(wire.Events(events=wire.responses([wire.said("ok")])))
    spoke = Message(role="assistant", parts=(Text(text="I call."), ToolCall(id="c", name="build", arguments={"source": "ä"})))
    responses_model().reply(ask(messages=(*ask().messages, spoke, Message(role="user", parts=(ToolResult(id="c", text="ok"),)))))
    assert server.asked[0].body["input"][1:3] == [
        {"role": "assistant", "content": [{"type": "output_text", "text": "I call."}]},
        {"type": "function_call", "call_id": "c", "name": "build", "arguments": '{"source": "ä"}'},
    ]
