"""Which model? One Protocol: a request to a reply. One module a provider, registered under ``kevolve.models``.

Everything here is a plain value; the official packages are imported by the providers, when a model is first asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from kevolve.models.redaction import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What exchanges cost. ``input_tokens`` are those read at full price: cached reads and writes are apart.

    ``usd``: from the user's own prices; None where no price was configured for the model (unknown is never 0).
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None

    @property
    def tokens(self) -> int:
        """All of them, as a limit counts them."""
        return self.input_tokens + self.cached_tokens + self.cache_write_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        usd = None if (self.tokens and self.usd is None) or (other.tokens and other.usd is None) else (self.usd or 0.0) + (other.usd or 0.0)
        counts = {item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self) if item.name != "usd"}
        return Usage(**counts, usd=usd if usd or self.usd is not None or other.usd is not None else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something a model may ask for. ``parameters``: the JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a model or we say."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What a model asks for. ``problem``: why its arguments could not be read (malformed JSON); ``arguments`` are then empty."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What we answer to a call."""

    id: str
    text: str
    failed: bool = False


Part: TypeAlias = Text | ToolCall | ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. ``raw``: the provider's own form of its reply, sent back unchanged (reasoning blocks, signatures)."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]
    raw: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a command did in its folder: (kind, kernel) of each evaluation that it was answered, in order, and texts of files it left."""

    evaluations: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


class Desk(Protocol):
    """The folder of a request as its owner sees it, so that an exchange can be recorded and told again."""

    def done(self) -> Work:
        """What was done; nothing is answered any more."""
        ...

    def redo(self, work: Work) -> None:
        """Do the same without a command: evaluations are made anew, files written."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One exchange. ``system`` and the first message are the stable prefix that prompt caching lives on.

    ``workspace``: a folder with the files and the evaluation command, for models that work in one (a coding agent's command).
    ``desk``: the same folder for who records the exchange, or answers from a record.
    """

    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    max_output_tokens: int = 16_000
    deadline_s: float = 600.0
    workspace: Path | None = None
    desk: Desk | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. ``stop``: the model was done, asks for tools, ran out of output tokens, or refused."""

    message: Message
    usage: Usage
    stop: Literal["done", "tools", "length", "refused"]
    model: str  # as the provider names it
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """Its text parts, joined."""
        return "".join(part.text for part in self.message.parts if isinstance(part, Text))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """What it asks for."""
        return tuple(part for part in self.message.parts if isinstance(part, ToolCall))


Failure: TypeAlias = Literal["rate-limit", "server", "timeout", "context", "auth", "connection", "truncated", "request", "command"]


class ModelFailed(Exception):
    """An exchange that gave no reply, after the provider's own retries; the message says what to do. ``usage``: what it cost.

    What has a key's form is taken out of the message.
    """

    def __init__(self, kind: Failure, message: str, *, usage: Usage | None = None) -> None:
        super().__init__(redact(message))
        self.kind, self.usage = kind, usage or Usage()


class Model(Protocol):
    """A model behind whatever transport. Thread-safe: several steps wait on one model at once."""

    @property
    def name(self) -> str:
        """As the user gave it, without its weight: ``anthropic:NAME``."""
        ...

    @property
    def tools(self) -> bool:
        """Whether it can be offered tools; else its replies carry fenced blocks."""
        ...

    def reply(self, request: Request) -> Reply:
        """One exchange. Raises ``ModelFailed``."""
        ...
