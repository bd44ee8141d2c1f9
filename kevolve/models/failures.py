"""Why did an exchange fail? A provider's exception to our few kinds, with what to do about it, and without any key."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from kevolve.models import Failure, ModelFailed, Usage

_LONGEST_DETAIL = 600

# Words by which providers tell that a request is too long: none has a status of its own for it.
_CONTEXT = (
    "context_length_exceeded",
    "exceed_context_size",
    "maximum context length",
    "context window",
    "context limit",
    "context size",
    "context length",
    "prompt is too long",
    "request_too_large",
)
_ACCOUNT = ("insufficient_quota", "billing_error", "credit balance", "billing_not_active", "billing_hard_limit_reached")
_TOLD: Mapping[str, Failure] = {
    "authentication_error": "auth",
    "permission_error": "auth",
    "invalid_api_key": "auth",
    "rate_limit_error": "rate-limit",
    "rate_limit_exceeded": "rate-limit",
    "overloaded_error": "server",
    "api_error": "server",
    "server_error": "server",
    "internal_server_error": "server",
    "timeout_error": "timeout",
}
_STATUS: Mapping[int, Failure] = {401: "auth", 402: "auth", 403: "auth", 408: "timeout", 413: "context", 429: "rate-limit", 504: "timeout"}
_ADVICE: Mapping[Failure, str] = {
    "auth": "check the key, what it may use and the account's credit",
    "rate-limit": "run fewer steps at once, add a second model, or wait",
    "server": "the provider's trouble: try again later, or add a second model",
    "timeout": "raise the deadline, or ask for fewer output tokens",
    "context": "shorten the prompt: fewer documents, less history",
    "connection": "check the network, the URL and that the server runs",
    "truncated": "the connection or the server broke off: try again",
    "request": "check the model's name and what it supports; a model that takes no tools is given as MODEL#tools=no",
    "command": "run the command by hand with a prompt on its standard input",
}


class ToldInStream(Exception):
    """A provider told of a failure inside a stream that had begun well."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A failure that is not raised yet: an exception raised where another is handled would carry that one along, keys and all."""

    kind: Failure
    what: str

    def failed(self, name: str, *, usage: Usage, hide: Callable[[str], str]) -> ModelFailed:
        """The exception: model, what happened, what to do. ``hide`` takes known secrets out."""
        return ModelFailed(self.kind, hide(f"{name}: {self.what}; {_ADVICE[self.kind]}"), usage=usage)


def transport_of(sdk: ModuleType) -> ModuleType:
    """The HTTP package under an SDK, whose exceptions it lets through once a stream has begun (httpx or httpx2).

    By a method of what it re-exports: the class itself names the SDK as its module.
    """
    return import_module(sdk.Timeout.__init__.__module__.partition(".")[0])


def expected(sdk: ModuleType) -> tuple[type[Exception], ...]:
    """Everything that an exchange may end with, and that is not a bug of ours."""
    transport = transport_of(sdk)
    return (sdk.APIError, transport.HTTPError, transport.StreamError, ToldInStream, json.JSONDecodeError)


def explain(error: Exception, sdk: ModuleType, *, begun: bool) -> Trouble:
    """What an SDK's exception means. ``begun``: part of the reply had arrived."""
    transport = transport_of(sdk)
    if isinstance(error, ToldInStream):
        return _told(200, {"code": error.code, "message": error.message})
    if isinstance(error, sdk.APITimeoutError | transport.TimeoutException):
        return Trouble(kind="timeout", what="nothing came from the server for as long as was allowed")
    if isinstance(error, sdk.APIConnectionError | transport.HTTPError | transport.StreamError | json.JSONDecodeError):
        if begun:
            return Trouble(kind="truncated", what=f"the reply broke off ({_cause(error)})")
        return Trouble(kind="connection", what=f"no connection ({_cause(error)})")
    return _told(getattr(error, "status_code", 200), getattr(error, "body", None) or str(error))


def _cause(error: Exception) -> str:
    """The lowest reason, which says more than "Connection error."."""
    while isinstance(error.__cause__, Exception) and str(error.__cause__):
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _told(status: int, body: Any) -> Trouble:
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    fields = inner if isinstance(inner, Mapping) else {}
    detail = str(fields.get("message") or inner)
    words = [str(fields.get(key) or "") for key in ("type", "code")]
    kind = _kind(status, words, detail)
    said = detail if len(detail) <= _LONGEST_DETAIL else detail[:_LONGEST_DETAIL] + " …"
    return Trouble(kind=kind, what=f"{'the stream told' if status == 200 else f'HTTP {status}'}: {said}")


def _kind(status: int, words: Collection[str], detail: str) -> Failure:
    text = " ".join((*words, detail)).lower()
    if any(word in text for word in _ACCOUNT):
        return "auth"  # waiting does not help an account without credit, although some say it with 429
    if status in (200, 400, 413, 422) and any(word in text for word in _CONTEXT):
        return "context"
    if status in _STATUS:
        return _STATUS[status]
    told = next((_TOLD[word] for word in words if word in _TOLD), None)
    if 400 <= status < 500 and told == "server":
        return "request"  # the status says whose fault it is
    return told or ("server" if status >= 500 else "request")
