"""Which of OpenAI's interfaces? ``openai:NAME`` is the Responses API, ``openai:NAME@URL`` a compatible server's chat completions."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from kevolve.models import Model
from kevolve.models.openai_chat import OpenAIChat
from kevolve.models.openai_responses import OpenAIResponses
from kevolve.models.providers import Surroundings, UnusableModel, key, package
from kevolve.models.redaction import hider

VARIABLES = ("OPENAI_API_KEY",)
SERVER_VARIABLE = "KEVOLVE_SERVER_API_KEY"  # OpenAI's own key goes to no other server


def factory() -> Callable[..., Model]:
    """The registered way in: ``openai:NAME`` and ``openai:NAME@URL``."""
    return make


def make(text: str, surroundings: Surroundings, *, tools: bool) -> Model:
    """A model by its name, at OpenAI or at a URL. Raises ``UnusableModel`` without package, name, key or a URL."""
    model, at, url = text.partition("@")
    if not model or (at and not url):
        raise UnusableModel(f"'openai:{text}': expected openai:NAME or openai:NAME@URL")
    return _server(model, url, surroundings, tools=tools) if at else _openai(model, surroundings, tools=tools)


def _openai(model: str, surroundings: Surroundings, *, tools: bool) -> Model:
    name, sdk = f"openai:{model}", package("openai")
    return OpenAIResponses(
        name=name,
        tools=tools,
        sdk=sdk,
        api_key=key(surroundings.environment, VARIABLES, of=name)[1],
        price=surroundings.prices.of(name),
        patience=surroundings.patience,
        hide=hider(surroundings.environment),
    )


def _server(model: str, url: str, surroundings: Surroundings, *, tools: bool) -> Model:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise UnusableModel(f"openai:{model}@…: a password in the URL would be in every record; give it as {SERVER_VARIABLE}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnusableModel(f"'openai:{model}@{url}': expected a URL after @, as http://localhost:8000/v1; got {url!r}")
    name = f"openai:{model}@{url}"
    return OpenAIChat(
        name=name,
        model=model,
        base_url=url,
        tools=tools,
        sdk=package("openai"),
        api_key=surroundings.environment.get(SERVER_VARIABLE, "").strip() or "none",  # servers without keys take any
        price=surroundings.prices.of(name),
        patience=surroundings.patience,
        hide=hider(surroundings.environment),
    )
