"""A server, and the models that ask it, for all tests of providers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wire
from asking import KEY, PRICE, hide

from kevolve.models.anthropic_messages import AnthropicMessages
from kevolve.models.openai_chat import OpenAIChat
from kevolve.models.openai_responses import OpenAIResponses
from kevolve.models.streaming import Patience


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[wire.Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    it = wire.Server()
    yield it
    it.close()


@pytest.fixture
def anthropic_model(server: wire.Server) -> Callable[..., AnthropicMessages]:
    def make(**changes: Any) -> AnthropicMessages:
        sdk = importlib.import_module("anthropic")
        given = dict(sdk=sdk, credentials={"api_key": KEY}, hide=hide, price=PRICE, base_url=server.url, patience=Patience(max_retries=1))
        return AnthropicMessages(name="anthropic:model", **given | changes)

    return make


@pytest.fixture
def responses_model(server: wire.Server) -> Callable[..., OpenAIResponses]:
    def make(**changes: Any) -> OpenAIResponses:
        sdk = importlib.import_module("openai")
        given = dict(sdk=sdk, api_key=KEY, hide=hide, price=PRICE, base_url=server.url + "/v1", patience=Patience(max_retries=1))
        return OpenAIResponses(name="openai:model", **given | changes)

    return make


@pytest.fixture
def chat_model(server: wire.Server) -> Callable[..., OpenAIChat]:
    def make(**changes: Any) -> OpenAIChat:
        sdk = importlib.import_module("openai")
        url = server.url + "/v1"
        given = dict(sdk=sdk, api_key=KEY, hide=hide, price=PRICE, patience=Patience(max_retries=1))
        return OpenAIChat(name=f"openai:served@{url}", model="served", base_url=url, **given | changes)

    return make
