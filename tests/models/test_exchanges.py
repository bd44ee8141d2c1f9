"""What every provider does alike, driven through its real package over its real wire format."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import wire
from asking import KEY, ask, hide

from kevolve.models import Message, Model, ModelFailed, Text, ToolResult
from kevolve.models.recorded import Recorder
from kevolve.models.streaming import Patience

pytest.importorskip("openai", reason="pip install 'kevolve[models]'")
pytest.importorskip("anthropic", reason="pip install 'kevolve[models]'")


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One provider's wire: a model, a reply with this text, an error with this message."""

    model: Callable[..., Model]
    says: Callable[[str], list[str]]
    error: Callable[[str], Any]


@pytest.fixture(params=["anthropic", "responses", "chat"])
def spoken(request: pytest.FixtureRequest) -> Spoken:
    model = request.getfixturevalue(f"{request.param}_model")
    if request.param == "anthropic":
        return Spoken(
            model=model, says=lambda text: wire.messages([{"text": text}]), error=lambda told: wire.anthropic_error("error", told)
        )
    if request.param == "responses":
        return Spoken(model=model, says=lambda text: wire.responses([wire.said(text)]), error=wire.openai_error)
    return Spoken(model=model, says=lambda text: wire.chunks(*({"content": piece} for piece in wire.pieces(text))), error=wire.openai_error)


def failure(model: Model, **changes: Any) -> ModelFailed:
    with pytest.raises(ModelFailed) as caught:
        model.reply(ask(**changes))
    return caught.value


def test_a_reply_is_streamed_and_whole(spoken: Spoken, server: wire.Server):
    server.will(wire.Events(events=spoken.says("A kernel of three pieces.")))
    reply = spoken.model().reply(ask())
    assert (reply.text, reply.stop, reply.calls) == ("A kernel of three pieces.", "done", ())
    assert server.asked[0].body["stream"] is True
    assert "temperature" not in server.asked[0].body
    assert 0 < reply.seconds < 10


def test_a_rate_limit_is_waited_out_as_long_as_the_server_says(spoken: Spoken, server: wire.Server):
    limit = wire.Plain(status=429, body=spoken.error("too many requests"), headers={"Retry-After": "0.7"})
    server.will(limit, wire.Events(events=spoken.says("later")))
    assert spoken.model().reply(ask()).text == "later"
    first, second = (asked.at_s for asked in server.asked)
    assert 0.7 <= second - first < 2.5  # the package's own first wait is at most 0.5 s


def test_a_rate_limit_that_lasts_longer_than_the_deadline_ends_at_the_deadline(spoken: Spoken, server: wire.Server):
    server.will(wire.Plain(status=429, body=spoken.error("too many requests"), headers={"Retry-After": "30"}))
    started = time.monotonic()
    failed = failure(spoken.model(), deadline_s=0.4)
    assert failed.kind == "rate-limit"
    assert "HTTP 429 until the deadline of 0.4 s" in str(failed)
    assert time.monotonic() - started < 3
    assert len(server.asked) == 1


def test_a_rate_limit_that_stays_is_told(spoken: Spoken, server: wire.Server):
    server.will(wire.Plain(status=429, body=spoken.error("too many requests"), headers={"Retry-After": "0.05"}))
    failed = failure(spoken.model())
    assert failed.kind == "rate-limit"
    assert "HTTP 429: too many requests; run fewer steps at once" in str(failed)
    assert len(server.asked) == 2


def test_a_server_error_is_tried_again(spoken: Spoken, server: wire.Server):
    server.will(
        wire.Plain(status=500, body=spoken.error("oops"), headers={"Retry-After": "0.05"}), wire.Events(events=spoken.says("again"))
    )
    assert spoken.model().reply(ask()).text == "again"
    assert len(server.asked) == 2


def test_a_server_error_that_stays_is_told_after_the_packages_own_retries(spoken: Spoken, server: wire.Server):
    server.will(wire.Plain(status=500, body=spoken.error("oops"), headers={"Retry-After": "0.05"}))
    failed = failure(spoken.model())
    assert (failed.kind, len(server.asked)) == ("server", 2)
    assert "HTTP 500: oops" in str(failed)


def test_an_answer_that_is_no_json_is_told(spoken: Spoken, server: wire.Server):
    server.will(wire.Plain(status=502, body="<html>Bad Gateway</html>", headers={"Content-Type": "text/html"}))
    failed = failure(spoken.model(patience=Patience(max_retries=0)))
    assert failed.kind == "server"
    assert "Bad Gateway" in str(failed)


def test_a_refused_key_is_told_without_the_key_and_not_tried_again(spoken: Spoken, server: wire.Server, caplog: pytest.LogCaptureFixture):
    server.will(wire.Plain(status=401, body=spoken.error(f"invalid key {KEY}, header Authorization: Bearer {KEY}")))
    with caplog.at_level(logging.DEBUG):
        failed = failure(spoken.model())
    assert (failed.kind, len(server.asked)) == ("auth", 1)
    assert any(KEY in value for value in server.asked[0].headers.values())
    assert "invalid key [redacted]" in str(failed)
    assert KEY not in str(failed)
    assert failed.__cause__ is None
    assert failed.__context__ is None
    assert KEY not in repr(spoken.model())
    assert not [record for record in caplog.records if record.name.startswith("kevolve")]


def test_a_key_that_a_server_repeats_is_not_in_the_recording(spoken: Spoken, server: wire.Server, tmp_path: Path):
    server.will(wire.Plain(status=403, body=spoken.error(f"{KEY} may not do this")), wire.Events(events=spoken.says(f"Your key is {KEY}.")))
    model = Recorder(tmp_path / "exchanges.jsonl", hide=hide).around(spoken.model())
    assert failure(model).kind == "auth"
    assert KEY in model.reply(ask()).text
    kept = (tmp_path / "exchanges.jsonl").read_text()
    assert kept.count("[redacted] may not do this") == 1
    assert "Your key is [redacted]." in kept
    assert KEY not in kept


@pytest.mark.parametrize("cut", [True, False], ids=["the connection breaks", "the stream just ends"])
def test_a_truncated_stream_is_no_reply(spoken: Spoken, server: wire.Server, cut: bool):
    events = spoken.says("A kernel that nobody sees the end of.")
    terminal = next(at for at, event in enumerate(events) if any(end in event for end in ("message_delta", ".completed", '"stop"')))
    server.will(wire.Events(events=events[:terminal], cut=cut))
    failed = failure(spoken.model())
    assert failed.kind == "truncated"
    assert "broke off" in str(failed)
    assert len(server.asked) == 1


def test_a_reply_is_whole_although_the_connection_breaks_right_after_it(spoken: Spoken, server: wire.Server):
    events = [event for event in spoken.says("whole") if "[DONE]" not in event]
    server.will(wire.Events(events=events, cut=True))
    assert spoken.model().reply(ask()).text == "whole"


def test_a_stream_that_trickles_ends_at_the_deadline(spoken: Spoken, server: wire.Server):
    first, *_ = spoken.says("x")
    server.will(wire.Events(events=[first, *[": still here\n\n"] * 100], pause_s=0.05))
    started = time.monotonic()
    failed = failure(spoken.model(), deadline_s=0.5)
    assert failed.kind == "timeout"
    assert "within the deadline of 0.5 s" in str(failed)
    assert time.monotonic() - started < 2


def test_a_stream_that_falls_silent_ends_at_the_read_time_out(spoken: Spoken, server: wire.Server):
    server.will(wire.Events(events=spoken.says("x"), pause_s=1.5))
    started = time.monotonic()
    assert failure(spoken.model(patience=Patience(read_s=0.2, max_retries=0))).kind == "timeout"
    assert time.monotonic() - started < 1.4


def test_nobody_at_the_url_is_a_failed_connection(spoken: Spoken, server: wire.Server):
    server.close()
    failed = failure(spoken.model(patience=Patience(max_retries=0)))
    assert failed.kind == "connection"
    assert "no connection" in str(failed)


def test_an_unknown_model_is_the_requests_fault(spoken: Spoken, server: wire.Server):
    server.will(wire.Plain(status=404, body=spoken.error("model: no-such-model")))
    failed = failure(spoken.model())
    assert failed.kind == "request"
    assert "HTTP 404: model: no-such-model; check the model's name" in str(failed)


def test_an_account_without_credit_is_not_waited_for(spoken: Spoken, server: wire.Server):
    server.will(wire.Plain(status=400, body=spoken.error("Your credit balance is too low to access the API.")))
    assert failure(spoken.model()).kind == "auth"


def test_a_conversation_that_another_provider_began_goes_on(spoken: Spoken, server: wire.Server):
    server.will(wire.Events(events=spoken.says("on")))
    theirs = Message(role="assistant", parts=(Text(text="I began."),), raw={"provider": "another", "blocks": [1]})
    request = ask(messages=(*ask("Begin.").messages, theirs, Message(role="user", parts=(Text(text="Go on."),))))
    assert spoken.model().reply(request).text == "on"
    assert "I began." in str(server.asked[0].body)
    assert "blocks" not in str(server.asked[0].body)


def test_several_threads_may_ask_one_model(spoken: Spoken, server: wire.Server):
    from concurrent.futures import ThreadPoolExecutor

    server.will(wire.Events(events=spoken.says("same"), pause_s=0.01))
    model = spoken.model()
    with ThreadPoolExecutor(6) as pool:
        assert {reply.text for reply in pool.map(lambda _: model.reply(ask()), range(6))} == {"same"}


def test_a_failed_result_is_marked(spoken: Spoken, server: wire.Server):
    server.will(wire.Events(events=spoken.says("fixed")))
    answer = Message(role="user", parts=(ToolResult(id="call_1", text="line 3: error", failed=True),))
    spoken.model().reply(ask(messages=(*ask().messages, answer)))
    assert "'is_error': True" in str(server.asked[0].body) or "failed: line 3: error" in str(server.asked[0].body)
