from __future__ import annotations

import json

import pytest

from kevolve.models import Usage
from kevolve.models.prices import NO_PRICES, Price, Prices, UnreadablePrices, load_prices, priced, read_prices

WHOLE = Price(input=2, cached=0.2, cache_write=2.5, output=10)
TEXT = '["a model.1"]\ninput = 2\ncached = 0.2\ncache_write = 2.5\noutput = 10\n'


def test_prices_are_read_from_toml_json_and_the_projects_own_file(tmp_path):
    for name, text in {
        "prices.toml": TEXT,
        "prices.json": json.dumps({"a model.1": {"input": 2, "cached": 0.2, "cache_write": 2.5, "output": 10}}),
        "pyproject.toml": '[tool.kevolve.prices."a model.1"]' + TEXT.partition("]")[2],
    }.items():
        (tmp_path / name).write_text(text)
        assert read_prices(tmp_path / name).of("a model.1") == WHOLE


def test_the_environments_file_comes_before_the_projects(tmp_path):
    assert load_prices(tmp_path, {}) == NO_PRICES
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load_prices(tmp_path, {}) == NO_PRICES
    (tmp_path / "mine.toml").write_text(TEXT)
    assert load_prices(tmp_path, {"KEVOLVE_PRICES": "mine.toml"}).of("a model.1") == WHOLE
    with pytest.raises(UnreadablePrices, match=r"nowhere\.toml: cannot read prices"):
        load_prices(tmp_path, {"KEVOLVE_PRICES": "nowhere.toml"})


def test_the_closest_name_wins():
    exact, short, bare = (Price(input=number, output=1) for number in (1, 2, 3))
    table = {"openai:m@http://h/v1": exact, "openai:m": short, "m": bare}
    prices = Prices(table=table)
    names = ("openai:m@http://h/v1", "openai:m@http://other/v1", "openai:m", "anthropic:m", "anthropic:n")
    assert [prices.of(name) for name in names] == [exact, short, short, bare, None]


def test_a_kind_of_tokens_without_a_price_makes_the_cost_unknown():
    usage = Usage(input_tokens=1_000_000, output_tokens=100_000)
    assert priced(usage, Price(input=2, output=10)).usd == pytest.approx(3.0)
    assert priced(usage + Usage(cached_tokens=1), Price(input=2, output=10)).usd is None
    assert priced(usage, None).usd is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("m = 3", r"prices of 'm': expected \[NAME\] with input, output"),
        ("[m]\ninput = 1", "prices of 'm': output missing"),
        ("[m]\ninput = 1\noutput = -1", "output is -1; expected US dollars per million tokens, 0 or more"),
        ("[m]\ninput = true\noutput = 1", "input is True; expected"),
        ("[m]\ninput = 1\noutput = 1\nbatch = 2", "unknown batch; expected input, cached, cache_write, output"),
        ("[m", "cannot read prices"),
    ],
)
def test_a_file_that_is_wrong_says_where_and_what(tmp_path, text, message):
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(UnreadablePrices, match=message):
        read_prices(tmp_path / "prices.toml")
