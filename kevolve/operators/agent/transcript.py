"""The record of one conversation, as JSON: for whoever asks how a kernel came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kevolve.models import Message, Reply, Text, ToolCall, Usage
from kevolve.operators.agent.prompt import Prompt

FORMAT = 1


class Transcript:
    """Grows with a conversation. What providers put into ``Message.raw`` is theirs and not kept."""

    def __init__(self, prompt: Prompt, model: str) -> None:
        sections = [
            {"name": part.name, "tokens": part.tokens, "budget": part.budget, "left_out": part.left_out} for part in prompt.sections
        ]
        self._kept: dict[str, Any] = {
            "format": FORMAT,
            "model": model,
            "prompt": {"tokens": prompt.tokens, "sections": sections},
            "system": prompt.system,
            "messages": [],
        }

    def told(self, message: Message) -> None:
        """Keep what we said."""
        self._kept["messages"].append(_message(message))

    def answered(self, reply: Reply) -> None:
        """Keep what came back, with what it cost."""
        costs = {"stop": reply.stop, "model": reply.model, "seconds": round(reply.seconds, 3), "usage": asdict(reply.usage)}
        self._kept["messages"].append(_message(reply.message) | costs)

    def note(self, **fields: Any) -> None:
        """Keep something else (what a workspace's command asked for)."""
        self._kept.setdefault("notes", []).append(fields)

    def text(self, *, ended: str, usage: Usage, seconds: float, **fields: Any) -> str:
        """The whole as JSON. ``ended``: why there was no further turn."""
        closing = {"ended": ended, "usage": asdict(usage), "seconds": round(seconds, 3), **fields}
        return json.dumps(self._kept | closing, ensure_ascii=False, indent=1).encode("utf-8", "replace").decode("utf-8")


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "parts": [_part(part) for part in message.parts]}


def _part(part: Any) -> Mapping[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, ToolCall):
        problem = {"problem": part.problem} if part.problem else {}
        return {"call": part.name, "id": part.id, "arguments": dict(part.arguments), **problem}
    return {"result": part.id, "text": part.text, "failed": part.failed}
