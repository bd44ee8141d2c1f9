"""What OpenAI's two interfaces share: the client of one exchange, how tokens are told, how calls and results are written."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from kevolve.models import ToolCall, ToolResult, Usage
from kevolve.models.streaming import Answer, Patience, receive, timeout


class Account(Protocol):
    """Where a model is asked, and as whom."""

    @property
    def name(self) -> str:
        """The model's, as the user gave it."""
        ...

    @property
    def sdk(self) -> ModuleType:
        """The ``openai`` package."""
        ...

    @property
    def api_key(self) -> str:
        """The key."""
        ...

    @property
    def base_url(self) -> str | None:
        """None: the package's own."""
        ...

    @property
    def patience(self) -> Patience:
        """How long to wait."""
        ...

    @property
    def hide(self) -> Callable[[str], str]:
        """Takes secrets out of messages."""
        ...


def stream(answer: Answer, account: Account, create: Callable[[Any], Awaitable[Any]], *, deadline_s: float) -> None:
    """Stream the reply that ``create`` asks a client for into ``answer``. Raises ``ModelFailed`` unless it is complete."""
    receive(
        answer,
        sdk=account.sdk,
        client=lambda transport: account.sdk.AsyncOpenAI(
            api_key=account.api_key,
            base_url=account.base_url,
            http_client=transport,
            max_retries=account.patience.max_retries,
            timeout=timeout(account.sdk, account.patience, deadline_s),
        ),
        create=create,
        name=account.name,
        deadline_s=deadline_s,
        hide=account.hide,
    )


def usage_of(told: Mapping[str, Any], *, read: str, written: str) -> Usage:
    """Tokens by the interface's words for those ``read`` and ``written``: its input includes what its cache held, here they are apart."""
    details = told.get(f"{read}_details", {})
    cached, cache_write = details.get("cached_tokens", 0), details.get("cache_write_tokens", 0)
    return Usage(
        input_tokens=max(0, told.get(read, 0) - cached - cache_write),
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        output_tokens=told.get(written, 0),
    )


def arguments_text(call: ToolCall) -> str:
    """A call's arguments as OpenAI's interfaces carry them."""
    return json.dumps(dict(call.arguments), ensure_ascii=False)


def result_text(result: ToolResult) -> str:
    """A result as OpenAI's interfaces carry it: they have no mark for a failed one."""
    return f"failed: {result.text}" if result.failed else result.text
