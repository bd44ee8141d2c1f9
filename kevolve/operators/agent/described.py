"""A spec in words: what a kernel must compute, on which inputs, and how exactly it must."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kevolve.spec.domain import Choices, Domain, Sizes
from kevolve.spec.inputs import Jagged, Scalar, Tensor
from kevolve.spec.reference import import_module
from kevolve.spec.source import sources
from kevolve.spec.spec import Case, Spec


def facts_of(spec: Spec, target: str) -> dict[str, Any]:
    """What the template of the spec needs, as plain values. Imports the reference's module (a user's own, trusted code)."""
    cases = [case for case in spec.cases if case.targets is None or target in case.targets]
    return {
        "name": spec.name,
        "inputs": list(spec.reference.inputs),
        "reference": reference_source(spec),
        "cases": [_case(spec, case) for case in cases],
        "made_by": makers_source(spec, cases),
        "vary": {name: _domain(domain) for name, domain in spec.vary.items()},
        "choices": {name: ", ".join(map(str, values)) for name, values in spec.choices.items()},
        "tolerance": spec.tolerance,
        "compare": {position: type(comparator).__name__ for position, comparator in spec.compare.items()},
        "baseline": list(spec.baseline),
        **{name: list(getattr(spec, name)) for name in ("grad", "mutates", "constant", "allow")},
    }


def reference_source(spec: Spec) -> str:
    """The reference's text: a function with what it names in its project, or the whole file of an ``nn.Module``."""
    found: Any = import_module(spec.reference.module, spec.reference.file)
    for part in spec.reference.qualname.split("."):
        found = getattr(found, part)
    if spec.reference.is_module or not inspect.isfunction(found):
        return spec.reference.file.read_text(encoding="utf-8")
    own, *others = sources(found, beyond=True)
    return "\n\n".join(text.strip("\n") for text in (*others, own))


def makers_source(spec: Spec, cases: Sequence[Case]) -> str:
    """The text of the functions that make the cases' inputs, with what they name; nothing where inputs are described or have no text."""
    described = [spec.describe(**case.values) for case in cases]
    makers = dict.fromkeys(each for each in described if inspect.isfunction(each))
    texts: dict[str, None] = {}
    for maker in makers:
        try:
            own, *others = sources(maker, beyond=True)
        except (OSError, TypeError):  # typed in, or made by a program: it has no file
            continue
        texts |= dict.fromkeys(text.strip("\n") for text in (*others, own))
    return "\n\n".join(texts)


def _case(spec: Spec, case: Case) -> dict[str, Any]:
    return {"id": case.id, "least": spec.least_speedup(case), "inputs": list(_inputs(spec, case.values))}


def _inputs(spec: Spec, values: Mapping[str, Any]) -> Iterator[str]:
    """Each input of a case with its shape and dtype, by the reference's names."""
    described = spec.describe(**values)
    if callable(described):
        yield f"made by the function below of {', '.join(f'{name}={value}' for name, value in values.items())}"
        return
    names = iter(spec.reference.inputs)
    for item in described:
        name = next(names, "?")
        if isinstance(item, Jagged):
            inner = "".join(f", {size}" for size in item.inner)
            yield f"{name}: int64[{item.rows}], lengths from 0 to {item.max_length}"
            yield f"{next(names, '?')}: {item.dtype}[sum of lengths{inner}]"
        else:
            yield f"{name}: {_input(item)}"


def _input(item: object) -> str:
    if isinstance(item, Tensor):
        said = [f"{item.dtype}[{', '.join(map(str, item.shape))}]"]
        if item.low is not None or item.high is not None:
            said.append(f"from {item.low} to below {item.high}")
        said += [word for word, holds in (("sorted", item.sorted), ("unique", item.unique), ("±inf among them", item.infinities)) if holds]
        said += [value for value in (item.layout, item.distribution) if value is not None]
        return ", ".join(said)
    if isinstance(item, Scalar):
        bounds = f", {item.low} to {item.high} in the property plan" if item.low is not None or item.high is not None else ""
        return f"{item.value}{bounds}"
    return repr(item)


def _domain(domain: Domain) -> str:
    if isinstance(domain, Sizes):
        return f"{domain.low} to {domain.high}"
    assert isinstance(domain, Choices)
    return f"one of {', '.join(map(str, domain.values))}"
