"""The operator with a model is made only where a model was given."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.modelled import EXCHANGES, Unusable, arms_of, modelled
from kevolve.models import Message, Request, Text, Usage
from kevolve.models.recorded import exchanges
from kevolve.operators.agent.profile import profiler
from kevolve.settings import Settings
from tests.plain_kernel import NORMALISE

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


def test_a_model_that_cannot_be_asked_is_named_before_anything_is_run(tmp_path: Path):
    with pytest.raises(Unusable, match="a model 'nobody:x': unknown model 'nobody'"):
        modelled(Settings(rootdir=tmp_path, models=("nobody:x",)))


def test_documents_that_are_none_are_named(tmp_path: Path):
    with pytest.raises(Unusable, match=r"--kevolve-knowledge: .*nowhere"):
        modelled(Settings(rootdir=tmp_path, models=("command:cat",), knowledge=(tmp_path / "nowhere",)))


def test_the_agent_has_the_models_the_documents_and_keeps_the_exchanges(tmp_path: Path):
    found = modelled(Settings(rootdir=tmp_path, models=("command:echo one #weight=3", "command:echo two")))
    assert found is not None
    assert [(arm.model, arm.weight) for arm in found.arms] == [("command:echo one", 3.0), ("command:echo two", 1.0)]
    found.operator.models["command:echo one"].reply(Request(system="s", messages=(Message(role="user", parts=(Text(text="hello"),)),)))
    (kept,) = exchanges(tmp_path / ".kevolve" / EXCHANGES)
    assert kept.model == "command:echo one"


def test_a_models_step_has_half_an_hour_or_what_the_budget_says(tmp_path: Path):
    given = Settings(rootdir=tmp_path, models=("command:cat",))
    assert modelled(given).operator.limits.deadline_s == 1800.0
    assert modelled(replace(given, budget="evaluations=3,step=480")).operator.limits.deadline_s == 28_800.0


def test_dollars_cannot_be_limited_where_a_price_is_unknown(tmp_path: Path):
    with pytest.raises(Unusable, match="usd=3: expected a price of command:cat, got none; limit tokens= instead"):
        modelled(Settings(rootdir=tmp_path, models=("command:cat",), budget="usd=3"))


def test_the_agents_profile_tells_which_loops_of_a_kernel_were_vectorised(tmp_path: Path):
    if shutil.which("g++") is None:
        pytest.skip("no g++: clang reports loops otherwise")
    told = profiler(tmp_path)("cpp", NORMALISE, Outcome(status=Status.PASSED, stage=Stage.QUICK))
    assert "Loops, as the compiler saw them:\nline " in told
    assert profiler(tmp_path)("triton", "", Outcome(status=Status.PASSED, stage=Stage.QUICK)) == ""
