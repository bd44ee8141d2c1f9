"""The decorator, and the check that turns what it declares into a ``Spec`` or a list of every problem at once."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from kevolve import registry
from kevolve.spec.admits import admits_problems
from kevolve.spec.comparators import Comparator, IndexOf, Quantised, Unordered
from kevolve.spec.domain import Choices, Domain, Sizes
from kevolve.spec.figures import allowance_problems
from kevolve.spec.inputs import Description, Jagged, description_problems
from kevolve.spec.reference import Reference
from kevolve.spec.source import sources
from kevolve.spec.spec import Case, Spec, Work

F = TypeVar("F", bound=Callable[..., Any])
BASELINES = ("eager", "compile")
NAMES = ("baseline", "grad", "mutates", "constant", "allow", "targets", "languages")  # options that hold names
ATTRIBUTE = "__kevolve__"
# what a user's constructor raises on arguments that it does not take
_CONSTRUCTOR_ERRORS = (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, AssertionError, ImportError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What ``@kevolve.kernel(...)`` was given; checked at collection, when the cases are known."""

    reference: Any
    options: Mapping[str, Any]


class DeclarationError(Exception):
    """A spec that cannot be used; ``problems`` lists all that is wrong with it."""

    def __init__(self, nodeid: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = [f"kernel spec {nodeid}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
        super().__init__("\n".join([*lines, *(f"  - {problem}" for problem in problems)]))


def kernel(
    reference: Any,
    *,
    min_speedup: float = 1.0,
    vary: Mapping[str, Domain] | None = None,
    baseline: str | Sequence[str] = BASELINES,
    grad: str | Sequence[str] = (),
    mutates: str | Sequence[str] = (),
    constant: str | Sequence[str] = (),
    tolerance: float | None = None,
    compare: Mapping[int, Comparator] | None = None,
    allow: str | Sequence[str] = (),
    targets: str | Sequence[str] = (),
    languages: str | Sequence[str] = (),
    kernel: str | None = None,
    work: Callable[..., Work] | None = None,
    allowance: Mapping[str, float] | None = None,
    admits: Mapping[str, str] | None = None,
) -> Callable[[F], F]:
    """Make a test function a kernel spec.

    ``reference``: a plain PyTorch function, an ``nn.Module`` or a Module class; importable by name.
    ``min_speedup``: over the first of ``baseline``, on every case (``kevolve.on`` may say another for one).
    ``vary``: what the property test may draw in place of parametrised values. ``grad``: inputs whose gradients are checked and
    timed too. ``mutates``: inputs written in place. ``constant``: inputs that may be prepacked outside the timed window.
    ``tolerance``: relative to the output's scale, instead of the derived one. ``compare``: by output position, for outputs that
    are not unique. ``allow``: library operators the kernel may call (``"aten::mm"``). ``kernel``: ``"package.module:function"``, a
    kernel that exists already. ``work``: the case's arguments by name to the least ``Work``, where the inputs are read only in part.
    ``allowance``: by figure, what the gate multiplies the old kernel's by to get the most (occupancy and widths: the least) that passes.
    ``admits``: by impostor (``"input 0"``, ``"zeros of output 1"``), the reason why a right kernel looks like it; it may then pass.
    A single name may be given as a string.
    Source of the idea: KernelEvolve (arXiv 2512.23236), its kernel specification.
    """
    options = {name: value for name, value in locals().items() if name != "reference"}

    def declare(function: F) -> F:
        setattr(function, ATTRIBUTE, Declaration(reference=reference, options=options))
        return function

    return declare


def build_spec(function: Callable[..., Any], *, nodeid: str, cases: Sequence[Case]) -> Spec:
    """The spec of a decorated test function whose parametrised cases are ``cases``.

    Raises ``DeclarationError`` listing every problem, each with what was expected and what was got.
    """
    declaration = cast(Declaration, getattr(function, ATTRIBUTE))
    options: dict[str, Any] = {name: _names(value) if name in NAMES else value for name, value in declaration.options.items()}
    arguments = tuple(inspect.signature(function).parameters)
    reference, problems = _reference(declaration.reference, arguments, cases)
    problems += _option_problems(options, arguments, cases, reference)
    if reference is not None and all(name in case.values for case in cases for name in arguments):
        problems += _case_problems(function, cases, len(reference.inputs))
    if problems or reference is None:
        raise DeclarationError(nodeid, problems)
    vary = dict(options["vary"] or {})
    return Spec(
        name=function.__name__.removeprefix("test_"),
        nodeid=nodeid,
        folder=Path(inspect.getfile(function)).resolve().parent,
        describe=_tupled(function),
        reference=reference,
        cases=tuple(cases),
        vary=vary,
        choices={name: _distinct(case.values[name] for case in cases) for name in arguments if name not in vary},
        hash=_source_hash(function, reference),
        min_speedup=float(options["min_speedup"]),
        tolerance=options["tolerance"],
        compare=dict(options["compare"] or {}),
        kernel=options["kernel"],
        work=options["work"],
        allowance=dict(options["allowance"] or {}),
        admits=dict(options["admits"] or {}),
        line=function.__code__.co_firstlineno,
        **{name: options[name] for name in NAMES},
    )


def _names(given: Any) -> tuple[Any, ...]:
    """A string is one name, not its letters."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)


def _tupled(function: Callable[..., Any]) -> Callable[..., Description]:
    """The test function, a single description made a tuple of one; ``inspect.unwrap`` gives the function."""

    @functools.wraps(function)
    def describe(**values: Any) -> Description:
        described = function(**values)
        return cast(Description, described if isinstance(described, tuple) or callable(described) else (described,))

    return describe


def _distinct(values: Iterator[Any]) -> tuple[Any, ...]:
    """Without repetitions, in order; values need not be hashable."""
    seen: list[Any] = []
    for value in values:
        if value not in seen:
            seen.append(value)
    return tuple(seen)


def _source_hash(function: Callable[..., Any], reference: Reference) -> str:
    """Over the declaration with its test function, what they name in their module, and the whole file of the reference.

    What the test function calls in *other* modules does not count.
    """
    digest = hashlib.sha256("\0".join(sources(function)).encode())
    digest.update(reference.file.read_bytes())
    digest.update(reference.path.encode())
    return digest.hexdigest()[:16]


def _reference(given: Any, arguments: tuple[str, ...], cases: Sequence[Case]) -> tuple[Reference | None, list[str]]:
    """Where the reference is found, or what is wrong with it."""
    if _is_module(given):
        return _class_reference(given, arguments, cases) if inspect.isclass(given) else _instance_reference(given)
    if not inspect.isfunction(given):
        return None, [f"reference: expected a function, an nn.Module or an nn.Module class, got {type(given).__name__}"]
    if "<" in given.__qualname__:
        return None, [
            f"reference: expected a function that a process of its own can import, got {given.__qualname__} (a lambda or closure)"
        ]
    inputs = tuple(inspect.signature(given).parameters)
    return Reference(module=given.__module__, qualname=given.__qualname__, file=Path(inspect.getfile(given)), inputs=inputs), []


def _is_module(given: Any) -> bool:
    """Whether ``given`` is an nn.Module or a class of them, without importing torch for plain functions."""
    classes = given.__mro__ if inspect.isclass(given) else type(given).__mro__
    return any(f"{cls.__module__}.{cls.__qualname__}" == "torch.nn.modules.module.Module" for cls in classes)


def _class_reference(cls: Any, arguments: tuple[str, ...], cases: Sequence[Case]) -> tuple[Reference | None, list[str]]:
    """An nn.Module class, constructed anew for each case from the test function's arguments of the same names."""
    init, missing = _constructor(cls, arguments)
    if missing:
        return None, [
            f"reference: expected an argument of the test function for each that {cls.__qualname__} needs, got none for {name!r}"
            for name in missing
        ]
    try:
        state = tuple(getattr(cls, "kevolve_state", ())) or _state_of_class(cls, init, cases[0].values if cases else {})
    except _CONSTRUCTOR_ERRORS as error:
        expected = f"{cls.__qualname__}({', '.join(f'{name}=…' for name in init)}) to be constructed on the meta device"
        return None, [f"reference: expected {expected}, or its state's names in kevolve_state, got {type(error).__name__}: {error}"]
    file = Path(inspect.getfile(inspect.getmodule(cls) or cls))
    inputs = _forward(cls) + state
    return Reference(module=cls.__module__, qualname=cls.__qualname__, file=file, inputs=inputs, is_module=True, init=init), []


def _instance_reference(given: Any) -> tuple[Reference | None, list[str]]:
    """An nn.Module that is a global of its module."""
    where, qualname = _instance_name(given)
    if qualname is None:
        return None, ["reference: expected an nn.Module that is a global of its module, got an instance without a name there"]
    inputs = _forward(type(given)) + _state(given)
    return Reference(module=where, qualname=qualname, file=Path(_module_file(where)), inputs=inputs, is_module=True), []


def _forward(cls: Any) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(cls.forward).parameters if name != "self")


def _constructor(cls: Any, arguments: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """The constructor's arguments that a case gives; and those that it needs and no case gives."""
    every = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = [one for one in every if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    missing = [one.name for one in named if one.default is one.empty and one.name not in arguments]
    return tuple(one.name for one in named if one.name in arguments), missing


def _state(module: Any) -> tuple[str, ...]:
    """Names of parameters, then buffers: they are inputs."""
    return tuple(name for name, _ in module.named_parameters()) + tuple(name for name, _ in module.named_buffers())


def _state_of_class(cls: Any, init: tuple[str, ...], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The state of an instance made on the meta device from a case's values, 1 where there is none: only the names matter."""
    import torch

    with torch.device("meta"):
        return _state(cls(**{name: values.get(name, 1) for name in init}))


def _instance_name(module: Any) -> tuple[str, str | None]:
    """The global that holds an instance: searched for, since instances carry no import path."""
    import sys

    for name, found in list(sys.modules.items()):
        for attribute, value in list(vars(found).items()) if found is not None and hasattr(found, "__dict__") else ():
            if value is module and name != "__main__":
                return name, attribute
    return "", None


def _module_file(name: str) -> str:
    import sys

    return str(sys.modules[name].__file__)


def _option_problems(
    options: Mapping[str, Any], arguments: tuple[str, ...], cases: Sequence[Case], reference: Reference | None
) -> list[str]:
    """Everything wrong with the decorator's arguments."""
    problems: list[str] = []
    if not cases:
        problems.append("cases: expected at least one, from pytest.mark.parametrize; got none for this target")
    for case in cases[:1]:
        problems += [
            f"argument {name!r} of the test function: expected to be parametrised, got no value"
            for name in arguments
            if name not in case.values
        ]
    problems += _vary_problems(options["vary"] or {}, arguments)
    least = {"min_speedup": options["min_speedup"]} | {
        f"min_speedup of case {case.id}": case.min_speedup for case in cases if case.min_speedup is not None
    }
    for name, value in least.items():
        if not isinstance(value, int | float) or not 0 < value < 1e6:
            problems.append(f"{name}: expected a positive number, got {value!r}")
    if options["tolerance"] is not None and not (isinstance(options["tolerance"], int | float) and 0 < options["tolerance"] < 1):
        problems.append(f"tolerance: expected None or a number between 0 and 1, got {options['tolerance']!r}")
    if not options["baseline"]:
        problems.append(f"baseline: expected at least one of {', '.join(BASELINES)}, got none")
    problems += _unknown("baseline", options["baseline"], BASELINES)
    problems += _unknown("target", options["targets"], registry.names("targets"))
    problems += _unknown("language", options["languages"], registry.names("languages"))
    for name in ("grad", "mutates", "constant"):
        problems += _unknown(f"{name}= input", options[name], reference.inputs) if reference is not None else []
    problems += _comparator_problems(options["compare"] or {})
    problems += [f"allow: expected names such as 'aten::mm', got {name!r}" for name in options["allow"] if "::" not in str(name)]
    if options["kernel"] is not None and ":" not in str(options["kernel"]):
        problems.append(f"kernel: expected 'package.module:function', got {options['kernel']!r}")
    problems += allowance_problems(options["allowance"] or {})
    problems += admits_problems(options["admits"] or {})
    if options["work"] is not None and not callable(options["work"]):
        problems.append(f"work: expected a function of the case's arguments, got {options['work']!r}")
    return problems


def _vary_problems(vary: Mapping[str, Any], arguments: tuple[str, ...]) -> Iterator[str]:
    for name, domain in vary.items():
        if name not in arguments:
            yield f"vary: expected arguments of the test function ({', '.join(arguments) or 'it has none'}), got {name!r}"
        if isinstance(domain, Sizes | Choices):
            yield from (f"vary {name!r}: {problem}" for problem in domain.problems())
        else:
            yield f"vary {name!r}: expected sizes(low, high) or choices(…), got {domain!r}"


def _unknown(what: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    return [f"unknown {what}: expected one of {', '.join(known) or 'none'}, got {name!r}" for name in given if name not in known]


def _comparator_problems(compare: Mapping[Any, Any]) -> Iterator[str]:
    for position, comparator in compare.items():
        if not isinstance(position, int) or position < 0:
            yield f"compare: expected output positions (0, 1 …), got {position!r}"
        if not isinstance(comparator, IndexOf | Unordered | Quantised):
            yield f"compare {position!r}: expected index_of(…), unordered() or quantised(…), got {comparator!r}"


def _case_problems(function: Callable[..., Any], cases: Sequence[Case], inputs: int) -> list[str]:
    """What is wrong with the description each case gives; a problem of several cases is said once."""
    found: dict[str, list[str]] = {}
    for case in cases:
        for problem in _described(function, case, inputs):
            found.setdefault(problem, []).append(case.id)
    return [
        f"{problem} (case{'s' if len(ids) > 1 else ''} {', '.join(ids[:3])}{' …' if len(ids) > 3 else ''})"
        for problem, ids in found.items()
    ]


def _described(function: Callable[..., Any], case: Case, inputs: int) -> Iterator[str]:
    try:
        described = function(**case.values)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        yield f"the test function: expected a description of inputs, got {type(error).__name__}: {error}"
        return
    described = described if isinstance(described, tuple) or callable(described) else (described,)
    yield from description_problems(described)
    if isinstance(described, tuple):
        count = sum(2 if isinstance(item, Jagged) else 1 for item in described)
        if count != inputs:
            yield f"inputs: expected {inputs}, one for each of the reference's, got {count}"
