"""What must never be written down: keys and tokens, taken out of any text by their value and by their form."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

HIDDEN = "[redacted]"

_NAME = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PAT|CREDENTIALS?|CUSTOM_HEADERS)$", re.IGNORECASE)
_SHORTEST = 8  # a shorter value is a word or a number, and would be taken out of honest text
_FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic and those who copy them
    r"|(?:hf|gsk|r8|nvapi)[_-][A-Za-z0-9_-]{20,}|xai-[A-Za-z0-9]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"
    r"|AIza[A-Za-z0-9_-]{30,}|AKIA[A-Z0-9]{16}(?![A-Za-z0-9])"
    r")"
)
_SAID = re.compile(
    r"(?P<word>\bbearer\s+|\b(?:x-api-key|api[-_]key|authorization)[\"']?\s*[:=]\s*[\"']?(?:bearer\s+)?)"
    r"(?P<secret>(?=[A-Za-z_-]*[0-9])[A-Za-z0-9._~+/-]{16,}=*)",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a key, a token or a password."""
    return _NAME.search(name) is not None


def secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The secret values of an environment, the longest first: one may be a part of another."""
    values = {value for name, value in environment.items() if is_secret(name) and len(value) >= _SHORTEST}
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


def without_secrets(environment: Mapping[str, str], *, keep: Collection[str] = ()) -> dict[str, str]:
    """The environment less its keys, tokens and passwords; those named in ``keep`` stay."""
    return {name: value for name, value in environment.items() if name in keep or not is_secret(name)}


def redact(text: str, known: Iterable[str] = ()) -> str:
    """``text`` without the known secrets and without what has a key's form."""
    for secret in known:
        text = text.replace(secret, HIDDEN)
    return _SAID.sub(rf"\g<word>{HIDDEN}", _FORMS.sub(HIDDEN, text))


def hider(environment: Mapping[str, str]) -> Callable[[str], str]:
    """``redact`` for an environment's secrets: a function that shows none of them when it is printed."""
    known = secrets(environment)
    return lambda text: redact(text, known)


def redacted(value: Any, hide: Callable[[str], str] = redact) -> Any:
    """JSON-able data with every text in it redacted."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {hide(str(key)): redacted(item, hide) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, hide) for item in value]
    return value
