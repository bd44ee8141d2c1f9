"""Anthropic's Messages API through the ``anthropic`` package.

The raw events are added up here, not by the package's own accumulator: that one raises where a tool's arguments are malformed,
reads cut-off arguments as if they were whole, and takes a stream that breaks off for a finished reply (its
``lib/streaming/_messages.py``). No temperature is sent: current models take none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from kevolve.models import Message, Model, Part, Reply, Request, Text, Tool, ToolCall, ToolResult, Usage
from kevolve.models.prices import Price, priced
from kevolve.models.providers import Surroundings, UnusableModel, key, package
from kevolve.models.redaction import hider
from kevolve.models.streaming import PATIENCE, Patience, plain, receive, timeout, tool_call

PROVIDER = "anthropic"
VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")

_CACHED = {"type": "ephemeral"}
_STOPS: Mapping[str, Literal["done", "tools", "length", "refused"]] = {
    "end_turn": "done",
    "stop_sequence": "done",
    "tool_use": "tools",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refused",
}


def factory() -> Callable[..., Model]:
    """The registered way in: ``anthropic:NAME``."""
    return make


def make(text: str, surroundings: Surroundings, *, tools: bool) -> Model:
    """A model by its name. Raises ``UnusableModel`` without package, name or key."""
    name = f"{PROVIDER}:{text}"
    if not text or "@" in text:
        raise UnusableModel(f"{name!r}: expected anthropic:NAME; another base URL is told by ANTHROPIC_BASE_URL")
    sdk = package("anthropic")
    variable, value = key(surroundings.environment, VARIABLES, of=name)
    return AnthropicMessages(
        name=name,
        tools=tools,
        sdk=sdk,
        credentials={"auth_token" if variable == "ANTHROPIC_AUTH_TOKEN" else "api_key": value},
        price=surroundings.prices.of(name),
        patience=surroundings.patience,
        hide=hider(surroundings.environment),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicMessages:
    """A model of the Messages API. ``base_url`` None: the package's, which reads ``ANTHROPIC_BASE_URL``."""

    name: str
    sdk: ModuleType = field(repr=False)
    credentials: Mapping[str, str] = field(repr=False)
    hide: Callable[[str], str] = field(repr=False)
    tools: bool = True
    price: Price | None = None
    patience: Patience = PATIENCE
    base_url: str | None = None

    def reply(self, request: Request) -> Reply:
        """One exchange. Raises ``ModelFailed``."""
        answer, started = _Answer(), time.perf_counter()
        body = _body(request, self.name.partition(":")[2])
        receive(
            answer,
            sdk=self.sdk,
            client=lambda transport: self.sdk.AsyncAnthropic(
                **self.credentials,
                base_url=self.base_url,
                http_client=transport,
                max_retries=self.patience.max_retries,
                timeout=timeout(self.sdk, self.patience, request.deadline_s),
            ),
            create=lambda client: client.messages.create(**body, stream=True),
            name=self.name,
            deadline_s=request.deadline_s,
            hide=self.hide,
        )
        return answer.reply(self.price, seconds=time.perf_counter() - started)


class _Answer:
    """The reply of a stream's events so far."""

    def __init__(self) -> None:
        self.begun = self.complete = False
        self._model = ""
        self._blocks: list[dict[str, Any]] = []
        self._arguments: dict[int, str] = {}  # JSON text by the block's index
        self._counts: dict[str, Any] = {}
        self._stop = self._why = ""

    def take(self, event: Any) -> bool:
        """Add one event; whether it was the last."""
        self.begun, told = True, plain(event)
        match told.get("type"):
            case "message_start":
                self._model = told["message"].get("model", "")
                self._counts |= told["message"].get("usage", {})
            case "content_block_start":
                self._blocks.append(told["content_block"])
            case "content_block_delta":
                self._add(told["index"], told["delta"])
            case "message_delta":
                self._counts |= told.get("usage", {})  # totals so far; one that is not told keeps its value
                self._stop = told["delta"].get("stop_reason", "")
                self._why = told["delta"].get("stop_details", {}).get("explanation", "")
            case "message_stop":
                self.complete = bool(self._stop)
        return self.complete

    def usage(self) -> Usage:
        """The counts so far; the API tells cached reads and writes apart from the rest already."""
        return Usage(
            input_tokens=self._counts.get("input_tokens", 0),
            cached_tokens=self._counts.get("cache_read_input_tokens", 0),
            cache_write_tokens=self._counts.get("cache_creation_input_tokens", 0),
            output_tokens=self._counts.get("output_tokens", 0),
        )

    def reply(self, price: Price | None, *, seconds: float) -> Reply:
        """The whole reply."""
        parts = tuple(part for index, block in enumerate(self._blocks) for part in self._parts(index, block))
        calls = any(isinstance(part, ToolCall) for part in parts)
        stop = _STOPS.get(self._stop, "tools" if calls else "done")
        if stop == "refused" and not parts and self._why:
            parts = (Text(text=self._why),)
        raw = {"provider": PROVIDER, "content": self._blocks}
        message = Message(role="assistant", parts=parts, raw=raw)
        return Reply(message=message, usage=priced(self.usage(), price), stop=stop, model=self._model, seconds=seconds)

    def _add(self, index: int, delta: Mapping[str, Any]) -> None:
        block = self._blocks[index]
        match delta.get("type"):
            case "text_delta":
                block["text"] = block.get("text", "") + delta["text"]
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                self._arguments[index] = self._arguments.get(index, "") + delta["partial_json"]

    def _parts(self, index: int, block: dict[str, Any]) -> tuple[Part, ...]:
        if block["type"] == "text":
            return (Text(text=block["text"]),) if block["text"] else ()
        if block["type"] != "tool_use":
            return ()  # thinking travels in `raw` only
        if index not in self._arguments:  # a tool without parameters
            return (ToolCall(id=block["id"], name=block["name"], arguments=block.get("input") or {}),)
        call = tool_call(block["id"], block["name"], self._arguments[index], cut=self._stop == "max_tokens")
        block["input"] = dict(call.arguments)  # the API takes nothing but an object back
        return (call,)


def _body(request: Request, model: str) -> dict[str, Any]:
    """The request as the API takes it: marks for its cache on system, first message and, in a conversation, the last."""
    messages = [_message(message) for message in request.messages]
    for turn in {0, len(messages) - 1} if messages else ():
        messages[turn]["content"][-1] = {**messages[turn]["content"][-1], "cache_control": _CACHED}
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_output_tokens, "messages": messages}
    if request.system:
        body["system"] = [{"type": "text", "text": request.system, "cache_control": _CACHED}]
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}


def _message(message: Message) -> dict[str, Any]:
    raw = message.raw if isinstance(message.raw, Mapping) and message.raw.get("provider") == PROVIDER else None
    content = [block for block in raw["content"] if block.get("text") != ""] if raw else [_block(part) for part in _ordered(message.parts)]
    return {"role": message.role, "content": content or [{"type": "text", "text": "(nothing)"}]}  # the API takes no empty turn


def _ordered(parts: Sequence[Part]) -> list[Part]:
    """Results first, as the API wants them; no empty text, which it refuses."""
    kept = [part for part in parts if not (isinstance(part, Text) and not part.text)]
    return sorted(kept, key=lambda part: not isinstance(part, ToolResult))


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": dict(part.arguments)}
        case ToolResult():
            return {"type": "tool_result", "tool_use_id": part.id, "content": part.text or "(nothing)", "is_error": part.failed}
