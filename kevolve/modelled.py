"""The operator that asks models, made from the settings; nothing of it is imported where no model was given."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kevolve.models import Usage
from kevolve.search.step import Arm

if TYPE_CHECKING:
    from kevolve.operators import Operator
    from kevolve.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """The operator, and its models as arms of the search's bandit."""

    operator: Operator
    arms: tuple[Arm, ...]


def modelled(settings: Settings, prices: Any = None) -> Modelled | None:
    """The agent over the models that the user gave, or None where none were. ``prices``: the user's, by model.

    Raises ``kevolve.models.choosing.UnusableModel`` for a model that cannot be made: no package, no key, an unknown provider.
    """
    if not settings.models:
        return None
    choosing, providers = import_module("kevolve.models.choosing"), import_module("kevolve.models.providers")
    agents, library, diagnosis = (
        import_module(f"kevolve.{name}") for name in ("operators.agent", "knowledge.library", "knowledge.diagnosis")
    )
    surroundings = providers.Surroundings(environment=os.environ, **({} if prices is None else {"prices": prices}))
    chosen = choosing.choose(settings.models, surroundings)
    documents = library.Library(settings.knowledge, cache=settings.store / "cache")
    workspaces = settings.store / "scratch"
    agent = agents.Agent([each.model for each in chosen], library=documents, diagnose=diagnosis.diagnose, workspaces=workspaces)
    return Modelled(operator=agent, arms=arms_of(agent, chosen, prices))


def arms_of(agent: Any, chosen: Any, prices: Any = None) -> tuple[Arm, ...]:
    """One arm a model: its weight, and the most that a step may cost by the agent's own limits and the user's price."""
    tokens = agent.limits.tokens
    arms = []
    for each in chosen:
        price = prices.of(each.model.name) if prices is not None else None
        usd = price.cost_usd(Usage(output_tokens=tokens)) if price is not None else None
        arms.append(Arm(operator=agent.name, model=each.model.name, weight=each.weight, most=Usage(output_tokens=tokens, usd=usd)))
    return tuple(arms)
