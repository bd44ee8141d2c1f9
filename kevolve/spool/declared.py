"""A spec as data that travels beside its files, and made again from both on the other side."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kevolve.report.fields import Fields
from kevolve.spec.declaration import ATTRIBUTE, DeclarationError, build_spec
from kevolve.spec.spec import Case, Draw, Spec
from kevolve.spool import SpoolError, modules


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Where a spec's test function is found, and the cases that were selected. ``values``: as ``Draw.to_json`` writes them."""

    module: str
    function: str
    nodeid: str
    name: str
    hash: str
    cases: tuple[tuple[str, str, float | None], ...]  # id, values, min_speedup

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        cases = [{"id": name, "values": values, "min_speedup": least} for name, values, least in self.cases]
        return {
            "module": self.module,
            "function": self.function,
            "nodeid": self.nodeid,
            "name": self.name,
            "hash": self.hash,
            "cases": cases,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> Declared:
        """Check and take plain data. Raises ``RecordError``."""
        cases = tuple(
            (case.text("id"), case.text("values"), case.number("min_speedup", optional=True)) for case in fields.children("cases")
        )
        return cls(**{name: fields.text(name) for name in ("module", "function", "nodeid", "name", "hash")}, cases=cases)


def declare(spec: Spec, cases: Sequence[Case]) -> tuple[Declared, dict[str, bytes]]:
    """A spec with these of its cases as data, and the files that it needs. Raises ``SpoolError`` where it cannot travel."""
    if spec.kernel is not None:
        raise SpoolError(f"{spec.nodeid}: a kernel that exists as {spec.kernel} is not searched for, and not sent anywhere")
    function = inspect.unwrap(spec.describe)
    written = tuple((case.id, Draw(values=case.values, seed=0).to_json(), case.min_speedup) for case in cases)
    declared = Declared(
        module=function.__module__, function=function.__name__, nodeid=spec.nodeid, name=spec.name, hash=spec.hash, cases=written
    )
    for case, again in zip(cases, _cases(function, declared), strict=True):
        if dict(again.values) != dict(case.values):
            raise SpoolError(
                f"{spec.nodeid}: case {case.id} cannot be sent to another machine: expected values that JSON has, or that its "
                f"pytest.mark.parametrize lists, got {dict(case.values)!r}"
            )
    return declared, modules.sources([declared.module, spec.reference.module])


def rebuild(declared: Declared) -> Spec:
    """The spec, its files on ``sys.path``; this runs them. Raises ``SpoolError`` where it is not what was declared elsewhere."""
    try:
        function = getattr(importlib.import_module(declared.module), declared.function)
        if not hasattr(function, ATTRIBUTE):
            raise SpoolError(f"{declared.nodeid}: {declared.module}.{declared.function} declares no kernel")
        spec = build_spec(function, nodeid=declared.nodeid, cases=_cases(function, declared))
    except (ImportError, AttributeError, DeclarationError) as error:
        raise SpoolError(f"{declared.nodeid} cannot be declared here: {type(error).__name__}: {error}; install what it imports") from error
    if spec.hash != declared.hash:
        raise SpoolError(
            f"{declared.nodeid}: expected the spec {declared.hash}, got {spec.hash} from the archive's files: "
            "another module of that name is installed here, or another version of kevolve"
        )
    return spec


def _cases(function: Callable[..., Any], declared: Declared) -> tuple[Case, ...]:
    choices = _parametrised(function)
    return tuple(
        Case(id=name, values=Draw.from_json(values, choices=choices).values, min_speedup=least) for name, values, least in declared.cases
    )


def _parametrised(function: Callable[..., Any]) -> Mapping[str, tuple[Any, ...]]:
    """What pytest.mark.parametrize lists for each argument: values that JSON has not are found among them by their text."""
    found: dict[str, tuple[Any, ...]] = {}
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            for name, values in _listed(*mark.args[:2]):
                found[name] = (*found.get(name, ()), *values)
    return found


def _listed(names: Any, values: Any) -> Iterator[tuple[str, list[Any]]]:
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    rows = [value.values if hasattr(value, "marks") else value if len(names) > 1 else (value,) for value in values]
    yield from ((name, [row[position] for row in rows]) for position, name in enumerate(names))
