"""OpenAI's Responses API through the ``openai`` package: ``openai:NAME``.

Nothing is stored at the provider (``store=False``): the conversation travels with every request, and reasoning with it in
encrypted form, so that a model goes on thinking where it stopped for a tool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from kevolve.models import Message, ModelFailed, Part, Reply, Request, Text, Tool, ToolCall, ToolResult, Usage
from kevolve.models.failures import ToldInStream
from kevolve.models.openai_exchange import arguments_text, result_text, stream, usage_of
from kevolve.models.prices import Price, priced
from kevolve.models.streaming import PATIENCE, Patience, plain, tool_call

PROVIDER = "openai-responses"

_REASONING = "reasoning.encrypted_content"
_POLICY = ("invalid_prompt", "policy", "misalignment")  # in the codes of responses that a filter stopped


@dataclass(slots=True, kw_only=True)
class OpenAIResponses:
    """A model of the Responses API. ``base_url`` None: the package's, which reads ``OPENAI_BASE_URL``."""

    name: str
    sdk: ModuleType = field(repr=False)
    api_key: str = field(repr=False)
    hide: Callable[[str], str] = field(repr=False)
    tools: bool = True
    price: Price | None = None
    patience: Patience = PATIENCE
    base_url: str | None = None
    _reasons: bool = True  # until the API says that the model does not

    def reply(self, request: Request) -> Reply:
        """One exchange. Raises ``ModelFailed``."""
        started, failure = time.perf_counter(), None
        try:
            return self._exchange(request, request.deadline_s)
        except ModelFailed as error:
            # No list of models tells which of them reason: the API does, once, and takes nothing for it.
            if not (self._reasons and error.kind == "request" and "encrypted content" in str(error).lower()):
                failure = error
        if failure:
            raise failure
        self._reasons = False
        return self._exchange(request, max(0.0, request.deadline_s - (time.perf_counter() - started)))

    def _exchange(self, request: Request, deadline_s: float) -> Reply:
        answer, started = _Answer(), time.perf_counter()
        body = _body(request, self.name.partition(":")[2], reasons=self._reasons)
        stream(answer, self, lambda client: client.responses.create(**body, stream=True), deadline_s=deadline_s)
        return answer.reply(self.price, seconds=time.perf_counter() - started)


class _Answer:
    """The reply of a stream's events so far; the last one carries all of it."""

    def __init__(self) -> None:
        self.begun = self.complete = False
        self._items: list[dict[str, Any]] = []
        self._final: dict[str, Any] = {}

    def take(self, event: Any) -> bool:
        """Add one event; whether it was the last. Raises ``ToldInStream``."""
        self.begun, told = True, plain(event)
        match told.get("type"):
            case "response.output_item.done":
                self._items.append(told["item"])
            case "response.completed" | "response.incomplete":
                self._final = told["response"]
                self.complete = True
            case "response.failed":
                self._final = told["response"]
                self._refused_or_raise(self._final.get("error", {}))
            case "error":
                raise ToldInStream(told.get("code", ""), told.get("message", "an error without words"))
        return self.complete

    def usage(self) -> Usage:
        """What the API said of it."""
        return usage_of(self._final.get("usage", {}), read="input_tokens", written="output_tokens")

    def reply(self, price: Price | None, *, seconds: float) -> Reply:
        """The whole reply."""
        reason = self._final.get("incomplete_details", {}).get("reason", "")
        items = self._final.get("output") or self._items  # some gateways leave the last event's output empty
        parts = tuple(part for item in items for part in _parts(item, cut=reason == "max_output_tokens"))
        stop = self._stop(items, parts, reason)
        if stop == "refused" and not parts:
            parts = (Text(text=str(self._final.get("error", {}).get("message", ""))),)
        message = Message(role="assistant", parts=parts, raw={"provider": PROVIDER, "output": _returnable(items)})
        model = str(self._final.get("model", ""))
        return Reply(message=message, usage=priced(self.usage(), price), stop=stop, model=model, seconds=seconds)

    def _refused_or_raise(self, error: Mapping[str, Any]) -> None:
        code, message = str(error.get("code", "")), str(error.get("message", "the response failed"))
        if not any(word in code for word in _POLICY):
            raise ToldInStream(code, message)
        self.complete = True

    def _stop(self, items: list[dict[str, Any]], parts: tuple[Part, ...], reason: str) -> Literal["done", "tools", "length", "refused"]:
        said = [content.get("type") for item in items if item["type"] == "message" for content in item.get("content", ())]
        if "refusal" in said or reason == "content_filter" or self._final.get("status") == "failed":
            return "refused"
        if reason:
            return "length"
        return "tools" if any(isinstance(part, ToolCall) for part in parts) else "done"


def _parts(item: dict[str, Any], *, cut: bool) -> tuple[Part, ...]:
    if item["type"] == "function_call":
        return (tool_call(item["call_id"], item["name"], item.get("arguments", ""), cut=cut),)
    if item["type"] != "message":
        return ()  # reasoning travels in `raw` only
    texts = (content.get("text") or content.get("refusal") or "" for content in item.get("content", ()))
    return tuple(Text(text=text) for text in texts if text)


def _returnable(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items as the API takes them back: reasoning only where it came encrypted (its id alone names nothing that is stored)."""
    kept = [item for item in items if item["type"] != "reasoning" or item.get("encrypted_content")]
    return [item | {"arguments": "{}"} if item["type"] == "function_call" and _malformed(item) else item for item in kept]


def _malformed(item: dict[str, Any]) -> bool:
    return bool(tool_call("", item["name"], item.get("arguments", ""), cut=False).problem)


def _body(request: Request, model: str, *, reasons: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message)],
        "max_output_tokens": request.max_output_tokens,
        "store": False,
    }
    if request.system:
        body["instructions"] = request.system
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if reasons:
        body["include"] = [_REASONING]
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    """``strict`` would demand schemas in which every property is required."""
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": dict(tool.parameters), "strict": False}


def _items(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.raw, Mapping) and message.raw.get("provider") == PROVIDER:
        return list(message.raw["output"])
    return [_item(part, message.role) for part in message.parts if not (isinstance(part, Text) and not part.text)]


def _item(part: Part, role: str) -> dict[str, Any]:
    match part:
        case Text():
            return {"role": role, "content": [{"type": "output_text" if role == "assistant" else "input_text", "text": part.text}]}
        case ToolCall():
            return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments_text(part)}
        case ToolResult():
            return {"type": "function_call_output", "call_id": part.id, "output": result_text(part)}
