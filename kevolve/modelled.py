"""The operator that asks models, made from the settings; nothing of it is imported where no model was given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kevolve.models import Usage
from kevolve.search.step import Arm

if TYPE_CHECKING:
    from kevolve.models.choosing import Weighted
    from kevolve.models.prices import Prices
    from kevolve.operators import Operator
    from kevolve.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """The operator, and its models as arms of the search's bandit."""

    operator: Operator
    arms: tuple[Arm, ...]


def modelled(settings: Settings) -> Modelled | None:
    """The agent over the models that the user gave, or None where none were.

    Raises ``kevolve.models.choosing.UnusableModel`` for a model that cannot be made (no package, no key, an unknown provider) and
    ``kevolve.models.prices.UnreadablePrices``.
    """
    if not settings.models:
        return None
    from kevolve.models.choosing import choose
    from kevolve.models.prices import load_prices
    from kevolve.models.providers import Surroundings

    names = ("operators.agent", "knowledge.library", "knowledge.diagnosis")
    agents, library, diagnosis = (import_module(f"kevolve.{name}") for name in names)
    prices = load_prices(settings.rootdir, os.environ)
    chosen = choose(settings.models, Surroundings(environment=os.environ, prices=prices))
    documents = library.Library(settings.knowledge, cache=settings.store / "cache")
    workspaces = settings.store / "scratch"
    agent = agents.Agent([each.model for each in chosen], library=documents, diagnose=diagnosis.diagnose, workspaces=workspaces)
    return Modelled(operator=agent, arms=arms_of(agent, chosen, prices))


def arms_of(agent: Any, chosen: Sequence[Weighted], prices: Prices) -> tuple[Arm, ...]:
    """One arm a model: its weight, and the most that a step may cost by the agent's own limits and the user's price."""
    tokens = agent.limits.tokens
    arms = []
    for each in chosen:
        price = prices.of(each.model.name)
        usd = price.cost_usd(Usage(output_tokens=tokens)) if price is not None else None
        arms.append(Arm(operator=agent.name, model=each.model.name, weight=each.weight, most=Usage(output_tokens=tokens, usd=usd)))
    return tuple(arms)
