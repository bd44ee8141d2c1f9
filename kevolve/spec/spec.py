"""A kernel spec: what must be computed, on which inputs, how fast. A pure value; nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kevolve.spec.comparators import Comparator
from kevolve.spec.domain import Choices, Domain
from kevolve.spec.inputs import Description
from kevolve.spec.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One benchmark case: pytest's id of the parameters and their values by name."""

    id: str
    values: Mapping[str, Any]
    targets: tuple[str, ...] | None = None  # None: every target
    min_speedup: float | None = None  # in place of the spec's


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One set of inputs, small enough to print: arguments, a distribution and a layout by name, a seed. Never elements.

    ``distribution`` and ``layout`` apply to the tensors that do not fix theirs; None leaves normal and contiguous.
    ``origin`` says where it came from: ``case``, ``sweep``, ``near`` (a case), ``drawn``, ``kept`` (a
    counterexample) or ``huge``.
    """

    values: Mapping[str, Any]
    seed: int
    distribution: str | None = None
    layout: str | None = None
    origin: str = "case"

    def to_json(self) -> str:
        """One line that ``--kevolve-replay`` takes; values that JSON has not stand in it as ``{"$": text}``."""
        fields = {
            "values": {name: _encoded(value) for name, value in self.values.items()},
            "seed": self.seed,
            "distribution": self.distribution,
            "layout": self.layout,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, origin: str = "kept", choices: Mapping[str, tuple[Any, ...]] | None = None) -> Draw:
        """Read what ``to_json`` wrote. Raises ``ValueError`` saying what was expected.

        ``choices``: by argument, the values that a text may stand for; a text that is none of them stays as it was read.
        """
        try:
            read = json.loads(text)
            return cls(
                values=_decoded(dict(read["values"]), choices or {}),
                seed=int(read["seed"]),
                distribution=read.get("distribution"),
                layout=read.get("layout"),
                origin=origin,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'expected {{"values":{{…}},"seed":N}} as a failure prints it, got {text!r} ({error})') from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The least work a case needs, where the inputs' and outputs' sizes do not say it (tables read in part, matrix products)."""

    bytes: float
    operations: float = 0.0
    dtype: str = "float32"  # the type whose peak bounds the operations
    random_accesses: float = 0.0
    random_bytes: float | None = None  # the size of what is accessed at random; None: `bytes`


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Everything declared by one decorated test function."""

    name: str  # "rms_norm": the test function's name less "test_"; also the kernel's entry function and folder
    nodeid: str  # "suites/test_norms.py::test_rms_norm"
    folder: Path  # of the test file; kernels stand in folder/"kernels"/name
    describe: Callable[..., Description]
    reference: Reference
    cases: tuple[Case, ...]
    vary: Mapping[str, Domain]
    choices: Mapping[str, tuple[Any, ...]]  # parametrised values of the arguments that `vary` does not name
    hash: str  # over the declaration's, the test's and the reference's source
    min_speedup: float = 1.0
    baseline: tuple[str, ...] = ("eager", "compile")  # the first is what min_speedup is held against
    grad: tuple[str, ...] = ()
    mutates: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    tolerance: float | None = None  # relative to the output's scale; None: derived
    compare: Mapping[int, Comparator] = field(default_factory=dict)  # by output position
    allow: tuple[str, ...] = ()  # "aten::mm" …
    targets: tuple[str, ...] = ()  # empty: every registered target
    languages: tuple[str, ...] = ()  # empty: the target's preference
    kernel: str | None = None  # "package.module:function": a kernel that exists already
    work: Callable[..., Work] | None = None  # the case's arguments by name -> Work
    allowance: Mapping[str, float] = field(default_factory=dict)  # by figure of ``spec.figures``, in place of the gate's own
    admits: Mapping[str, str] = field(default_factory=dict)  # by impostor of ``spec.admits``, why a right kernel looks like it
    line: int = 0

    def least_speedup(self, case: Case) -> float:
        """What a kernel must reach on ``case`` over the first of ``baseline``."""
        return self.min_speedup if case.min_speedup is None else case.min_speedup


def decode(spec: Spec, draw: Draw) -> Draw:
    """The draw as read by ``Draw.from_json``, its texts replaced by the spec's values; a text that is none of them stays."""
    varied = {name: domain.values for name, domain in spec.vary.items() if isinstance(domain, Choices)}
    return replace(draw, values=_decoded(draw.values, {**spec.choices, **varied}))


def _decoded(values: Mapping[str, Any], choices: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """``values`` with each ``{"$": text}`` replaced by the choice that it was written for."""

    def decoded(name: str, value: Any) -> Any:
        matches = (choice for choice in choices.get(name, ()) if _encoded(choice) == value)
        return next(matches, value) if _is_text(value) else value

    return {name: decoded(name, value) for name, value in values.items()}


def _encoded(value: Any) -> Any:
    """``value`` where JSON gives it back as it was, else ``{"$": text}``; what is encoded already stays."""
    return value if _is_plain(value) or _is_text(value) else {"$": _text(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)


def _is_text(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"$"} and isinstance(value["$"], str)


def _text(value: Any) -> str:
    """``str(value)``; of functions and classes their path, as their text may hold an address."""
    qualname = getattr(value, "__qualname__", None)
    return str(value) if qualname is None else f"{value.__module__}.{qualname}"
