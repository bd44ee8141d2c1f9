from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from asking import BUILD, KEY, ask, hide

from kevolve.models import Message, ModelFailed, Reply, Request, Text, ToolCall, ToolResult, Usage
from kevolve.models.providers import Surroundings, UnusableModel
from kevolve.models.recorded import Recorder, Recording, exchanges, make, request_key


@dataclass(kw_only=True)
class Numbered:
    """Answers with the number of the request."""

    name: str = "anthropic:model"
    tools: bool = True
    text: str = "reply"
    asked: list[Request] = field(default_factory=list)
    fails: bool = False

    def reply(self, request: Request) -> Reply:
        self.asked.append(request)
        if self.fails:
            raise ModelFailed("server", f"HTTP 500 for {KEY}", usage=Usage(input_tokens=5))
        number = len(self.asked)
        parts = (Text(text=f"{self.text} {number}"), ToolCall(id=f"c{number}", name="build", arguments={"n": [number]}))
        message = Message(role="assistant", parts=parts, raw={"provider": "anthropic", "content": [{"signature": "abc"}]})
        return Reply(message=message, usage=Usage(input_tokens=number, usd=0.5), stop="tools", model="model-2026", seconds=1.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "exchanges.jsonl"


def test_a_conversation_replays_as_it_was(path: Path):
    live = Recorder(path, hide=hide).around(Numbered())
    request = ask(tools=(BUILD,))
    replies = [live.reply(request), live.reply(ask("Another.")), live.reply(request)]
    again = Recording(path, hide=hide).model("anthropic:model")
    assert (again.name, again.tools) == ("anthropic:model", True)
    # By request, in the order in which the same request was answered.
    assert [again.reply(request), again.reply(request), again.reply(ask("Another."))] == [replies[0], replies[2], replies[1]]


def test_deadline_and_folder_are_no_part_of_a_request(tmp_path: Path):
    assert request_key(ask()) == request_key(ask(deadline_s=1.0, workspace=tmp_path))
    different = [ask("Other."), ask(system="x"), ask(tools=(BUILD,)), ask(max_output_tokens=1)]
    assert len({request_key(request) for request in (ask(), *different)}) == 5


def test_a_failure_is_replayed_as_a_failure_and_without_the_key(path: Path):
    live = Recorder(path, hide=hide).around(Numbered(fails=True))
    with pytest.raises(ModelFailed):
        live.reply(ask())
    assert KEY not in path.read_text()
    with pytest.raises(ModelFailed, match=r"HTTP 500 for \[redacted\]") as caught:
        Recording(path).model("anthropic:model").reply(ask())
    assert (caught.value.kind, caught.value.usage) == ("server", Usage(input_tokens=5))


def test_a_key_in_a_prompt_or_a_reply_is_not_in_the_file_and_the_run_replays_all_the_same(path: Path):
    live = Recorder(path, hide=hide).around(Numbered(text=f"the key {KEY} and sk-ant-0123456789abcdefghij"))
    request = ask(f"My key is {KEY}.")
    first = live.reply(request)
    live.reply(ask(messages=(*request.messages, first.message, Message(role="user", parts=(ToolResult(id="c1", text="ok"),)))))
    written = path.read_text()
    assert KEY not in written
    assert "sk-ant" not in written
    again = Recording(path, hide=hide).model("anthropic:model")
    first = again.reply(request)
    assert first.text == "the key [redacted] and [redacted] 1"
    answered = Message(role="user", parts=(ToolResult(id="c1", text="ok"),))
    assert again.reply(ask(messages=(*request.messages, first.message, answered))).text.endswith("2")


def test_what_is_sent_again_is_written_once(path: Path):
    live = Recorder(path).around(Numbered())
    long = ask("A prompt of a certain length. " * 200)
    for turn in range(5):
        live.reply(ask(messages=(*long.messages, Message(role="user", parts=(Text(text=f"turn {turn}"),)))))
    assert path.read_text().count("of a certain length. A") == 199
    whole = list(exchanges(path))
    assert [exchange.request["messages"][1]["parts"][0]["text"] for exchange in whole] == [f"turn {turn}" for turn in range(5)]
    assert whole[4].request["system"] == "You write kernels."


def test_a_line_that_a_killed_process_left_unfinished_is_no_exchange(path: Path):
    live = Recorder(path).around(Numbered())
    live.reply(ask("one"))
    with path.open("a") as file:
        file.write('{"model": "anthropic:model", "to')
    Recorder(path).around(Numbered()).reply(ask("two"))
    assert len(list(exchanges(path))) == 2
    assert Recording(path).model("anthropic:model").reply(ask("two")).text == "reply 1"


def test_a_request_that_was_not_recorded_says_where_the_runs_part(path: Path):
    Recorder(path).around(Numbered()).reply(ask())
    again = Recording(path).model("anthropic:model")
    with pytest.raises(ModelFailed, match="the next recorded one differs in system: same seed"):
        again.reply(ask(system="Other."))
    with pytest.raises(ModelFailed, match="the next recorded one differs in messages"):
        again.reply(ask("Other."))
    again.reply(ask())
    with pytest.raises(ModelFailed, match="has no exchange left"):
        again.reply(ask())


def test_several_models_and_threads_share_one_file(path: Path):
    recorder = Recorder(path)
    models = [recorder.around(Numbered(name=name)) for name in ("anthropic:a", "openai:b")]
    threads = [threading.Thread(target=lambda m=model, n=n: m.reply(ask(f"{n}"))) for n in range(20) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum("key" in line for line in lines) == 40
    assert sum("piece" in line for line in lines) == 22  # 20 prompts, the system's text and the tools
    assert set(Recording(path).models) == {"anthropic:a", "openai:b"}


def test_the_file_is_the_users_alone(path: Path):
    Recorder(path).around(Numbered()).reply(ask())
    assert path.stat().st_mode & 0o077 == 0


def test_a_recording_is_a_model_of_its_own(path: Path):
    Recorder(path).around(Numbered()).reply(ask())
    surroundings = Surroundings(environment={})
    assert make(str(path), surroundings, tools=True).reply(ask()).text == "reply 1"
    Recorder(path).around(Numbered(name="openai:b")).reply(ask())
    with pytest.raises(UnusableModel, match="expected one model's exchanges; recorded: anthropic:model, openai:b"):
        make(str(path), surroundings, tools=True)
    with pytest.raises(UnusableModel, match="nothing of 'openai:c'; recorded: anthropic:model"):
        Recording(path).model("openai:c")
    with pytest.raises(UnusableModel, match="there is none: record a run first"):
        make(str(path) + "x", surroundings, tools=True)
