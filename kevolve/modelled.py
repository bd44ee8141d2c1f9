"""The operator that asks models, made from the settings; nothing of it is imported where no model was given."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from kevolve.models import Usage
from kevolve.search.budget import Budget
from kevolve.search.loop import unpriced
from kevolve.search.step import Arm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kevolve.models.choosing import Weighted
    from kevolve.models.prices import Prices
    from kevolve.operators import Operator
    from kevolve.operators.agent import Agent
    from kevolve.settings import Settings

EXCHANGES = "exchanges.jsonl"  # below the store: every exchange with a model, for replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """The operator, and its models as arms of the search's bandit."""

    operator: Operator
    arms: tuple[Arm, ...]


class Unusable(Exception):
    """Models, prices or documents as the user gave them cannot be used; the message says why and what to do."""


def skills_of(settings: Settings) -> Path:
    """Where what runs taught is written, in the user's repository: to be reviewed like any document."""
    return settings.rootdir / "knowledge" / "skills"


def modelled(settings: Settings) -> Modelled | None:
    """The agent over the models that the user gave, or None where none were. Raises ``Unusable``."""
    if not settings.models:
        return None
    from kevolve.models.choosing import choose
    from kevolve.models.prices import UnreadablePrices, load_prices
    from kevolve.models.providers import Surroundings, UnusableModel
    from kevolve.operators.agent import Agent
    from kevolve.operators.agent.limits import Limits
    from kevolve.operators.agent.profile import profiler
    from kevolve.operators.agent.retrieval import UnusableKnowledge, retrieval

    try:
        prices = load_prices(settings.rootdir, os.environ)
        chosen = choose(settings.models, Surroundings(environment=os.environ, prices=prices), record=settings.store / EXCHANGES)
        library, diagnose = retrieval(settings.knowledge, settings.store / "cache", skills=skills_of(settings), today=date.today())
    except (UnreadablePrices, UnusableModel, UnusableKnowledge) as error:
        raise Unusable(str(error)) from error
    budget = Budget.parse(settings.budget)
    agent = Agent(
        [each.model for each in chosen],
        library=library,
        diagnose=diagnose,
        profiler=profiler(settings.cache or settings.store / "cache"),
        workspaces=settings.store / "scratch",
        limits=Limits() if budget.step is None else Limits(deadline_s=60 * budget.step),
    )
    arms = arms_of(agent, chosen, prices)
    if unlimited := unpriced(budget, arms):
        raise Unusable(f"--kevolve-budget usd={budget.usd:g}: expected a price of {', '.join(unlimited)}, got none; limit tokens= instead")
    return Modelled(operator=agent, arms=arms)


def arms_of(agent: Agent, chosen: Sequence[Weighted], prices: Prices) -> tuple[Arm, ...]:
    """One arm a model: its weight, and the most that a step may cost by the agent's own limits and the user's price."""
    tokens = agent.limits.tokens
    arms = []
    for each in chosen:
        price = prices.of(each.model.name)
        usd = price.cost_usd(Usage(output_tokens=tokens)) if price is not None else None
        arms.append(Arm(operator=agent.name, model=each.model.name, weight=each.weight, most=Usage(output_tokens=tokens, usd=usd)))
    return tuple(arms)
