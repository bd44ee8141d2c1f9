from __future__ import annotations

import pytest
import wire
from asking import BUILD, KEY, ask

from kevolve.models import Message, ModelFailed, Text, ToolCall, ToolResult, Usage

pytest.importorskip("openai", reason="pip install 'kevolve[models]'")


def test_a_server_is_asked_for_chat_completions_with_usage(chat_model, server):
    server.will(wire.Events(events=wire.chunks({"content": "ok"})))
    reply = chat_model().reply(ask(tools=(BUILD,), max_output_tokens=99))
    asked = server.asked[0]
    assert (asked.path, reply.model) == ("/v1/chat/completions", "served-model")
    assert asked.body["messages"][0] == {"role": "system", "content": "You write kernels."}
    assert asked.body["stream_options"] == {"include_usage": True}
    assert asked.body["max_tokens"] == 99
    assert asked.body["tools"][0]["function"]["parameters"] == BUILD.parameters
    assert asked.headers["authorization"] == f"Bearer {KEY}"


def test_cached_tokens_are_told_and_priced_apart(chat_model, server):
    usage = {"prompt_tokens": 1_000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 900}}
    server.will(wire.Events(events=wire.chunks({"content": "ok"}, usage=usage)))
    usd = (100 * 1.0 + 900 * 0.1 + 50 * 10.0) / 1e6
    assert chat_model().reply(ask()).usage == Usage(input_tokens=100, cached_tokens=900, output_tokens=50, usd=pytest.approx(usd))


def test_a_server_that_counts_no_tokens_is_heard_all_the_same(chat_model, server):
    server.will(wire.Events(events=wire.chunks({"content": "ok"}, usage=None)))
    reply = chat_model(price=None).reply(ask())
    assert (reply.text, reply.usage) == ("ok", Usage())


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_parallel_calls_arrive_in_pieces(chat_model, server, finish):
    deltas = [
        {"content": "Both."},
        wire.piece_of_call(0, id="call_1", name="build", arguments='{"sour'),
        wire.piece_of_call(0, arguments='ce": "a"}'),
        wire.piece_of_call(1, id="call_2", name="look", arguments="{}"),
    ]
    server.will(wire.Events(events=wire.chunks(*deltas, finish=finish)), wire.Events(events=wire.chunks({"content": "done"})))
    model, request = chat_model(), ask(tools=(BUILD,))
    reply = model.reply(request)
    assert (reply.stop, reply.text) == ("tools", "Both.")
    assert reply.calls == (ToolCall(id="call_1", name="build", arguments={"source": "a"}), ToolCall(id="call_2", name="look"))
    answers = (ToolResult(id="call_1", text="ok"), ToolResult(id="call_2", text="seen"), Text(text="Go on."))
    model.reply(ask(messages=(*request.messages, reply.message, Message(role="user", parts=answers)), tools=(BUILD,)))
    _, _, spoke, first, second, text = server.asked[1].body["messages"]
    assert spoke["tool_calls"][0]["function"] == {"name": "build", "arguments": '{"source": "a"}'}
    assert first == {"role": "tool", "tool_call_id": "call_1", "content": "ok"}
    assert (second["tool_call_id"], text) == ("call_2", {"role": "user", "content": "Go on."})


def test_calls_that_all_have_the_number_0_are_told_apart_by_their_ids(chat_model, server):
    deltas = [wire.piece_of_call(0, id=f"call_{name}", name=name, arguments="{}") for name in ("build", "look")]
    server.will(wire.Events(events=wire.chunks(*deltas)))
    assert [call.name for call in chat_model().reply(ask(tools=(BUILD,))).calls] == ["build", "look"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_what_was_thought_before_a_call_goes_back_with_it(chat_model, server, field):
    deltas = [{field: "Let me "}, {field: "think."}, wire.piece_of_call(0, id="call_1", name="build", arguments="{}")]
    server.will(
        wire.Events(events=wire.chunks(*deltas, finish="tool_calls")), wire.Events(events=wire.chunks({field: "x"}, {"content": "y"}))
    )
    model, request = chat_model(), ask(tools=(BUILD,))
    reply = model.reply(request)
    assert reply.text == ""
    answered = ask(messages=(*request.messages, reply.message, Message(role="user", parts=(ToolResult(id="call_1", text="ok"),))))
    last = model.reply(answered)
    assert server.asked[1].body["messages"][2][field] == "Let me think."
    assert last.message.raw["thought"] == {}  # nothing depends on it once the turn is over


def test_malformed_arguments_are_the_calls_problem_and_go_back_as_an_object(chat_model, server):
    events = wire.chunks(wire.piece_of_call(0, id="call_1", name="build", arguments='{"source": '), finish="tool_calls")
    server.will(wire.Events(events=events), wire.Events(events=wire.chunks({"content": "ok"})))
    model, request = chat_model(), ask(tools=(BUILD,))
    reply = model.reply(request)
    assert "arguments of 'build' are not JSON" in reply.calls[0].problem
    model.reply(ask(messages=(*request.messages, reply.message, *request.messages)))
    assert server.asked[1].body["messages"][2]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_reply_that_reached_the_output_limit_says_so(chat_model, server):
    server.will(wire.Events(events=wire.chunks({"content": "half"}, finish="length")))
    assert chat_model().reply(ask()).stop == "length"


@pytest.mark.parametrize(
    "deltas, finish", [([{"refusal": "I can"}, {"refusal": "not."}], "stop"), ([{"content": "I cannot."}], "content_filter")]
)
def test_a_refusal_is_a_reply(chat_model, server, deltas, finish):
    server.will(wire.Events(events=wire.chunks(*deltas, finish=finish)))
    reply = chat_model().reply(ask())
    assert (reply.stop, reply.text) == ("refused", "I cannot.")


@pytest.mark.parametrize(
    "body",
    [
        wire.openai_error(
            "This model's maximum context length is 8192 tokens. However, you requested 9000.", code="context_length_exceeded"
        ),
        {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "type": "BadRequestError", "code": 400},
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
                "n_ctx": 512,
            }
        },
    ],
    ids=["OpenAI", "vLLM", "llama.cpp"],
)
def test_a_prompt_that_is_too_long_is_told_as_such(chat_model, server, body):
    server.will(wire.Plain(status=400, body=body))
    with pytest.raises(ModelFailed, match="context") as caught:
        chat_model().reply(ask())
    assert caught.value.kind == "context"


def test_a_model_without_tools_says_how_it_is_to_be_given(chat_model, server):
    server.will(wire.Plain(status=400, body=wire.openai_error("registry/library/small does not support tools", kind="api_error")))
    with pytest.raises(ModelFailed, match=r"does not support tools; .*MODEL#tools=no") as caught:
        chat_model().reply(ask(tools=(BUILD,)))
    assert caught.value.kind == "request"


def test_an_error_inside_the_stream_ends_the_exchange(chat_model, server):
    begun = wire.chunks({"content": "A ker"}, finish="", done=False)
    server.will(wire.Events(events=[*begun, 'data: {"error": {"message": "out of memory", "type": "server_error", "code": 500}}\n\n']))
    with pytest.raises(ModelFailed, match="out of memory") as caught:
        chat_model().reply(ask())
    assert caught.value.kind == "server"
