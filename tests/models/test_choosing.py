from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from asking import KEY, ask

from kevolve import registry
from kevolve.models.choosing import Spec, choose, parse
from kevolve.models.openai_chat import OpenAIChat
from kevolve.models.openai_responses import OpenAIResponses
from kevolve.models.prices import Price, Prices
from kevolve.models.providers import Surroundings, UnusableModel

ROOT = Path(__file__).parents[2]
KEYS = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY + "-openai"}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The entry points as this checkout has them, whatever is installed."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["kevolve.models"]
    folder = tmp_path / "site" / "checkout-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: checkout\nVersion: 0\n")
    (folder / "entry_points.txt").write_text("[kevolve.models]\n" + "".join(f"{name} = {target}\n" for name, target in points.items()))
    monkeypatch.syspath_prepend(folder.parent)
    registry.refresh()
    yield
    registry.refresh()


def around(**environment: str) -> Surroundings:
    return Surroundings(environment=environment)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("anthropic:name", Spec(provider="anthropic", text="name")),
        ("anthropic:name=2.5", Spec(provider="anthropic", text="name", weight=2.5)),
        ("openai:org/name@http://host:8000/v1=3", Spec(provider="openai", text="org/name@http://host:8000/v1", weight=3)),
        ("openai:name@http://host/v1?key=2#weight=3", Spec(provider="openai", text="name@http://host/v1?key=2", weight=3)),
        ("openai:name@http://host/v1 #tools=no #weight=4", Spec(provider="openai", text="name@http://host/v1", weight=4, tools=False)),
        ("command:agent --level=2", Spec(provider="command", text="agent --level=2")),
        ("command:agent --level=2 #weight=0.5", Spec(provider="command", text="agent --level=2", weight=0.5)),
        ("command:a # not an option", Spec(provider="command", text="a # not an option")),
    ],
)
def test_what_a_user_writes_is_taken_apart(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("name", "expected anthropic:NAME, openai:NAME"),
        ("anthropic:name=0", "expected a weight above 0, got '0'"),
        ("anthropic:name=1.2.3", "expected a weight above 0, got '1.2.3'"),
        ("command:x #weight=many", "expected a weight above 0, got 'many'"),
        ("openai:x#tools=perhaps", "expected #tools=yes or #tools=no, got 'perhaps'"),
        ("openai:x#heat=1", "unknown #heat=; expected #weight=NUMBER or #tools=no"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(text, message):
    with pytest.raises(UnusableModel) as caught:
        parse(text)
    assert message in str(caught.value)


def test_models_are_made_by_their_providers_with_their_weights_and_prices():
    pytest.importorskip("openai")
    price = Price(input=1, output=2)
    prices = Prices(table={"large": price})
    specs = ["openai:large=3", "openai:small@http://localhost:1/v1#tools=no", "command:cat #weight=2"]
    chosen = choose(specs, Surroundings(environment=KEYS, prices=prices))
    assert [(each.model.name, each.model.tools, each.weight) for each in chosen] == [
        ("openai:large", True, 3),
        ("openai:small@http://localhost:1/v1", False, 1),
        ("command:cat", False, 2),
    ]
    large, small, _ = (each.model for each in chosen)
    assert isinstance(large, OpenAIResponses)
    assert large.price == price
    assert isinstance(small, OpenAIChat)
    assert small.price is None


def test_openais_key_goes_to_no_other_server():
    pytest.importorskip("openai")
    spec = "openai:small@http://localhost:1/v1"
    keys = [choose([spec], around(**KEYS, **more))[0].model.api_key for more in ({}, {"KEVOLVE_SERVER_API_KEY": "its own"})]
    assert keys == ["none", "its own"]


@pytest.mark.parametrize(
    "spec, message",
    [
        ("anthropic:name", "no key; expected one in the environment variable ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"),
        ("openai:name", "no key; expected one in the environment variable OPENAI_API_KEY: export OPENAI_API_KEY=…"),
        ("anthropic:", "expected anthropic:NAME"),
        ("anthropic:name@http://host", "another base URL is told by ANTHROPIC_BASE_URL"),
        ("openai:name@", "expected openai:NAME or openai:NAME@URL"),
        ("openai:name@localhost:8000", "expected a URL after @, as http://localhost:8000/v1; got 'localhost:8000'"),
        ("openai:name@http://me:sesame@host/v1", "give it as KEVOLVE_SERVER_API_KEY"),
        ("gemini:name", "unknown model 'gemini'; registered: anthropic, command, openai, recorded; expected anthropic:NAME"),
    ],
)
def test_a_model_that_cannot_be_asked_says_what_to_do(spec, message):
    pytest.importorskip("openai")
    pytest.importorskip("anthropic")
    with pytest.raises(UnusableModel) as caught:
        choose([spec], around())
    assert message in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_without_the_package_the_user_is_told_how_to_install_it(monkeypatch, provider):
    monkeypatch.setitem(sys.modules, provider, None)
    with pytest.raises(UnusableModel, match=r"pip install 'kevolve\[models\]'"):
        choose([f"{provider}:name"], around(**KEYS))


def test_one_model_is_given_once():
    with pytest.raises(UnusableModel, match="'command:cat' is given twice; give it once, with a weight: command:cat #weight=2"):
        choose(["command:cat", "command:cat #weight=3"], around())


def test_a_recorded_run_replays_without_package_key_or_command(tmp_path, monkeypatch):
    path, spec = tmp_path / "exchanges.jsonl", "command:tr a-z A-Z #weight=2"
    first = choose([spec], around(PATH="/usr/bin:/bin"), record=path)[0]
    reply = first.model.reply(ask())
    monkeypatch.setattr("subprocess.Popen", None)
    again = choose([spec], around(), replay=path)[0]
    assert (again.weight, again.model.name, again.model.reply(ask())) == (2, first.model.name, reply)


def test_a_recorded_command_says_whether_it_works_in_a_folder(tmp_path):
    from kevolve.models.recorded import works_in_folder

    specs = ["command:a {workspace}", "command:a"]
    chosen = choose(specs, around(), record=tmp_path / "exchanges.jsonl")
    assert [works_in_folder(each.model) for each in chosen] == [True, False]
