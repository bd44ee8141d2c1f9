"""What the tests of models ask, and with which key."""

from __future__ import annotations

from typing import Any

from kevolve.models import Message, Request, Text, Tool
from kevolve.models.prices import Price
from kevolve.models.redaction import redact

KEY = "sesame-open-0123456789"
PRICE = Price(input=1.0, cached=0.1, cache_write=2.0, output=10.0)
BUILD = Tool(name="build", description="Compile the kernel.", parameters={"type": "object", "properties": {"source": {"type": "string"}}})


def hide(text: str) -> str:
    return redact(text, (KEY,))


def ask(text: str = "Write a kernel.", **changes: Any) -> Request:
    return Request(
        **dict(system="You write kernels.", messages=(Message(role="user", parts=(Text(text=text),)),), deadline_s=10.0) | changes
    )
