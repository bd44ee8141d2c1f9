"""The universal operator: a model proposes, by tools on a bench or by a plain reply, from a prompt synthesised for its step.

KernelEvolve (arXiv 2512.23236), "universal operator": one agent loop in place of separate templates for drafting, debugging and
improving; what the model should do is put into the context.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kevolve import registry
from kevolve.evaluate.outcome import Status
from kevolve.models import Model
from kevolve.operators import tune_lines
from kevolve.operators.agent import described, prompt
from kevolve.operators.agent.bench import Bench, Knowledge, Profiler, readable
from kevolve.operators.agent.conversation import Conversation, Ending, Reading
from kevolve.operators.agent.edits import MOST_CHARACTERS
from kevolve.operators.agent.families import families
from kevolve.operators.agent.limits import Limits, Meter
from kevolve.operators.agent.memory import Recalled, recall, remembered
from kevolve.operators.agent.prompt import Excerpt, Ingredients, Mode, Prompt
from kevolve.operators.agent.sections import one_line
from kevolve.operators.agent.workspace import temporary
from kevolve.search.node import Proposal

if TYPE_CHECKING:
    from kevolve.languages import Language
    from kevolve.operators import Context
    from kevolve.search.policies import Step

DOCUMENTS = 5  # that a prompt quotes
SHELF = 40  # that lie in a coding agent's folder, whole
_NEVER_AGAIN = ("auth",)  # failures after which a model is not asked again


class Agent:
    """Proposes one kernel a step, written by one of ``models``.

    ``weights``: how often each is chosen where the step names none. ``library`` and ``diagnose``: ``kevolve.knowledge``'s; None: nothing is
    retrieved, the models have no tools to search with. ``profiler``: what is known beyond resources and times.
    ``workspaces``: where folders for coding agents are made. Thread-safe: a conversation shares nothing with another.
    """

    name = "agent"

    def __init__(
        self,
        models: Sequence[Model] = (),
        *,
        weights: Sequence[float] = (),
        library: Knowledge | None = None,
        diagnose: Callable[..., Any] | None = None,
        profiler: Profiler | None = None,
        limits: Limits | None = None,
        workspaces: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        language: Callable[[str], Language] = lambda name: registry.load("languages", name),
    ) -> None:
        self.models = {model.name: model for model in models}
        self.weights = dict(zip(self.models, weights or [1.0] * len(self.models), strict=True))
        self.limits = limits or Limits()
        self._library, self._diagnose, self._profiler = library, diagnose, profiler
        self._workspaces, self._monotonic, self._language = workspaces, monotonic, language
        self._refused: set[str] = set()  # models whose keys are not taken
        self._lock = threading.Lock()

    def propose(self, context: Context, step: Step, count: int) -> list[Proposal]:
        """One proposal, with a kernel or with why there is none; nothing where no model may be asked."""
        model = self._chosen(context, step)
        if model is None or count < 1 or step.operator not in ("", self.name):
            return []
        return [self._proposal(context, step, model)]

    def prompt(self, context: Context, step: Step, *, mode: Mode = "tools") -> Prompt:
        """What a model would be sent for ``step``; no model is asked."""
        return prompt.synthesise(self._ingredients(context, step, mode, Meter(self.limits, self._monotonic))[0])

    def _chosen(self, context: Context, step: Step) -> Model | None:
        """The model that the step names, else one by weight."""
        with self._lock:
            usable = [name for name in self.models if name not in self._refused]
        if step.model:
            return self.models[step.model] if step.model in usable else None
        if not usable:
            return None
        chance = random.Random(f"{step.seed or context.seed}:model")
        return self.models[chance.choices(usable, [self.weights[name] for name in usable])[0]]

    # -- one step ----------------------------------------------------------------------------------------------------------

    def _proposal(self, context: Context, step: Step, model: Model) -> Proposal:
        meter = Meter(self.limits.within(step.most), self._monotonic, usd=step.most.usd if step.most is not None else None)
        mode: Mode = "tools" if model.tools else "workspace" if getattr(model, "works_in_folder", False) else "blocks"
        made_of, scope = self._ingredients(context, step, mode, meter)
        bench = self._bench(context, step, made_of, scope)
        sent = prompt.synthesise(made_of)
        reading = self._reading(made_of.language, context.spec.name)
        if mode == "workspace":
            conversation, ending = self._in_workspace(model, sent, bench, meter, made_of, reading, scope)
        else:
            conversation = Conversation(model, sent, bench, meter)
            ending = conversation.with_tools(reading) if mode == "tools" else conversation.by_blocks(reading)
        if ending.failure in _NEVER_AGAIN:
            with self._lock:
                self._refused.add(model.name)
        transcript = conversation.transcript.text(
            ended=ending.reason,
            usage=meter.usage,
            seconds=meter.seconds,
            turns=meter.turns,
            calls=meter.calls,
            predicted_after_timing=bench.timed,
        )
        return self._made(context, step, model, ending, meter, transcript)

    def _made(self, context: Context, step: Step, model: Model, ending: Ending, meter: Meter, transcript: str) -> Proposal:
        finish = ending.finish
        idea = finish.idea or one_line(finish.hypothesis, 160) or f"written by {one_line(model.name, 60)}"
        return Proposal(
            language=context.language,
            source=ending.source or readable(ending.held)[:MOST_CHARACTERS],
            operator=self.name,
            idea=idea if ending.source else one_line(f"no kernel: {ending.problem}", 160),
            parents=step.parents,
            memory=step.memory,
            model=model.name,
            hypothesis=finish.hypothesis,
            predicted_gain=finish.predicted_gain,
            usage=meter.usage,
            seconds=meter.seconds,
            transcript=transcript,
            problem=ending.problem,
        )

    def _ingredients(self, context: Context, step: Step, mode: Mode, meter: Meter) -> tuple[Ingredients, Any]:
        """What the prompt is made of, and the diagnosis by which documents were chosen."""
        recalled = recall(context.graph, step)
        diagnosis = self._diagnosed(context, step, recalled)
        made_of = Ingredients(
            spec=described.facts_of(context.spec, context.target),
            target=context.target,
            language=self._language(context.language),
            facts=context.facts,
            graph=context.graph,
            recalled=recalled,
            sources=context.sources,
            knowledge=self._documents(diagnosis),
            diagnosis=_told(diagnosis),
            mode=mode,
            left=f"{self.limits.calls} evaluations" if mode == "workspace" else meter.left(),
            documents=self._library is not None,
            times=context.lab is None or context.lab.times,
            launched=not registry.load("targets", context.target).shares_cores,
        )
        return made_of, diagnosis

    def _diagnosed(self, context: Context, step: Step, recalled: Recalled) -> Any:
        """The diagnosis of the step, which sees of the graph what the step remembers."""
        if self._diagnose is None:
            return None
        return self._diagnose(
            remembered(context.graph, step),
            replace(step, parents=()) if recalled.kind == "restart" else step,
            spec=context.spec,
            language=context.language,
            device=context.facts.get("device", {}),
            facts=context.facts,
            families=families(context.trace),
        )

    def _documents(self, diagnosis: Any) -> tuple[Excerpt, ...]:
        if self._library is None or diagnosis is None:
            return ()
        found = self._library.search(diagnosis, limit=DOCUMENTS)
        return tuple(Excerpt(id=each.document.id, title=each.document.title, text=each.excerpt) for each in found)

    def _shelf(self, diagnosis: Any) -> tuple[Excerpt, ...]:
        """Whole documents for an author who cannot search: those of the prompt, and what else is found for the diagnosis."""
        if self._library is None or diagnosis is None:
            return ()
        found = self._library.search(diagnosis, limit=SHELF)
        return tuple(Excerpt(id=each.document.id, title=each.document.title, text=each.document.text) for each in found)

    def _bench(self, context: Context, step: Step, made_of: Ingredients, scope: Any) -> Bench:
        base = made_of.recalled.base
        known = {node.source_hash: node.id for node in context.graph.nodes if node.outcome.status is not Status.NO_CANDIDATE}
        return Bench(
            language=context.language,
            source=prompt.source_of(base, context.sources) if base is not None else "",
            spec=prompt.spec_text(made_of.spec),
            baseline=context.spec.baseline[0],
            facts=context.facts,
            lab=context.lab,
            library=self._library,
            scope=scope,
            known=known,
            parent_fitness=made_of.recalled.fitness,
            profiler=self._profiler,
            warned=lambda source: tune_lines.warning(source, made_of.language),
        )

    def _reading(self, language: Language, entry: str) -> Reading:
        return Reading(words=prompt.info_words(language), parses=lambda source: language.parse(readable(source), entry) is None)

    def _in_workspace(
        self, model: Model, sent: Prompt, bench: Bench, meter: Meter, made_of: Ingredients, reading: Reading, scope: Any
    ) -> tuple[Conversation, Ending]:
        """One run of a coding agent's command in a folder."""
        parent, spec = bench.begun_with, prompt.spec_text(made_of.spec)
        with temporary(made_of.language.suffix, self._workspaces) as workspace:
            workspace.fill(prompt=sent, spec=spec, parent=parent, knowledge=self._shelf(scope))
            conversation = Conversation(model, sent, bench, meter, workspace=workspace)
            return conversation, conversation.in_workspace(workspace, reading)


def _told(diagnosis: Any) -> str:
    """A diagnosis as the prompt has it: what was tried stands in the history, with predictions and gains."""
    if diagnosis is None:
        return ""
    return str(replace(diagnosis, tried=()).render())


__all__ = ["Agent", "Limits"]
