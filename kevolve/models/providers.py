"""What a provider's factory is given, and the errors that it answers an unusable configuration with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Protocol

from kevolve.models import Model
from kevolve.models.prices import NO_PRICES, Prices
from kevolve.models.streaming import PATIENCE, Patience


class UnusableModel(ValueError):
    """A model that cannot be asked as it is configured; the message says what was expected, what was got, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a model is made in: the environment (keys, proxies), the user's prices, how long to wait."""

    environment: Mapping[str, str] = field(repr=False)
    prices: Prices = NO_PRICES
    patience: Patience = PATIENCE


class Factory(Protocol):
    """Makes a model of what follows its provider's name and the colon. Registered under ``kevolve.models``."""

    def __call__(self, text: str, surroundings: Surroundings, *, tools: bool) -> Model:
        """``tools``: False where the user said that the model takes none. Raises ``UnusableModel``."""
        ...


def package(name: str) -> ModuleType:
    """An official package. Raises ``UnusableModel`` where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UnusableModel(f"the package {name!r} cannot be imported ({error}): pip install 'kevolve[models]'") from error


def key(environment: Mapping[str, str], variables: tuple[str, ...], *, of: str) -> tuple[str, str]:
    """The first variable that is set, and its value. Raises ``UnusableModel``, naming the variables."""
    for variable in variables:
        if value := environment.get(variable, "").strip():
            return variable, value
    raise UnusableModel(f"{of}: no key; expected one in the environment variable {' or '.join(variables)}: export {variables[0]}=…")
