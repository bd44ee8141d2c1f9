"""The reference's graph: traced once on one small draw, in a form that patterns can be compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kevolve.operators.algebra import Algebra
from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.reference import resolve
from kevolve.spec.spec import Case, Draw, Spec

if TYPE_CHECKING:
    from kevolve.operators.recorder import Recorder

LARGEST = 1 << 20  # elements of a benchmark case that may stand in where no small sizes will do
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)  # distinct sizes: an axis is known by its size
_ROUND = (8, 16, 32, 64, 128, 256)  # where a reference needs powers of two

# what a reference that refuses its inputs may raise; anything else is a fault of ours
REFUSALS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A function traced on concrete inputs.

    ``inputs``: names in the reference's order; ``values``: what it was traced on; ``results``: what it returned. ``outputs``: a digest of
    the canonical expression of each output, over ``algebra``. ``constants``: floating-point numbers in the order of use.
    ``indexed_inputs``: names of the inputs of which not every element is read (tables behind an index, a search or a slice).
    ``problem``: why there is no trace, else None.
    """

    inputs: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    results: tuple[Any, ...] = ()
    outputs: tuple[str, ...] = ()
    algebra: Algebra
    constants: tuple[float, ...] = ()
    indexed_inputs: tuple[str, ...] = ()
    operators: int = 0
    problem: str | None = None

    def text(self, depth: int = 12) -> str:
        """The canonical expressions, one line an output."""
        return "\n".join(self.algebra.text(output, depth) for output in self.outputs)


def untraceable(problem: str) -> Trace:
    """A trace that only says why there is none."""
    return Trace(algebra=Algebra(), problem=problem)


def trace_function(
    function: Callable[..., Any],
    values: Sequence[Any],
    *,
    names: Sequence[str] = (),
    order: Sequence[int] | None = None,
    substitute: Mapping[float, float] | None = None,
) -> Trace:
    """Run ``function`` on copies of ``values`` and record what it computes. Inputs that it writes to count as outputs too.

    ``order``: the function's k-th argument is ``values[order[k]]``; terms name inputs by their place in ``values``.
    ``substitute``: numbers that take the place of others inside. Raises what the function raises.
    """
    import torch

    from kevolve.operators.canonical import Canonical
    from kevolve.operators.recorder import Recorder

    arguments = tuple(values[place] for place in order) if order is not None else tuple(values)
    arguments = tuple(item.clone() if isinstance(item, torch.Tensor) else item for item in arguments)
    recorder = Recorder(arguments, substitute=substitute)
    given = {place: recorder.ref(item) for place, item in enumerate(arguments) if isinstance(item, torch.Tensor)}
    with recorder:
        returned = function(*arguments)
    written = [arguments[place] for place, ref in given.items() if recorder.ref(arguments[place]) != ref]
    results = (*(returned if isinstance(returned, tuple | list) else (returned,)), *written)
    algebra = Algebra()
    canonical = Canonical(recorder.entries, algebra, dict(enumerate(order)) if order is not None else None)
    outputs = tuple(
        canonical.term(recorder.ref(item)) if isinstance(item, torch.Tensor) else algebra.make("value", (), (item,)) for item in results
    )
    return Trace(
        inputs=tuple(names),
        values=tuple(values),
        results=results,
        outputs=outputs,
        algebra=algebra,
        constants=tuple(recorder.constants),
        indexed_inputs=_in_part(recorder, names),
        operators=len(recorder.entries),
    )


def _in_part(recorder: Recorder, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        names[position] for position, mask in sorted(recorder.covered.items()) if position < len(names) and not bool(mask.all().item())
    )


def trace_reference(spec: Spec, *, target: str | None = None) -> Trace:
    """Trace the spec's reference on the first small draw that it accepts: distinct primes, round sizes, then the smallest case.

    Never raises for a reference that refuses: the trace then says so in ``problem``.
    """
    from kevolve.evaluate.materialise import materialise

    problem = "no benchmark case to take sizes from"
    for values in small_values(spec, target=target):
        try:
            inputs = materialise(spec, Draw(values=values, seed=0))
            return trace_function(resolve(spec.reference, values), inputs, names=spec.reference.inputs)
        except REFUSALS as error:
            problem = f"the reference of {spec.name} cannot be traced at {dict(values)}: {type(error).__name__}: {error}"
    return untraceable(problem)


def small_values(spec: Spec, *, target: str | None = None) -> Iterator[Mapping[str, Any]]:
    """Arguments to trace at, the best first: a small distinct size for every argument that varies, float32 where there is a choice."""
    cases = [case for case in spec.cases if target is None or case.targets is None or target in case.targets] or list(spec.cases)
    if not cases:
        return
    case = min(cases, key=_preference)
    for ladder in (_PRIMES, _ROUND):
        yield dict(case.values) | _varied(spec, ladder)
    smallest = min(cases, key=lambda each: _elements(spec, each))
    if _elements(spec, smallest) <= LARGEST:
        yield dict(smallest.values)


def _preference(case: Case) -> int:
    return 0 if "float32" in map(str, case.values.values()) else 1


def _elements(spec: Spec, case: Case) -> int:
    from kevolve.evaluate.materialise import elements

    return elements(spec, case.values)


def _varied(spec: Spec, ladder: Sequence[int]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    left = list(ladder)
    for name, domain in spec.vary.items():
        if isinstance(domain, Sizes):
            fitting = next((size for size in left if domain.contains(size)), None)
            chosen[name] = min(max(domain.low, 2), domain.high) if fitting is None else fitting
            left = [size for size in left if size != fitting]
        elif isinstance(domain, Choices):
            chosen[name] = next((value for value in domain.values if isinstance(value, int) and value >= 2), domain.values[0])
    return chosen
