"""Chat completions through the ``openai`` package, as servers of open models speak them (vLLM, Ollama, llama.cpp): ``openai:NAME@URL``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from kevolve.models import Message, Part, Reply, Request, Text, Tool, ToolCall, ToolResult, Usage
from kevolve.models.openai_exchange import arguments_text, result_text, stream, usage_of
from kevolve.models.prices import Price, priced
from kevolve.models.streaming import PATIENCE, Patience, plain, tool_call

PROVIDER = "openai-chat"

_THOUGHT = ("reasoning_content", "reasoning")  # what servers call it; it is in no version of the package's types


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIChat:
    """A model behind chat completions at ``base_url`` (which ends in ``/v1`` with most servers)."""

    name: str
    model: str
    base_url: str
    sdk: ModuleType = field(repr=False)
    api_key: str = field(repr=False)
    hide: Callable[[str], str] = field(repr=False)
    tools: bool = True
    price: Price | None = None
    patience: Patience = PATIENCE

    def reply(self, request: Request) -> Reply:
        """One exchange. Raises ``ModelFailed``."""
        answer, started = _Answer(), time.perf_counter()
        body = _body(request, self.model)
        stream(
            answer,
            self,
            lambda client: client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}),
            deadline_s=request.deadline_s,
        )
        return answer.reply(self.price, seconds=time.perf_counter() - started)


@dataclass(slots=True)
class _Call:
    """A call as its pieces arrive."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class _Answer:
    """The reply of a stream's chunks so far."""

    def __init__(self) -> None:
        self.begun = self.complete = False
        self._model = self._text = self._refusal = self._finish = ""
        self._thought: dict[str, str] = {}
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._usage: dict[str, Any] = {}

    def take(self, event: Any) -> bool:
        """Add one chunk. The tokens come after the reply's end, so that the stream is read on until it ends."""
        self.begun, told = True, plain(event)
        self._model = told.get("model", self._model)
        self._usage = told.get("usage", self._usage)
        for choice in told.get("choices", ()):
            self._add(choice.get("delta", {}))
            self._finish = choice.get("finish_reason", self._finish)
        self.complete = bool(self._finish)
        return self.complete and bool(self._usage)

    def usage(self) -> Usage:
        """What the server said of it."""
        return usage_of(self._usage, read="prompt_tokens", written="completion_tokens")

    def reply(self, price: Price | None, *, seconds: float) -> Reply:
        """The whole reply."""
        said = self._text or self._refusal
        texts: tuple[Part, ...] = (Text(text=said),) if said else ()
        calls = tuple(tool_call(call.id, call.name, call.arguments, cut=self._finish == "length") for call in self._calls)
        raw = {"provider": PROVIDER, "thought": self._thought if calls else {}}
        message = Message(role="assistant", parts=(*texts, *calls), raw=raw)
        return Reply(message=message, usage=priced(self.usage(), price), stop=self._stop(), model=self._model, seconds=seconds)

    def _stop(self) -> Literal["done", "tools", "length", "refused"]:
        if self._refusal or self._finish == "content_filter":
            return "refused"
        if self._finish == "length":
            return "length"
        return "tools" if self._calls else "done"  # some servers finish calls with "stop"

    def _add(self, delta: Mapping[str, Any]) -> None:
        self._text += delta.get("content", "")
        self._refusal += delta.get("refusal", "")
        for name in _THOUGHT:
            if piece := delta.get(name):
                self._thought[name] = self._thought.get(name, "") + piece
        for piece in delta.get("tool_calls", ()):
            self._add_call(piece)

    def _add_call(self, piece: Mapping[str, Any]) -> None:
        index, id = piece.get("index", 0), piece.get("id", "")
        call = self._at.get(index)
        if call is None or (id and id != call.id):  # some servers number every call 0
            call = self._at[index] = _Call(id=id or f"call_{len(self._calls)}")
            self._calls.append(call)
        function = piece.get("function", {})
        call.name = call.name or function.get("name", "")
        call.arguments += function.get("arguments", "")


def _body(request: Request, model: str) -> dict[str, Any]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    body: dict[str, Any] = {
        "model": model,
        "messages": system + [item for message in request.messages for item in _messages(message)],
        "max_tokens": request.max_output_tokens,  # the older name is the one that all servers read
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}}


def _messages(message: Message) -> list[dict[str, Any]]:
    """One turn: an assistant's is one message, a user's is one for each result and one for the text."""
    text = "\n\n".join(part.text for part in message.parts if isinstance(part, Text) and part.text)
    if message.role == "assistant":
        return [_assistant(message, text)]
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    answered = [{"role": "tool", "tool_call_id": part.id, "content": result_text(part)} for part in results]
    return [*answered, *([{"role": "user", "content": text}] if text or not answered else [])]


def _assistant(message: Message, text: str) -> dict[str, Any]:
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        said["tool_calls"] = [_call(call) for call in calls]
    if isinstance(message.raw, Mapping) and message.raw.get("provider") == PROVIDER:
        said |= message.raw["thought"]  # models that think between calls go on from there
    return said


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_text(call)}}
