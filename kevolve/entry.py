"""Whether a spec may judge kernels at all: its reference takes its inputs, and no impostor passes it. Looked at once a spec and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kevolve.evaluate.admission import Admission, admission
from kevolve.evaluate.materialise import elements, materialise
from kevolve.evaluate.oracle import ReferenceFailed, expect
from kevolve.spec.spec import Draw, Spec


class Entry:
    """What is known of the run's specs, by their hash. ``seed``: of the inputs that a reference is tried on."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._references: dict[str, str | None] = {}
        self._admissions: dict[str, Admission | ReferenceFailed] = {}

    def problem(self, spec: Spec, cache: Path) -> str | None:
        """Why no kernel of ``spec`` can be judged, for the spec's author; None where it can. ``cache``: where admissions are kept."""
        if spec.hash not in self._references:
            self._references[spec.hash] = self._try_reference(spec)
        return self._references[spec.hash] or self._weakness(spec, cache)

    def _try_reference(self, spec: Spec) -> str | None:
        """What the reference says to the inputs it is given."""
        draw = Draw(values=min((case.values for case in spec.cases), key=lambda values: elements(spec, values)), seed=self._seed)
        try:
            expect(spec, draw, materialise(spec, draw))
        except (ReferenceFailed, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
            return (
                f"the reference {spec.reference.path} refuses the inputs of its spec: {type(error).__name__}: {error}\n"
                f"  inputs: {draw.to_json()}\n  expected: it accepts what {spec.nodeid} describes; mend the description or the reference"
            )
        return None

    def _weakness(self, spec: Spec, cache: Path) -> str | None:
        key = _key(spec)
        if key not in self._admissions:
            try:
                self._admissions[key] = admission(spec, cache)
            except ReferenceFailed as failed:
                self._admissions[key] = failed
        found = self._admissions[key]
        if isinstance(found, ReferenceFailed):
            return f"{found}\n  no draw could be looked at: mend the reference, or the description of its inputs"
        return None if found.problem is None else f"{spec.nodeid}: {found.problem}"

    def row(self, spec: Spec) -> dict[str, Any]:
        """What the record says of a spec's admission; empty where it was not looked at."""
        found = self._admissions.get(_key(spec))
        if not isinstance(found, Admission):
            return {}
        said = {"draws": found.draws, "tried": found.tried, "refused": sorted(found.refused), "admitted": dict(found.admitted)}
        said |= {"passed": [survivor.impostor for survivor in found.survivors], "not_applicable": dict(found.not_applicable)}
        return {"admission": {name: value for name, value in said.items() if value}}

    def counts(self, spec: Spec) -> dict[str, Any]:
        """The same in short, for the rows of cases."""
        found = self._admissions.get(_key(spec))
        return {"impostors": {"tried": found.tried, "refused": len(found.refused)}} if isinstance(found, Admission) else {}


def _key(spec: Spec) -> str:
    return f"{spec.nodeid} {spec.hash}"
