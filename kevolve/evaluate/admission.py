"""Whether a spec may judge kernels: impostors must fail under its own inputs and tolerance (mutation testing of the spec).

Looked at are small versions of its cases, one draw with equal sizes and a few draws as the property plan makes them; where an impostor is
left after those, more and larger ones. One draw that refuses an impostor is enough, so the good spec costs little. Draws follow from the
spec's hash: the answer is the same in every run, and ``admission`` keeps it on disk.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache as once
from pathlib import Path
from typing import Any

from kevolve.evaluate.draws import drawn
from kevolve.evaluate.materialise import elements
from kevolve.evaluate.threads import one_thread
from kevolve.evaluate.trial import Survivor, Trial
from kevolve.files import write_atomically
from kevolve.spec.domain import Sizes
from kevolve.spec.spec import Draw, Spec

SMALL = 1 << 12  # elements of a case's small version
SQUARE = 17  # every size of the draw that mistakes axes
DRAWS, DRAWN_TO = 10, 1 << 15  # draws made like the property plan's, and the elements that bound them
MORE, MORE_TO = 16, 1 << 18  # where impostors are left
LAST = 2  # the stage that only an impostor which passed so far is worth
FEWEST = 2  # draws looked at in any case
CASES = 4  # small versions of cases looked at
_RULES = (
    "admission",
    "impostors",
    "compare",
    "draws",
    "lifting",
    "materialise",
    "oracle",
    "tolerance",
    "trial",
)  # files that an answer follows from


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What became of each impostor. ``refused``: by name, the draw that told it from the right answer."""

    draws: int
    refused: Mapping[str, str] = field(default_factory=dict)
    not_applicable: Mapping[str, str] = field(default_factory=dict)  # and why
    admitted: Mapping[str, str] = field(default_factory=dict)  # by the spec's admits=, with its reason
    unjudged: Mapping[str, str] = field(default_factory=dict)  # outputs that every draw excluded, and why
    survivors: tuple[Survivor, ...] = ()

    @property
    def tried(self) -> int:
        """How many impostors could be made."""
        return len(self.refused) + len(self.admitted) + len(self.survivors)

    @property
    def problem(self) -> str | None:
        """Why the spec may not judge kernels, for its author; None where it may."""
        return _message(self) if self.survivors or self.unjudged else None

    def to_json(self) -> dict[str, Any]:
        """Plain data, as the record shows and the cache keeps it."""
        return {**asdict(self), "survivors": [asdict(survivor) for survivor in self.survivors]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Admission:
        """What ``to_json`` made. Raises ``TypeError`` or ``KeyError`` for anything else."""
        survivors = tuple(Survivor(**{**given, "advice": tuple(given["advice"])}) for given in data["survivors"])
        return cls(**{**data, "survivors": survivors})


def admission(spec: Spec, cache: Path) -> Admission:
    """The admission of ``spec``, from ``cache`` where it was found before under the same rules.

    Raises ``ReferenceFailed`` where the reference refuses every draw.
    """
    file = cache / "admission" / f"{_key(spec)}.json"
    try:
        return Admission.from_json(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError, KeyError):  # not there, or of another version
        found = admit(spec)
        write_atomically(file, json.dumps(found.to_json(), indent=1))
        return found


def _key(spec: Spec) -> str:
    """Over what an answer follows from: the spec, its cases (a target may select some), these rules and torch.

    The hash covers the declaration's text; what it names in other modules (``tolerance=settings.TOLERANCE``) is covered by its value.
    """
    described = [spec.describe(**case.values) for case in spec.cases]
    inputs = [repr(given) if isinstance(given, tuple) else getattr(given, "__qualname__", "") for given in described]
    cases = [Draw(values=case.values, seed=0).to_json() for case in spec.cases]
    compared = {position: (type(found).__name__, getattr(found, "steps", None)) for position, found in spec.compare.items()}
    options = [repr(part) for part in (spec.tolerance, dict(spec.vary), spec.grad, spec.mutates, compared, dict(spec.admits))]
    parts = [spec.hash, spec.nodeid, *cases, *inputs, *options, _rules(), importlib.metadata.version("torch")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@once
def _rules() -> str:
    """The text of the modules that decide, so that no answer outlives the rules that it was found by."""
    here = Path(__file__).parent
    return hashlib.sha256(b"\0".join((here / f"{name}.py").read_bytes() for name in _RULES)).hexdigest()


def admit(spec: Spec) -> Admission:
    """Try every impostor on draws of ``spec`` until each was refused once. Raises ``ReferenceFailed`` where no draw can be looked at."""
    trial = Trial(spec)
    with one_thread():
        for number, draws in enumerate(_stages(spec, int(hashlib.sha256(spec.hash.encode()).hexdigest()[:10], 16))):
            for draw in draws:
                if trial.draws < FEWEST or not trial.settled or (number < LAST and trial.waits):
                    trial.look(draw)
            if trial.settled and not (number < LAST and trial.waits):
                break
        survivors = trial.survivors()
    return Admission(
        draws=trial.draws,
        refused=trial.refused(),
        not_applicable=trial.not_applicable(),
        admitted=trial.admitted(),
        unjudged=trial.unjudged(),
        survivors=survivors,
    )


def _stages(spec: Spec, seed: int) -> Iterator[Sequence[Draw]]:
    """Draws in order of what they cost; the later ones are made only when they are asked for."""
    yield list(_of_cases(spec, seed))
    yield drawn(spec, seed=seed, cap=DRAWN_TO, examples=DRAWS)
    yield drawn(spec, seed=seed + 1, cap=MORE_TO, examples=MORE)


def _of_cases(spec: Spec, seed: int) -> Iterator[Draw]:
    """Small versions of the cases; first one with equal sizes, which allows axes to be mistaken."""
    seen: list[dict[str, Any]] = []
    for case in spec.cases:
        values = _small(spec, case.values)
        if values not in seen and len(seen) < CASES:
            seen.append(values)
    sized = {name: domain for name, domain in spec.vary.items() if isinstance(domain, Sizes)}
    if sized and seen:
        equal = min(SQUARE, *(domain.high for domain in sized.values()))
        yield Draw(values={**seen[0], **{name: _within(domain, equal) for name, domain in sized.items()}}, seed=seed)
    for number, values in enumerate(seen, 1):
        yield Draw(values=values, seed=(seed + 2 * number) % 2**40)


def _within(domain: Any, size: int) -> int:
    return int(min(max(size, domain.low), domain.high))


def _small(spec: Spec, values: Mapping[str, Any]) -> dict[str, Any]:
    """The case with its largest sizes halved until it is small, within what ``vary`` allows."""
    domains = {name: domain for name, domain in spec.vary.items() if isinstance(domain, Sizes)}
    small = {name: _within(domains[name], value) if name in domains else value for name, value in values.items()}
    while elements(spec, small) > SMALL:
        able = {name: small[name] for name, domain in domains.items() if small[name] // 2 >= max(1, domain.low)}
        if not able:
            break
        largest = max(able, key=lambda name: able[name])
        small[largest] //= 2
    return small


def _message(found: Admission) -> str:
    lines = [f"the spec is too weak to judge kernels: {len(found.survivors)} of {found.tried} impostors pass it"]
    lines += [
        f"  {output} was excluded on all {found.draws} draws looked at, so that any values pass: {why}\n"
        "    to strengthen the spec: widen tolerance= or mend the reference"
        for output, why in found.unjudged.items()
    ]
    for survivor in found.survivors:
        lines += [
            f"  impostor {survivor.impostor!r}: {survivor.meaning}",
            f"    passed all {survivor.passed} draws that it could be made for, {survivor.draw} among them",
            f"    tolerance there: {survivor.tolerance:.2g} of the output's scale",
            *(f"    to strengthen the spec: {advice}" for advice in survivor.advice),
            f'    or, if a right kernel looks like that: admits={{"{survivor.impostor}": "the reason"}}',
        ]
    return "\n".join(lines)
