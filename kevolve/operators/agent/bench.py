"""The bench of one conversation: the kernel that lies on it, and the tools that a model may use on it.

What a model writes is a text here, handed to the lab and to nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from kevolve.evaluate.outcome import Outcome, Status
from kevolve.models import Tool, ToolCall
from kevolve.operators.agent.answers import gain_of
from kevolve.operators.agent.edits import MOST_CHARACTERS, Edit, EditFailed, apply
from kevolve.operators.agent.outcomes import figures_text, outcome_text, resources_text
from kevolve.operators.agent.prompt import tools
from kevolve.operators.agent.sections import cut, one_line
from kevolve.search.lab import Lab

DOCUMENT_TOKENS, FOUND_TOKENS, KERNEL_TOKENS, PROFILE_TOKENS = 4_000, 2_000, 12_000, 2_500
MEASURED = (Status.PASSED, Status.TOO_SLOW)
_STANDS = (Status.PASSED, Status.NOT_MEASURED)  # nothing speaks against the kernel, as far as can be told here
_JSON: Mapping[str, tuple[type, ...]] = {"string": (str,), "number": (int, float), "integer": (int,)}

_TOLD_OF = ("write_kernel", "edit_kernel", "compile", "run_development_plan", "time", "profile")  # tools whose answers carry warnings

Profiler: TypeAlias = Callable[[str, str, Outcome], str]  # (language, source, outcome of the evaluation) -> what else is known


class Knowledge(Protocol):
    """What is needed of ``kevolve.knowledge.library.Library``."""

    def search(self, wanted: Any, *, limit: int = 5) -> Any:
        """Documents for a diagnosis, best first, each with an excerpt."""
        ...

    def find(self, words: str, *, scope: Any = None, limit: int = 5) -> Any:
        """Documents in which words are found."""
        ...

    def read(self, id: str) -> Any:
        """One document. Raises ``KeyError`` naming near ones."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a tool said."""

    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """How its author hands a kernel in."""

    hypothesis: str = ""
    predicted_gain: float | None = None
    idea: str = ""


class Refused(Exception):
    """A call that cannot be answered; the message says why."""


class Bench:
    """One kernel in the making. Not thread-safe: one conversation has it."""

    def __init__(
        self,
        *,
        language: str,
        source: str,
        spec: str,
        baseline: str,
        facts: Mapping[str, Any],
        lab: Lab | None = None,
        library: Knowledge | None = None,
        scope: Any = None,
        known: Mapping[str, int] | None = None,
        parent_fitness: float = 0.0,
        profiler: Profiler | None = None,
        warned: Callable[[str], str] = lambda source: "",
    ) -> None:
        """``source``: the parent's kernel, or nothing. ``spec``: the whole text. ``known``: steps by SHA-256.

        ``warned``: what is odd about a text that is a kernel all the same; told once of each text's oddities.
        """
        self.language, self.source, self.begun_with = language, source, source
        self.finish: Finish | None = None
        self.passed = False  # what the lab said last
        self.timed = False  # whether a fitness was known to the model when it predicted one
        self._spec, self._baseline, self._facts = spec, baseline, facts
        self._lab, self._library, self._scope = lab, library, scope
        self._known, self._parent_fitness, self._profiler = dict(known or {}), parent_fitness, profiler
        self._warned, self._last_warning = warned, warned(source)  # the prompt told of the parent's
        self._fittest: tuple[float, str] = (0.0, "")
        self._right = ""  # the last kernel that nothing spoke against

    @property
    def changed(self) -> bool:
        """Whether there is a kernel that is not the parent's."""
        return bool(self.source.strip()) and self.source != self.begun_with

    @property
    def kept(self) -> str:
        """The kernel to hand in for an author who never did: the fittest timed, the last that was right, or what lies here; or nothing."""
        found = self._fittest[1] or self._right or (self.source if self.changed else "")
        return "" if self._step_of(found) is not None else found

    def offered(self) -> tuple[Tool, ...]:
        """The tools that there is something behind."""
        without = {"search_knowledge", "read_knowledge"} if self._library is None else set[str]()
        without |= {"compile", "run_development_plan", "time", "profile"} if self._lab is None else set()
        without |= {"time"} if self._lab is not None and not self._lab.times else set()
        return tuple(tool for tool in tools() if tool.name not in without)

    def answer(self, call: ToolCall) -> Answered:
        """What a call gives. Never raises for what a model wrote: it is told what was expected."""
        tool = next((tool for tool in self.offered() if tool.name == call.name), None)
        try:
            if tool is None:
                raise Refused(f"no tool {one_line(call.name, 60)!r}; there are {', '.join(tool.name for tool in self.offered())}")
            if call.problem:
                raise Refused(f"the arguments of {call.name} could not be read: {one_line(call.problem, 300)}; expected {_expected(tool)}")
            _check(tool, call.arguments)
            text: str = getattr(self, f"_{call.name}")(**call.arguments)
            return Answered(text="\n".join(filter(None, (text, self._new_warning() if call.name in _TOLD_OF else ""))))
        except (Refused, EditFailed) as refusal:
            return Answered(text=str(refusal), failed=True)

    def _new_warning(self) -> str:
        """What is odd about the kernel as it lies here, unless that was told."""
        warning = self._warned(self.source)
        if warning == self._last_warning:
            return ""
        self._last_warning = warning
        return warning

    # -- writing -----------------------------------------------------------------------------------------------------------

    def write(self, source: str) -> None:
        """Put ``source`` on the bench. Raises ``Refused``."""
        plain = readable(source)
        if not plain.strip():
            raise Refused("the kernel is empty")
        if len(plain) > MOST_CHARACTERS:
            raise Refused(f"the kernel has {len(plain):,} characters; expected at most {MOST_CHARACTERS:,}")
        self.source = plain if plain.endswith("\n") else plain + "\n"

    def edit(self, *edits: Edit) -> None:
        """Apply all or none. Raises ``EditFailed``."""
        if not self.source.strip():
            raise EditFailed("there is no kernel yet: nothing to edit; write the whole file")
        self.source = apply(self.source, [Edit(search=readable(edit.search), replace=readable(edit.replace)) for edit in edits])

    def _write_kernel(self, source: str) -> str:
        self.write(source)
        return f"Written: {self.source.count(chr(10))} lines."

    def _edit_kernel(self, search: str, replace: str) -> str:
        self.edit(Edit(search=search, replace=replace))
        return "Replaced."

    # -- reading -----------------------------------------------------------------------------------------------------------

    def _read_spec(self) -> str:
        return self._spec

    def _read_kernel(self, first_line: int = 1, last_line: int = 1_000_000) -> str:
        lines = self.source.splitlines()
        first = max(1, first_line)
        numbered = [f"{number:5d}  {line}" for number, line in enumerate(lines[first - 1 : max(0, last_line)], first)]
        rest = "ask for its lines by first_line and last_line"
        return cut("\n".join(numbered), KERNEL_TOKENS, rest=rest) if numbered else f"No such lines: the kernel has {len(lines)}."

    def _search_knowledge(self, query: str) -> str:
        assert self._library is not None
        found = self._library.find(query[:500], scope=self._scope)
        listed = "\n\n".join(f"`{each.document.id}`: {each.document.title}\n{each.excerpt}" for each in found)
        return cut(listed, FOUND_TOKENS, rest="read_knowledge gives a document") or "Nothing found; use other words."

    def _read_knowledge(self, id: str) -> str:
        assert self._library is not None
        try:
            document = self._library.read(id)
        except KeyError as error:
            raise Refused(str(error.args[0])) from None
        return cut(f"# {document.title}\n\n{document.text}", DOCUMENT_TOKENS)

    # -- asking the lab ----------------------------------------------------------------------------------------------------

    def check(self) -> Outcome:
        """Build and check what lies here on the development plan."""
        outcome = self._laboratory().check(self.language, self.source)
        self.passed = outcome.status in _STANDS
        if self.passed and self.changed:
            self._right = self.source
        return outcome

    def _compile(self) -> str:
        outcome = self._laboratory().build(self.language, self.source)
        self.passed = outcome.status in _STANDS
        return outcome_text(outcome) if not outcome.passed else "Built.\n" + outcome_text(outcome)

    def _run_development_plan(self) -> str:
        outcome = self.check()
        if not outcome.passed:
            return outcome_text(outcome)
        said = ("Right on the whole development plan.", outcome.message, resources_text(outcome.detail))
        return "\n".join(text for text in said if text)

    def _time(self) -> str:
        outcome, fitness = self._evaluated()
        return self._figures(outcome, fitness) if outcome.status in MEASURED else outcome_text(outcome)

    def _figures(self, outcome: Outcome, fitness: float) -> str:
        text = figures_text(fitness, outcome.detail, self._facts, self._baseline)
        before = self._parent_fitness
        return f"{text}\nGain over the parent's {before:.3g}: {fitness / before:.2f}" if before > 0 else text

    def _evaluated(self) -> tuple[Outcome, float]:
        evaluated = self._laboratory().evaluate(self.language, self.source)
        outcome = evaluated.outcome
        self.passed = outcome.status in (*MEASURED, *_STANDS)
        if self.passed and self.changed:
            self._right = self.source
        if self.changed and outcome.status in MEASURED:
            self.timed = True
            self._fittest = max(self._fittest, (evaluated.fitness, self.source), key=lambda known: known[0])
        return outcome, evaluated.fitness

    def _profile(self) -> str:
        outcome, fitness = self._evaluated()
        if not self.passed:
            return outcome_text(outcome)
        more = self._profiler(self.language, self.source, outcome) if self._profiler is not None else ""
        figures = self._figures(outcome, fitness) if outcome.status in MEASURED else outcome_text(outcome)
        counted = self._laboratory().profile(self.language, self.source)
        return cut("\n\n".join(part for part in (figures, counted, more) if part), PROFILE_TOKENS, keep="both")

    def _laboratory(self) -> Lab:
        if self._lab is None:
            raise Refused("there is no way to build or run anything here")
        if not self.source.strip():
            raise Refused("there is no kernel yet: write one first")
        return self._lab

    # -- ending ------------------------------------------------------------------------------------------------------------

    def _finish(self, hypothesis: str, predicted_gain: float, idea: str) -> str:
        gain = gain_of(predicted_gain)
        if gain is None:
            raise Refused(f"predicted_gain: expected a factor above 0 such as 1.3, got {predicted_gain!r}")
        self.hand_in(Finish(hypothesis=one_line(hypothesis, 1_000), predicted_gain=gain, idea=one_line(idea, 160)))
        return "Handed in."

    def hand_in(self, finish: Finish) -> None:
        """End with the kernel as it lies here. Raises ``Refused`` where there is none, or one that was tried before."""
        if not self.changed:
            raise Refused(
                "the kernel is as it was: there is nothing to hand in" if self.source.strip() else "there is no kernel to hand in"
            )
        if (step := self._step_of(self.source)) is not None:
            raise Refused(f"this very kernel was tried before, as step #{step}: hand in another")
        self.finish = finish

    def _step_of(self, source: str) -> int | None:
        """The step at which this text was tried before."""
        return self._known.get(hashlib.sha256(source.encode()).hexdigest())


def readable(text: str) -> str:
    """``text`` as a source file can hold it: line feeds, no lone surrogates, no null bytes."""
    return text.replace("\r\n", "\n").replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _check(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Raise ``Refused`` for arguments that the tool's schema does not take."""
    declared: Mapping[str, Any] = tool.parameters["properties"]
    problems = [f"missing {name}" for name in tool.parameters["required"] if name not in arguments]
    problems += [f"unknown {one_line(str(name), 60)}" for name in arguments if name not in declared]
    for name, value in arguments.items():
        if name in declared and (isinstance(value, bool) or not isinstance(value, _JSON[declared[name]["type"]])):
            problems.append(f"{name}: expected a {declared[name]['type']}, got {type(value).__name__}")
    if problems:
        raise Refused(f"{tool.name}: {'; '.join(problems)}; expected {_expected(tool)}")


def _expected(tool: Tool) -> str:
    shape = {name: declared["type"] for name, declared in tool.parameters["properties"].items()}
    return f"an object {json.dumps(shape)}"
