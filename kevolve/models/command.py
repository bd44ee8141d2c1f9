"""A command as a model: the prompt on its standard input, the reply on its standard output.

Where the command contains ``{workspace}`` it works in the request's folder, which holds the files and the evaluation command: a
coding agent. It runs in a shell, as the user wrote it, in a process group of its own that ends with the exchange.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kevolve.models import Message, Model, ModelFailed, Reply, Request, Text, ToolCall, ToolResult, Usage
from kevolve.models.providers import Surroundings, UnusableModel
from kevolve.models.redaction import hider, redact, without_secrets

PROVIDER = "command"

_WORKSPACE = "{workspace}"
_NAMED = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_CHARACTERS_A_TOKEN = 4
_TAIL = 800
_AFTER_END_S = 2.0


def factory() -> Callable[..., Model]:
    """The registered way in: ``command:…``."""
    return make


def make(text: str, surroundings: Surroundings, *, tools: bool) -> Model:
    """A model by its command line. Raises ``UnusableModel`` without one."""
    if not text.strip():
        raise UnusableModel("'command:': expected a command that reads a prompt and writes a reply, as command:'my-agent --print'")
    environment = surroundings.environment
    return CommandModel(command=text, environment=without_secrets(environment, keep=_NAMED.findall(text)), hide=hider(environment))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandModel:
    """A command line. ``environment``: the user's without keys, less those that the command names as ``$VARIABLE``."""

    command: str
    environment: Mapping[str, str] = field(repr=False)
    hide: Callable[[str], str] = field(repr=False, default=redact)

    @property
    def name(self) -> str:
        """The command itself."""
        return self.hide(f"{PROVIDER}:{self.command}")

    @property
    def tools(self) -> bool:
        """None: it has its own, or answers with fenced blocks."""
        return False

    @property
    def works_in_folder(self) -> bool:
        """Whether its requests must have a ``workspace``."""
        return _WORKSPACE in self.command

    def reply(self, request: Request) -> Reply:
        """Run the command once. Raises ``ModelFailed``."""
        prompt, started = prompt_text(request), time.perf_counter()
        code, output, errors = self._run(prompt, request)
        usage = estimated(prompt, output)
        if code is None:
            raise self._failed("timeout", f"no end within the deadline of {request.deadline_s:g} s; raise the deadline", errors, usage)
        if code:
            raise self._failed("command", f"expected exit status 0, got {code}; run it by hand with a prompt on its input", errors, usage)
        if not output.strip() and not self.works_in_folder:
            raise self._failed("command", "expected a reply on its standard output, got nothing; run it by hand", errors, usage)
        message = Message(role="assistant", parts=(Text(text=output),) if output else ())
        return Reply(message=message, usage=usage, stop="done", model=self.name, seconds=time.perf_counter() - started)

    def _run(self, prompt: str, request: Request) -> tuple[int | None, str, str]:
        """Exit status (None: out of time), output and errors."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", self._line(request)],
            cwd=request.workspace if self.works_in_folder else None,
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(prompt, timeout=request.deadline_s)
        except subprocess.TimeoutExpired:
            return None, "", _end(process)
        finally:
            _end(process)  # and what it left behind, or what an interrupt leaves running
        return process.returncode, output, errors

    def _line(self, request: Request) -> str:
        if not self.works_in_folder:
            return self.command
        if request.workspace is None:
            raise ModelFailed("request", f"{self.name}: expected a request with a workspace, since the command contains {_WORKSPACE}")
        return self.command.replace(_WORKSPACE, shlex.quote(str(request.workspace)))

    def _failed(self, kind: str, what: str, errors: str, usage: Usage) -> ModelFailed:
        told = f"; it wrote: {errors.strip()[-_TAIL:]}" if errors.strip() else ""
        return ModelFailed("timeout" if kind == "timeout" else "command", self.hide(f"{self.name}: {what}{told}"), usage=usage)


def _end(process: subprocess.Popen[str]) -> str:
    """End the whole group; what it had written to standard error."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return ""  # all gone
    try:
        return process.communicate(timeout=_AFTER_END_S)[1] or ""
    except (subprocess.TimeoutExpired, ValueError):
        return ""  # something that left the group holds the pipes, or they were read to their end before


def estimated(prompt: str, output: str) -> Usage:
    """Tokens by the length of what passed: a command does not tell its own. What an agent reads besides is not in it."""
    return Usage(input_tokens=-(-len(prompt) // _CHARACTERS_A_TOKEN), output_tokens=-(-len(output) // _CHARACTERS_A_TOKEN))


def prompt_text(request: Request) -> str:
    """A request as one text: the system's part, then the turns; later turns under headings that say whose they are."""
    turns = [_turn_text(message) for message in request.messages]
    if len(turns) > 1:
        owners = ("Your reply" if message.role == "assistant" else "Answer to it" for message in request.messages[1:])
        turns = [turns[0], *(f"# {owner}\n\n{turn}" for owner, turn in zip(owners, turns[1:], strict=True))]
    return "\n\n".join(text for text in (request.system, *turns) if text) + "\n"


def _turn_text(message: Message) -> str:
    return "\n\n".join(_part_text(part) for part in message.parts)


def _part_text(part: Text | ToolCall | ToolResult) -> str:
    match part:
        case Text() | ToolResult():
            return part.text
        case ToolCall():
            return f"{part.name}({', '.join(f'{name}={value!r}' for name, value in part.arguments.items())})"
