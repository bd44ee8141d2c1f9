"""The trial of a spec: impostors against its comparison, one draw after another, and advice where one is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kevolve.evaluate.compare import compare
from kevolve.evaluate.impostors import SHAPE, SHORT, Impostor, Subject, impostors, mean_of
from kevolve.evaluate.materialise import materialise
from kevolve.evaluate.oracle import Expected, ReferenceFailed, answers, blame, conditioned, expect
from kevolve.evaluate.outcome import Status
from kevolve.spec.admits import meaning, reason
from kevolve.spec.domain import Sizes
from kevolve.spec.inputs import Tensor
from kevolve.spec.spec import Draw, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """An impostor that no draw refused. ``draw``: one that it passed; ``tolerance``: there, relative to the output's scale."""

    impostor: str
    meaning: str
    draw: str
    passed: int  # draws
    tolerance: float
    advice: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of one impostor of one output."""

    name: str
    position: int
    refused: Draw | None = None
    passed: list[Draw] = field(default_factory=list)
    misfit: Draw | None = None  # where it has no output of the right shape
    unfit: str = ""

    @property
    def refusal(self) -> Draw | None:
        """The draw that tells it from a right kernel: by its values; or by its shape, where it can be made for others."""
        return self.refused or (self.misfit if self.passed else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One draw, its expectation and the right answers in their dtypes."""

    draw: Draw
    inputs: tuple[Any, ...]
    expected: Expected
    rights: tuple[torch.Tensor, ...]


class Trial:
    """The state of one spec's trial."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._tallies: dict[str, _Tally] = {}
        self._learnt: dict[int, float] = {}
        self._signs: dict[int, set[bool]] = {}  # of the elements of floating inputs: negative, not negative
        self._judged: set[int] = set()  # outputs whose values some draw compares
        self._excluded: dict[int, str] = {}  # outputs that some draw excludes, and why
        self._failed: ReferenceFailed | None = None
        self.draws = 0

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether every impostor that could be made was refused, and every output judged."""
        return (
            bool(self._tallies)
            and not self.unjudged()
            and not any(tally.passed and tally.refusal is None for tally in self._tallies.values())
        )

    @property
    def waits(self) -> bool:
        """Whether larger draws may allow an impostor that could not be made yet."""
        return any(tally.unfit == SHORT and tally.refusal is None for tally in self._tallies.values())

    def look(self, draw: Draw) -> None:
        """Try on ``draw`` every impostor that is not refused yet; a draw whose reference fails is left out."""
        try:
            look = self._prepared(draw)
        except ReferenceFailed as failed:
            self._failed = self._failed or failed
            return
        if look is None:
            return
        self.draws += 1
        self._note_signs(look.inputs)
        judge = _Judge(self._spec, look)
        for position in range(len(look.rights)):
            why = look.expected.outputs[position].unreliable
            if why is not None:
                self._excluded.setdefault(position, why)
            elif look.rights[position].numel():
                self._judged.add(position)
                self._try(look, position, judge)

    def _prepared(self, draw: Draw) -> _Look | None:
        """None where the right answer itself, rounded to its dtype, is not accepted (it overflows there): such a draw tells nothing."""
        with blame(self._spec, draw, "the description of inputs for"):
            inputs = materialise(self._spec, draw)
        expected = expect(self._spec, draw, inputs)
        rights = tuple(output.oracle.to(output.dtype).contiguous() for output in expected.outputs)
        accepted = compare(self._spec, expected, rights, inputs, draw=draw).passed
        return _Look(draw=draw, inputs=inputs, expected=expected, rights=rights) if accepted else None

    def _try(self, look: _Look, position: int, judge: _Judge) -> None:
        subject: Subject | None = None
        for name, impostor in impostors(len(look.inputs)).items():
            label = name if len(look.rights) == 1 else f"{name} of output {position}"
            tally = self._tallies.setdefault(label, _Tally(name=name, position=position))
            if tally.refusal is not None:
                continue
            subject = subject or self._subject(look, position)
            made = _made(impostor, subject)
            if isinstance(made, str):
                tally.unfit = tally.unfit or made
                tally.misfit = tally.misfit or (look.draw if made == SHAPE else None)
            elif judge.accepts(position, made):
                tally.passed.append(look.draw)
            else:
                tally.refused = look.draw

    def _subject(self, look: _Look, position: int) -> Subject:
        right = look.rights[position]
        gradients = _gradients(self._spec, look)
        return Subject(
            right=right,
            inputs=look.inputs,
            replayed=self._replayed(look, position),
            learnt=self._learnt.setdefault(position, mean_of(right)),
            again=lambda inputs, mode=None: answers(self._spec, look.draw, inputs, mode)[position],
            gradient=position in gradients,
            seed=look.draw.seed,
        )

    def _replayed(self, look: _Look, position: int) -> torch.Tensor | None:
        """The answer of another call with the same sizes."""
        other = replace(look.draw, seed=(look.draw.seed + 1) % 2**40)
        try:
            with blame(self._spec, other):
                inputs = materialise(self._spec, other)
            return answers(self._spec, other, inputs)[position].contiguous()
        except ReferenceFailed:
            return None

    def _note_signs(self, inputs: Sequence[Any]) -> None:
        for position, value in enumerate(inputs):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
                self._signs.setdefault(position, set()).update((value < 0).unique().tolist())

    # -- what was found --------------------------------------------------------------------------------------------

    def refused(self) -> dict[str, str]:
        """By impostor, the draw that told it from the right answer."""
        return {label: draw.to_json() for label, tally in self._tallies.items() if (draw := tally.refusal) is not None}

    def not_applicable(self) -> dict[str, str]:
        """Impostors that could be made for no draw, and why."""
        return {label: tally.unfit for label, tally in self._tallies.items() if tally.refusal is None and not tally.passed}

    def admitted(self) -> dict[str, str]:
        """Those that pass and that the spec admits, with its reason."""
        found = {label: reason(self._spec.admits, tally.name, label) for label, tally in self._left()}
        return {label: why for label, why in found.items() if why is not None}

    def unjudged(self) -> dict[str, str]:
        """Outputs that every draw excludes, and why: nothing could be tried on them."""
        return {f"output {position}": why for position, why in self._excluded.items() if position not in self._judged}

    def survivors(self) -> tuple[Survivor, ...]:
        """Those that pass and should not. Raises ``ReferenceFailed`` where no draw could be looked at."""
        if not self.draws and self._failed is not None:
            raise self._failed
        admitted = self.admitted()
        return tuple(self._survivor(label, tally) for label, tally in self._left() if label not in admitted)

    def _left(self) -> Iterator[tuple[str, _Tally]]:
        return ((label, tally) for label, tally in self._tallies.items() if tally.refusal is None and tally.passed)

    def _survivor(self, label: str, tally: _Tally) -> Survivor:
        draw = max(tally.passed, key=lambda draw: len(str(draw.values)))
        look = self._prepared(draw)
        tolerance = look.expected.outputs[tally.position].tolerance if look is not None else 0.0
        return Survivor(
            impostor=label,
            meaning=meaning(tally.name, self._spec.reference.inputs),
            draw=draw.to_json(),
            passed=len(tally.passed),
            tolerance=tolerance,
            advice=tuple(self._advice(tally)),
        )

    def _advice(self, tally: _Tally) -> Iterator[str]:
        """What would refuse it, the surest first."""
        derived = self._derived(tally)
        if derived is not None:
            yield f"leave tolerance={self._spec.tolerance:g} out: the derived one ({derived:.1e}) refuses it"
        yield from (advice for advice in self._input_advice() if derived is None)
        if not any(isinstance(domain, Sizes) for domain in self._spec.vary.values()):
            yield "let sizes vary (vary=dict(n=sizes(low, high))): every draw has the same ones"
        if derived is None and tally.name in ("zeros", "constant", "mean", "row mean", "replay", "prefix"):
            yield "give inputs that move the output by more than its tolerance (other bounds or sizes), or return what it follows from too"

    def _input_advice(self) -> Iterator[str]:
        described = self._spec.describe(**self._spec.cases[0].values) if self._spec.cases else ()
        fixed = dict(enumerate(described)) if isinstance(described, tuple) else {}
        for position, signs in self._signs.items():
            name, item = self._spec.reference.inputs[position : position + 1], fixed.get(position)
            if len(signs) < 2 or (isinstance(item, Tensor) and item.low is not None and item.low >= 0):
                yield f"let the input {name[0] if name else position!r} have both signs: it never does (low=, high=, distribution=)"
            if isinstance(item, Tensor) and item.distribution == "constant":
                yield f"leave distribution='constant' of the input {name[0] if name else position!r} out"

    def _derived(self, tally: _Tally) -> float | None:
        """The derived tolerance, where it refuses what the declared one lets pass."""
        if self._spec.tolerance is None:
            return None
        spec = replace(self._spec, tolerance=None)
        again = Trial(spec)
        for draw in tally.passed[:3]:
            again.look(draw)
        tallies = [found for found in again._tallies.values() if (found.name, found.position) == (tally.name, tally.position)]
        if not tallies or tallies[0].refused is None:
            return None
        look = again._prepared(tallies[0].refused)
        return None if look is None else look.expected.outputs[tally.position].tolerance


class _Judge:
    """The spec's own comparison of one draw. What rounding alone does is measured once, and not for each impostor that is refused."""

    def __init__(self, spec: Spec, look: _Look) -> None:
        self._spec, self._look = spec, look
        self._widened: Expected | None = None

    def accepts(self, position: int, made: torch.Tensor) -> bool:
        """Whether the right answers with ``made`` in place of one are accepted."""
        outputs = [*self._look.rights]
        outputs[position] = made
        look = self._look
        outcome = compare(self._spec, look.expected, outputs, look.inputs)
        if outcome.status is not Status.INCORRECT_NUMERICAL or self._spec.tolerance is not None:
            return outcome.passed
        self._widened = self._widened or conditioned(self._spec, look.draw, look.inputs, look.expected)
        return compare(self._spec, self._widened, outputs, look.inputs).passed


def _made(impostor: Impostor, subject: Subject) -> torch.Tensor | str:
    try:
        return impostor(subject)
    except ReferenceFailed:
        return "the reference refuses the inputs that it would need"


def _gradients(spec: Spec, look: _Look) -> range:
    """Positions of the gradients among the outputs: after the forward's, before the mutated inputs."""
    end = len(look.rights) - len(spec.mutates)
    return range(end - len(spec.grad), end)
