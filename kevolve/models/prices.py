"""What do tokens cost? Only what the user has written down: there is no price, and no model's name, in this package."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kevolve.models import Usage

VARIABLE = "KEVOLVE_PRICES"
_FIELDS = ("input", "cached", "cache_write", "output")
_SHAPE = "[NAME] with input, output and where they differ cached, cache_write: US dollars per million tokens"


class UnreadablePrices(ValueError):
    """A file of prices that is not one; the message says where and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens. None: not told, so that an exchange with such tokens costs an unknown sum."""

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None

    def cost_usd(self, usage: Usage) -> float | None:
        """The sum for these tokens; None where a kind of them has no price."""
        kinds = (
            (usage.input_tokens, self.input),
            (usage.cached_tokens, self.cached),
            (usage.cache_write_tokens, self.cache_write),
            (usage.output_tokens, self.output),
        )
        if any(tokens and price is None for tokens, price in kinds):
            return None
        return sum(tokens * price for tokens, price in kinds if price is not None) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices by the name of a model, with or without its provider: ``anthropic:NAME``, ``openai:NAME@URL`` or ``NAME``."""

    table: Mapping[str, Price]

    def of(self, name: str) -> Price | None:
        """The price of a model; the closest name wins: the whole, without the URL, without the provider."""
        short = name.partition("@http")[0]
        found = (self.table.get(key) for key in (name, short, short.partition(":")[2]))
        return next((price for price in found if price is not None), None)


NO_PRICES = Prices(table={})


def priced(usage: Usage, price: Price | None) -> Usage:
    """The usage with its cost; unknown without a price."""
    return replace(usage, usd=price.cost_usd(usage) if price else None)


def load_prices(rootdir: Path, environment: Mapping[str, str]) -> Prices:
    """The file that ``KEVOLVE_PRICES`` names, else ``[tool.kevolve.prices]`` of the project's ``pyproject.toml``, else none.

    Raises ``UnreadablePrices``.
    """
    named = environment.get(VARIABLE, "")
    if named:
        return read_prices(rootdir / Path(named).expanduser())
    project = rootdir / "pyproject.toml"
    return read_prices(project) if project.is_file() else NO_PRICES


def read_prices(path: Path) -> Prices:
    """A TOML or JSON file's prices; in a file named ``pyproject.toml`` the table ``[tool.kevolve.prices]``.

    Raises ``UnreadablePrices``.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UnreadablePrices(f"{path}: cannot read prices: {error}; expected TOML or JSON: {_SHAPE}") from error
    if path.name == "pyproject.toml":
        data = data.get("tool", {}).get("kevolve", {}).get("prices", {})
    if not isinstance(data, Mapping):
        raise UnreadablePrices(f"{path}: expected {_SHAPE}; got {type(data).__name__}")
    return Prices(table={name: _price(entry, f"{path}: prices of {name!r}") for name, entry in data.items()})


def _price(entry: Any, where: str) -> Price:
    if not isinstance(entry, Mapping):
        raise UnreadablePrices(f"{where}: expected {_SHAPE}; got {entry!r}")
    if unknown := sorted(set(entry) - set(_FIELDS)):
        raise UnreadablePrices(f"{where}: unknown {', '.join(unknown)}; expected {', '.join(_FIELDS)} (US dollars per million tokens)")
    if missing := [key for key in ("input", "output") if key not in entry]:
        raise UnreadablePrices(f"{where}: {' and '.join(missing)} missing; add US dollars per million tokens")
    for key, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise UnreadablePrices(f"{where}: {key} is {value!r}; expected US dollars per million tokens, 0 or more")
    return Price(**{key: float(value) for key, value in entry.items()})
