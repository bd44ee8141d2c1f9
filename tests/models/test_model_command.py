from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from asking import KEY, ask

from kevolve.models import Message, ModelFailed, Text, ToolCall, ToolResult, Usage
from kevolve.models.command import CommandModel, make, prompt_text
from kevolve.models.providers import Surroundings, UnusableModel

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/home/of-the-user", "OPENAI_API_KEY": KEY, "HF_TOKEN": "hf-0123456789"}


def command(text: str) -> CommandModel:
    model = make(text, Surroundings(environment=ENVIRONMENT), tools=True)
    assert isinstance(model, CommandModel)
    return model


def test_the_prompt_goes_in_and_the_reply_comes_out():
    reply = command("tr a-z A-Z").reply(ask("Write a kernel."))
    assert reply.text == "YOU WRITE KERNELS.\n\nWRITE A KERNEL.\n"
    assert (reply.stop, reply.calls, reply.model) == ("done", (), "command:tr a-z A-Z")


def test_a_commands_tokens_are_estimated_and_its_cost_unknown():
    usage = command("cat >/dev/null; echo 1234567").reply(ask("x" * 38, system="")).usage
    assert usage == Usage(input_tokens=10, output_tokens=2, usd=None)


def test_a_long_prompt_and_a_long_reply_do_not_block_each_other():
    assert len(command("cat").reply(ask("ä" * 300_000)).text) > 300_000


def test_a_command_that_does_not_read_its_prompt_is_heard():
    assert command("echo ready").reply(ask("x" * 200_000)).text == "ready\n"


def test_an_agents_command_works_in_the_requests_folder(tmp_path: Path):
    folder = tmp_path / "a folder; of $HOME"
    folder.mkdir()
    model = command("test {workspace} -ef . && echo kernel >kernel.py")
    assert model.works_in_folder
    assert model.reply(ask(workspace=folder)).text == ""
    assert (folder / "kernel.py").read_text() == "kernel\n"


def test_an_agents_command_needs_a_folder():
    with pytest.raises(ModelFailed, match="expected a request with a workspace"):
        command("agent {workspace}").reply(ask())


def test_keys_do_not_reach_a_command():
    seen = command("env").reply(ask()).text
    assert "HOME=/home/of-the-user" in seen
    assert "OPENAI_API_KEY" not in seen
    assert "HF_TOKEN" not in seen


def test_a_key_that_the_command_names_reaches_it_and_is_in_no_name():
    model = command('test "$OPENAI_API_KEY" = ' + KEY + " && env")
    assert KEY not in model.name
    assert KEY not in repr(command("echo $OPENAI_API_KEY"))
    seen = model.reply(ask()).text
    assert f"OPENAI_API_KEY={KEY}" in seen
    assert "HF_TOKEN" not in seen


def test_a_command_that_fails_is_told_with_what_it_wrote_and_without_keys():
    with pytest.raises(ModelFailed) as caught:
        command("echo no such key: $OPENAI_API_KEY >&2; exit 3").reply(ask())
    assert caught.value.kind == "command"
    assert "expected exit status 0, got 3" in str(caught.value)
    assert "it wrote: no such key: [redacted]" in str(caught.value)


def test_a_command_that_says_nothing_has_failed():
    with pytest.raises(ModelFailed, match="got nothing") as caught:
        command("true").reply(ask())
    assert caught.value.kind == "command"


def test_a_command_ends_at_the_deadline_with_all_that_it_started(tmp_path: Path):
    started = time.monotonic()
    with pytest.raises(ModelFailed, match=r"no end within the deadline of 0\.3 s") as caught:
        command(f"(sleep 1; touch {tmp_path}/left) & echo thinking >&2; sleep 60").reply(ask(deadline_s=0.3))
    assert caught.value.kind == "timeout"
    assert "it wrote: thinking" in str(caught.value)
    assert time.monotonic() - started < 5
    time.sleep(max(0.0, 1.3 - (time.monotonic() - started)))
    assert not (tmp_path / "left").exists()


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path):
    line = f"(sleep 0.5; touch {tmp_path}/left) >/dev/null 2>&1 & echo done"
    assert command(line).reply(ask()).text == "done\n"
    time.sleep(0.8)
    assert not (tmp_path / "left").exists()


def test_a_conversation_is_one_text_with_headings():
    spoke = Message(role="assistant", parts=(Text(text="I build."), ToolCall(id="1", name="build", arguments={"n": 1})))
    text = prompt_text(
        ask("First.", messages=(*ask("First.").messages, spoke, Message(role="user", parts=(ToolResult(id="1", text="ok"),))))
    )
    assert text == "You write kernels.\n\nFirst.\n\n# Your reply\n\nI build.\n\nbuild(n=1)\n\n# Answer to it\n\nok\n"


def test_a_command_without_words_is_unusable():
    with pytest.raises(UnusableModel, match="expected a command"):
        command(" ")
