"""The agent loop: a model, a bench and a budget, until a kernel is handed in or nothing is left.

With tools the model works on the bench by calls; without, its reply holds the kernel or edits of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kevolve.models import Message, Model, ModelFailed, Reply, Request, Text, ToolCall, ToolResult
from kevolve.operators.agent import answers
from kevolve.operators.agent.bench import Bench, Finish, Refused
from kevolve.operators.agent.edits import EditFailed
from kevolve.operators.agent.limits import Meter
from kevolve.operators.agent.outcomes import outcome_text
from kevolve.operators.agent.prompt import Prompt, render
from kevolve.operators.agent.sections import estimate, one_line
from kevolve.operators.agent.transcript import Transcript
from kevolve.operators.agent.workspace import NOTES, Workspace

FINISH = "finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a conversation ended. ``source``: the kernel, or nothing with ``problem`` saying why; ``held``: what the last reply said."""

    reason: str
    source: str = ""
    finish: Finish = field(default_factory=Finish)
    problem: str = ""
    held: str = ""
    failure: str = ""  # a ``ModelFailed.kind``


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a reply without tools is read: the language's info strings, and whether a text parses as a kernel."""

    words: frozenset[str]
    parses: Callable[[str], bool]


class Conversation:
    """One exchange of messages. ``workspace``: the folder that the model works in."""

    def __init__(self, model: Model, prompt: Prompt, bench: Bench, meter: Meter, *, workspace: Workspace | None = None) -> None:
        self._model, self._prompt, self._bench, self._meter, self._workspace = model, prompt, bench, meter, workspace
        self._tools = bench.offered() if model.tools else ()
        self._messages: list[Message] = []
        self._size = estimate(prompt.system)  # of the next request, about
        self._last = ""
        self.transcript = Transcript(prompt, model.name)

    # -- with tools ----------------------------------------------------------------------------------------------------------

    def with_tools(self, reading: Reading) -> Ending:
        """Turns of calls and their results. A plain reply that holds a kernel is taken as handed in."""
        self._tell(Text(text=self._prompt.text))
        idle = 0
        while not (spent := self._meter.spent(self._size)):
            reply = self._ask()
            if isinstance(reply, Ending):
                return reply
            if reply.calls:
                self._tell(*self._results(reply.calls))
                if self._bench.finish is not None:
                    return self._finished(self._bench.finish)
                continue
            refused = self._take(answers.read(reply.text, words=reading.words, parses=reading.parses))
            if refused is None:
                return self._finished(self._bench.finish or Finish())
            idle += 1
            if idle > self._meter.limits.repairs:
                return self._unfinished("the model called no tool")
            kind = "cut" if reply.stop == "length" else "unusable" if "```" in reply.text else "idle"
            self._tell(Text(text=render("repair.md.jinja", kind=kind, text=refused)))
        return self._unfinished(f"limit reached: {spent}")

    def _results(self, calls: tuple[ToolCall, ...]) -> list[ToolResult]:
        """An answer to every call; the last tells what is left."""
        results = [self._result(call) for call in calls]
        left = self._meter.left() if self._meter.turns + 1 < self._meter.limits.turns else "one turn: call finish"
        results[-1] = replace(results[-1], text=f"{results[-1].text}\n[left: {left}]")
        return results

    def _result(self, call: ToolCall) -> ToolResult:
        limits = self._meter.limits
        if self._bench.finish is not None:
            return ToolResult(id=call.id, text="The kernel is handed in: nothing more is done.", failed=True)
        if self._meter.calls >= limits.calls and call.name != FINISH:
            return ToolResult(id=call.id, text=f"All {limits.calls} tool calls are spent: call finish.", failed=True)
        if self._meter.seconds_left <= 0:
            return ToolResult(id=call.id, text="The time is over.", failed=True)
        self._meter.calls += 1
        answered = self._bench.answer(call)
        return ToolResult(id=call.id, text=answered.text, failed=answered.failed)

    # -- without tools -------------------------------------------------------------------------------------------------------

    def by_blocks(self, reading: Reading) -> Ending:
        """A reply with the kernel; what cannot be used, or fails on the development plan, may be mended ``repairs`` times."""
        self._tell(Text(text=self._prompt.text))
        problem, repairs = "", self._meter.limits.repairs
        while not (spent := self._meter.spent(self._size)):
            reply = self._ask()
            if isinstance(reply, Ending):
                return reply
            refused = self._take(answers.read(reply.text, words=reading.words, parses=reading.parses))
            failing = "" if refused is not None or repairs == 0 else self._failing()
            if refused is None and not failing:
                return self._finished(self._bench.finish or Finish())
            problem = f"the reply could not be used: {refused}" if refused is not None else ""
            if repairs == 0:
                return self._unfinished(problem)
            repairs -= 1
            kind = "cut" if reply.stop == "length" and refused is not None else "unusable" if refused is not None else "failing"
            self._tell(Text(text=render("repair.md.jinja", kind=kind, text=refused or failing)))
        return self._unfinished(problem or f"limit reached: {spent}")

    def _failing(self) -> str:
        """How the kernel on the bench fails the development plan; nothing where it passes, or nothing can be asked."""
        try:
            outcome = self._bench.check()
        except Refused:
            return ""
        return "" if self._bench.passed else outcome_text(outcome)

    # -- in a folder ---------------------------------------------------------------------------------------------------------

    def in_workspace(self, workspace: Workspace, reading: Reading) -> Ending:
        """One exchange with a command that works in ``workspace``; the kernel is the file that it leaves there, or in its reply."""
        self._tell(Text(text=self._prompt.text))
        with workspace.answering(self._bench, self._meter, self.transcript):
            reply = self._ask()
        with suppress(Refused):
            self._bench.write(workspace.read(workspace.kernel.name) or "")
        if isinstance(reply, Ending):
            return reply if reply.source else self._unfinished(reply.reason, failure=reply.failure)
        said = answers.stated(reply.text)
        said = said if said.hypothesis else answers.stated(workspace.read(NOTES) or "")
        try:
            self._bench.hand_in(Finish(hypothesis=said.hypothesis, predicted_gain=said.predicted_gain, idea=said.idea))
        except Refused as problem:
            if self._take(answers.read(reply.text, words=reading.words, parses=reading.parses)) is not None:
                return self._unfinished(f"the command left no kernel to try: {problem}")
        return self._finished(self._bench.finish or Finish())

    # -- all -----------------------------------------------------------------------------------------------------------------

    def _take(self, answer: answers.Answer) -> str | None:
        """Lay what a plain reply holds on the bench and hand it in; why not, or None."""
        if answer.problem:
            return answer.problem
        try:
            if answer.kernel is not None:
                self._bench.write(answer.kernel)
            else:
                self._bench.edit(*answer.edits)
            self._bench.hand_in(Finish(hypothesis=answer.hypothesis, predicted_gain=answer.predicted_gain, idea=answer.idea))
        except (Refused, EditFailed) as problem:
            return str(problem)
        return None

    def _tell(self, *parts: Text | ToolResult) -> None:
        message = Message(role="user", parts=parts)
        self._messages.append(message)
        self._size += sum(estimate(part.text) for part in parts)
        self.transcript.told(message)

    def _ask(self) -> Reply | Ending:
        """The next reply; an ending where there is none, or a refusal."""
        meter = self._meter
        request = Request(
            system=self._prompt.system,
            messages=tuple(self._messages),
            tools=self._tools,
            max_output_tokens=max(1, min(meter.limits.output_tokens, meter.tokens_left)),
            deadline_s=meter.seconds_left,
            workspace=self._workspace.folder if self._workspace is not None else None,
            desk=self._workspace,
        )
        meter.turns += 1
        try:
            reply = self._model.reply(request)
        except ModelFailed as failure:
            meter.usage += failure.usage
            self.transcript.note(failed=failure.kind, message=str(failure))
            return self._unfinished(f"model failed ({failure.kind}): {one_line(str(failure), 600)}", failure=failure.kind)
        meter.usage += reply.usage
        self._last = reply.text
        self._messages.append(reply.message)
        self._size += sum(estimate(part.text) for part in reply.message.parts if isinstance(part, Text))
        self._size += sum(estimate(str(call.arguments)) for call in reply.calls)
        self.transcript.answered(reply)
        if reply.stop == "refused":
            return self._unfinished(f"the model refused: {one_line(reply.text, 300) or 'without a word'}")
        return reply

    def _finished(self, finish: Finish) -> Ending:
        return Ending(reason="finished", source=self._bench.source, finish=finish)

    def _unfinished(self, reason: str, *, failure: str = "") -> Ending:
        """The kernel that its author did not hand in, where there is one worth trying; else the problem."""
        finish, source = self._bench.finish, self._bench.kept
        if source:
            return Ending(reason=reason, source=source, finish=finish or Finish(), held=self._last, failure=failure)
        return Ending(reason=reason, problem=reason, held=self._last, failure=failure)
