"""The operator with a model is made only where a model was given."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kevolve.modelled import arms_of, modelled
from kevolve.models import Usage
from kevolve.settings import Settings

AGENT = SimpleNamespace(name="agent", limits=SimpleNamespace(tokens=400_000))
CHOSEN = [SimpleNamespace(model=SimpleNamespace(name=name), weight=weight) for name, weight in (("one:a", 3.0), ("two:b", 1.0))]


def test_without_a_model_there_is_no_agent(tmp_path: Path):
    assert modelled(Settings(rootdir=tmp_path)) is None


def test_every_model_is_an_arm_with_its_weight_and_the_most_that_a_step_may_cost():
    prices = SimpleNamespace(
        of=lambda name: SimpleNamespace(cost_usd=lambda usage: usage.output_tokens * 25 / 1e6) if name == "one:a" else None
    )
    one, two = arms_of(AGENT, CHOSEN, prices)
    assert (one.key, one.weight, one.most) == (("agent", "one:a"), 3.0, Usage(output_tokens=400_000, usd=10.0))
    assert (two.weight, two.most.usd) == (1.0, None), "an unknown price is no price"


def test_the_agent_is_given_the_models_the_documents_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: dict[str, object] = {}

    def agent(models, **given):
        made.update(given, models=[model.name for model in models])
        return AGENT

    stubs = {
        "kevolve.operators.agent": SimpleNamespace(Agent=agent),
        "kevolve.knowledge.library": SimpleNamespace(Library=lambda folders, cache: (folders, cache)),
        "kevolve.knowledge.diagnosis": SimpleNamespace(diagnose="diagnose"),
    }
    monkeypatch.setattr("kevolve.models.choosing.choose", lambda specs, surroundings: CHOSEN)
    for name, stub in stubs.items():
        monkeypatch.setitem(sys.modules, name, stub)
    found = modelled(Settings(rootdir=tmp_path, models=("one:a=3", "two:b"), knowledge=(tmp_path,)))
    assert found is not None
    assert [arm.model for arm in found.arms] == made["models"] == ["one:a", "two:b"]
    assert [(arm.weight, arm.most.usd) for arm in found.arms] == [(3.0, None), (1.0, None)]
    assert made["library"] == ((tmp_path,), tmp_path / ".kevolve" / "cache")
    assert made["diagnose"] == "diagnose"
