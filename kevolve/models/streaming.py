"""One exchange with an official package: streamed, its own retries, one deadline for all of it."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from kevolve.models import ToolCall, Usage
from kevolve.models.failures import Trouble, expected, explain, transport_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, and how often the package may try again (it honours ``Retry-After``)."""

    connect_s: float = 10.0
    read_s: float = 300.0  # between two pieces of a stream: models that think say nothing for minutes
    max_retries: int = 4


PATIENCE = Patience()


class Answer(Protocol):
    """A reply as it arrives."""

    begun: bool
    complete: bool  # the model's turn is over, and all of it is here

    def take(self, event: Any) -> bool:
        """Add one event; whether it was the last that is of use. Raises ``ToldInStream``."""
        ...

    def usage(self) -> Usage:
        """What is known of the cost so far."""
        ...


def receive(
    answer: Answer,
    *,
    sdk: ModuleType,
    client: Callable[[Any], Any],
    create: Callable[[Any], Awaitable[Any]],
    name: str,
    deadline_s: float,
    hide: Callable[[str], str],
) -> None:
    """Stream a reply into ``answer``. Raises ``ModelFailed`` unless it is complete.

    Every exchange has an event loop and a client of its own, so that the deadline cancels whatever goes on (a wait between two
    tries, a stream that trickles) and threads share nothing.
    """
    statuses: list[int] = []
    transport = _http_client(sdk, statuses)

    async def stream() -> None:
        async with asyncio.timeout(deadline_s), client(transport) as open_client, await create(open_client) as events:
            async for event in events:
                if answer.take(event):
                    return

    trouble: Trouble | None = None
    try:
        asyncio.run(stream())
    except TimeoutError:
        trouble = _late(deadline_s, statuses)
    except expected(sdk) as error:
        trouble = explain(error, sdk, begun=answer.begun)
    if answer.complete:
        return  # what came after the reply's end is of no matter
    trouble = trouble or Trouble(kind="truncated", what="the stream ended before the reply did")
    raise trouble.failed(name, usage=answer.usage(), hide=hide)


def timeout(sdk: ModuleType, patience: Patience, deadline_s: float) -> Any:
    """The package's own time-outs for a request with this deadline."""
    return sdk.Timeout(min(patience.read_s, deadline_s), connect=min(patience.connect_s, deadline_s))


def _http_client(sdk: ModuleType, statuses: list[int]) -> Any:
    """The package's own HTTP client, with the certificates that all exchanges share: reading them takes longer than the rest.

    Every response's status is added to ``statuses``.
    """

    async def note(response: Any) -> None:
        statuses.append(response.status_code)

    return sdk.DefaultAsyncHttpxClient(verify=_certificates(transport_of(sdk)), event_hooks={"response": [note]})


def _late(deadline_s: float, statuses: list[int]) -> Trouble:
    """Why there is no reply in time: what the server said last, where that was to come back later."""
    if statuses and statuses[-1] == 429:
        return Trouble(kind="rate-limit", what=f"HTTP 429 until the deadline of {deadline_s:g} s")
    if statuses and statuses[-1] >= 500:
        return Trouble(kind="server", what=f"HTTP {statuses[-1]} until the deadline of {deadline_s:g} s")
    return Trouble(kind="timeout", what=f"no whole reply within the deadline of {deadline_s:g} s")


@functools.cache
def _certificates(transport: ModuleType) -> Any:
    return transport.create_ssl_context()


def plain(event: Any) -> dict[str, Any]:
    """An event as data: packages hand out what their version does not know as it came, here a model and there a dict."""
    data = event.to_dict(exclude_none=True, warnings=False) if hasattr(event, "to_dict") else event
    return _without_nones(data) if isinstance(data, Mapping) else {}


def _without_nones(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nones(item) for key, item in value.items() if item is not None}
    return [_without_nones(item) for item in value] if isinstance(value, list) else value


def tool_call(id: str, name: str, arguments: str, *, cut: bool) -> ToolCall:
    """A call whose arguments came as JSON text. ``cut``: the reply ran into its limit of output tokens."""
    try:
        read = json.loads(arguments or "{}")
    except ValueError as error:
        why = "cut off by the limit of output tokens" if cut else f"not JSON ({error})"
        return ToolCall(id=id, name=name, problem=f"arguments of {name!r} are {why}; got {_short(arguments)}")
    if not isinstance(read, Mapping):
        return ToolCall(id=id, name=name, problem=f"arguments of {name!r} are no JSON object; got {_short(arguments)}")
    return ToolCall(id=id, name=name, arguments=read)


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
