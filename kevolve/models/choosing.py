"""Models by what the user wrote: ``anthropic:NAME``, ``openai:NAME``, ``openai:NAME@URL``, ``command:…``, each with a weight."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kevolve import registry
from kevolve.models import Model
from kevolve.models.command import PROVIDER as COMMAND
from kevolve.models.providers import Factory, Surroundings, UnusableModel
from kevolve.models.recorded import Recorder, Recording
from kevolve.models.redaction import hider, redact

_FORMS = "anthropic:NAME, openai:NAME, openai:NAME@URL, command:'…' or recorded:PATH"
_OPTION = re.compile(r"\s*#(?P<name>[a-z]+)=(?P<value>[^\s#=]*)\s*$")
_WEIGHT = re.compile(r"=(?P<value>[0-9.]+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A model, and how often it is asked beside others: the weight's share of all weights."""

    model: Model
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a user wrote, taken apart."""

    provider: str
    text: str
    weight: float = 1.0
    tools: bool = True

    @property
    def name(self) -> str:
        """The model's name: without weight and options."""
        return f"{self.provider}:{self.text}"


def choose(specs: Sequence[str], surroundings: Surroundings, *, record: Path | None = None, replay: Path | None = None) -> list[Weighted]:
    """The models of a run. ``record``: keep every exchange there. ``replay``: answer from there; no package, no key, no network.

    Raises ``UnusableModel``.
    """
    read = [parse(spec) for spec in specs]
    if twice := [name for name, count in Counter(spec.name for spec in read).items() if count > 1]:
        raise UnusableModel(f"{redact(twice[0])!r} is given twice; give it once, with a weight: {redact(twice[0])}{_example(twice[0])}")
    hide = hider(surroundings.environment)
    if replay is not None:
        recording = Recording(replay, hide=hide)
        return [Weighted(model=recording.model(hide(spec.name)), weight=spec.weight) for spec in read]
    models = [Weighted(model=_make(spec, surroundings), weight=spec.weight) for spec in read]
    if record is None:
        return models
    recorder = Recorder(record, hide=hide)
    return [Weighted(model=recorder.around(each.model), weight=each.weight) for each in models]


def parse(spec: str) -> Spec:
    """``PROVIDER:TEXT``, then ``=WEIGHT`` (not for a command: it may contain one) or ``#weight=WEIGHT``, and ``#tools=no``.

    Raises ``UnusableModel``.
    """
    provider, colon, text = spec.strip().partition(":")
    if not colon or not provider:
        raise UnusableModel(f"a model {redact(spec)!r}: expected {_FORMS}")
    options: dict[str, str] = {}
    while option := _OPTION.search(text):
        text = text[: option.start()]
        options[option["name"]] = option["value"]
    if provider != COMMAND and "weight" not in options and (short := _WEIGHT.search(text)):
        text, options["weight"] = text[: short.start()], short["value"]
    if unknown := sorted(options.keys() - {"weight", "tools"}):
        raise UnusableModel(f"a model {redact(spec)!r}: unknown #{unknown[0]}=; expected #weight=NUMBER or #tools=no")
    return Spec(provider=provider, text=text, weight=_weight(options.get("weight", "1"), spec), tools=_tools(options, spec))


def _weight(text: str, spec: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise UnusableModel(f"a model {redact(spec)!r}: expected a weight above 0, got {text!r}")
    return weight


def _tools(options: dict[str, str], spec: str) -> bool:
    told = options.get("tools", "yes")
    if told not in ("yes", "no"):
        raise UnusableModel(f"a model {redact(spec)!r}: expected #tools=yes or #tools=no, got {told!r}")
    return told == "yes"


def _make(spec: Spec, surroundings: Surroundings) -> Model:
    try:
        make: Factory = registry.load("models", spec.provider)
    except registry.UnknownName as error:
        raise UnusableModel(f"a model {redact(spec.name)!r}: {error}; expected {_FORMS}") from None
    return make(spec.text, surroundings, tools=spec.tools)


def _example(name: str) -> str:
    return " #weight=2" if name.startswith(f"{COMMAND}:") else "=2"
