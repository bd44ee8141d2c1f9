"""What a draw's outputs should be: the reference run with every floating dtype lifted to float64, and once as it is declared.

Upcasting the inputs alone is no oracle: a ``.to(torch.float32)`` inside the reference would keep the reference's own error. A dispatch
mode sees every operator, backward ones too, so it lifts what is made or converted inside as well. A reference that reinterprets bits
(``Tensor.view(dtype)``) cannot be lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from kevolve.evaluate.lifting import Lift, lift
from kevolve.evaluate.materialise import grad_outputs
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.rounding import Rounded, spacings
from kevolve.evaluate.threads import threads_for
from kevolve.evaluate.tolerance import FACTOR, few, most, step, tolerance
from kevolve.spec.comparators import IndexOf
from kevolve.spec.dtypes import DTYPES, dtype_name
from kevolve.spec.reference import resolve
from kevolve.spec.spec import Draw, Spec

_FEW_RUNS, _MANY = 4, 1 << 20  # runs that measure the conditioning above so many input elements, whatever the look
_KEPT = 1 << 16  # elements up to which what is allowed is kept ready beside the oracle
_FEW = 64  # outputs below which one native run says too little of the error: noisy runs are added
_NOISY_INPUTS = 1 << 16
_MAGNIFIED = 3.0  # times the output's own rounding: what the reference's roundings on the way must move it by to count


@dataclass(frozen=True, slots=True)
class Look:
    """How closely a problem's conditioning is measured.

    ``runs`` of the lifted reference, and ``spread``: how far beyond the root mean square of one rounding's effect in these runs an
    honest kernel of several roundings may lie.
    """

    runs: int
    spread: float


LOOK = Look(16, 8.0)
GLANCE = Look(4, 4.0)  # what four runs allow by half as much, sixteen allow: it decides where it accepts, four times as soon
LONG_LOOK = Look(128, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedOutput:
    """One output. ``oracle`` is float64 for floating outputs, else exact.

    ``native`` is kept only where it is not finite throughout, or where integers differ from the oracle's (a rounding boundary).
    """

    oracle: torch.Tensor
    dtype: torch.dtype  # of the native reference
    stride: tuple[int, ...]
    tolerance: float = 0.0
    native_error: float = 0.0
    native: torch.Tensor | None = None
    unreliable: str | None = None  # why its values are not judged; dtype and shape are
    spread: torch.Tensor | None = None  # what is added by row: where the reference errs too much, and by a second look (`conditioned`)
    allowed: torch.Tensor | None = None  # small outputs: tolerance * (|oracle| + row scale) + step


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a candidate must return for one draw: the forward's outputs, then gradients, then mutated inputs.

    ``reduction``: the longest sum inside the reference.
    """

    outputs: tuple[ExpectedOutput, ...]
    reduction: int

    @property
    def unreliable(self) -> str | None:
        """Why outputs of this draw are excluded, or None."""
        reasons = [f"output {position}: {output.unreliable}" for position, output in enumerate(self.outputs) if output.unreliable]
        return "; ".join(reasons) or None


class ReferenceFailed(Exception):
    """The reference raised on inputs of its own domain, or returned what is no tensor, or its inputs cannot be made.

    The message names the reference, ``draw`` and what was raised.
    """

    def __init__(self, message: str, *, draw: Draw) -> None:
        super().__init__(message)
        self.draw = draw

    def outcome(self, stage: Stage) -> Outcome:
        """The spec's fault as a result: RUNTIME_ERROR with ``detail`` ``reference`` (True) and ``draw`` (its JSON)."""
        message = f"{self}\nthis is the spec's fault, not the candidate's: mend the reference, or the description of its inputs"
        return Outcome(status=Status.RUNTIME_ERROR, stage=stage, message=message, detail={"reference": True, "draw": self.draw.to_json()})


_RAISED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)  # by a user's own code


@contextmanager
def blame(spec: Spec, draw: Draw, part: str = "the reference") -> Iterator[None]:
    """Turn what the spec's own code raises on ``draw`` into ``ReferenceFailed``. ``part``: of the reference, what was run."""
    try:
        yield
    except _RAISED as error:
        raise ReferenceFailed(
            f"{part} {spec.reference.path} failed on {draw.to_json()}: {type(error).__name__}: {error}", draw=draw
        ) from error


def expect(spec: Spec, draw: Draw, inputs: Sequence[Any]) -> Expected:
    """The oracle for ``inputs`` (what ``materialise`` gave, without grad_outputs).

    Raises ``ReferenceFailed`` with the draw, where the reference refuses it.
    """
    with threads_for(inputs):
        return _expect(spec, draw, inputs)


def _expect(spec: Spec, draw: Draw, inputs: Sequence[Any]) -> Expected:
    runs = _runs(spec, draw, inputs)
    coarsest = _coarsest(inputs)
    outputs = (_expected(spec, runs, position, coarsest) for position in range(len(runs.native)))
    return Expected(outputs=tuple(outputs), reduction=runs.reduction)


def forward(spec: Spec, draw: Draw, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The reference's outputs as declared, without gradients: what ``grad_outputs`` are shaped by."""
    with torch.no_grad(), threads_for(inputs):
        return flat(resolve(spec.reference, draw.values)(*_own(spec, inputs)))


def answers(spec: Spec, draw: Draw, inputs: Sequence[Any], mode: Lift | None = None) -> list[torch.Tensor]:
    """What the reference gives on any ``inputs``: outputs, gradients, mutated inputs. As declared, or lifted under ``mode``.

    Raises ``ReferenceFailed``.
    """
    with threads_for(inputs), blame(spec, draw):
        call = resolve(spec.reference, draw.values)
        if mode is None:
            return _call(spec, draw, call, inputs, None)[0]
        with mode:
            return _call(spec, draw, call, _lifted(inputs), None)[0]


def flat(outputs: Any) -> tuple[Any, ...]:
    """The outputs as a tuple: None gives none, a tensor one, nested tuples their leaves. Raises ``TypeError`` for anything else."""
    if outputs is None:
        return ()
    if isinstance(outputs, torch.Tensor | bool | int | float):
        return (outputs,)
    if isinstance(outputs, tuple | list):
        return tuple(leaf for output in outputs for leaf in flat(output))
    raise TypeError(f"outputs: expected tensors, numbers or tuples of them, got {type(outputs).__name__}")


def row_scale(oracle: torch.Tensor) -> torch.Tensor:
    """The root mean square over the last axis (below two axes over the whole), broadcastable; finite elements only."""
    scale = _rms(oracle)
    if bool(torch.isfinite(scale).all()):
        return scale
    magnitude = torch.where(oracle.isfinite(), oracle, 0.0).abs()
    largest = magnitude.amax(dim=-1, keepdim=True) if oracle.dim() > 1 else magnitude.max()
    unit = torch.where(largest > 0, largest, 1.0)
    return _rms(torch.where(oracle.isfinite(), oracle / unit, 0.0)) * unit


def _rms(values: torch.Tensor) -> torch.Tensor:
    if values.dim() > 1:
        norm: torch.Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        return norm.div_(max(1, values.shape[-1]) ** 0.5)
    whole: torch.Tensor = torch.linalg.vector_norm(values)
    return whole.div_(max(1, values.numel()) ** 0.5)


@dataclass(frozen=True, slots=True)
class _Runs:
    """The reference's outputs as declared and lifted, the longest reduction seen, and a noisy run where an output has few elements.

    ``unbounded``: rounded where the reference rounds, but to exponents without end. Made when it is asked for.
    """

    native: list[torch.Tensor]
    oracle: list[torch.Tensor]
    reduction: int
    noisy: list[torch.Tensor] | None
    unbounded: Callable[[], Sequence[torch.Tensor]]


def _runs(spec: Spec, draw: Draw, inputs: Sequence[Any]) -> _Runs:
    with blame(spec, draw):
        call = resolve(spec.reference, draw.values)
        native, grads = _call(spec, draw, call, inputs, None)
        lifting = Lift()
        with lifting:
            oracle, _ = _call(spec, draw, call, _lifted(inputs), _lifted(grads))
        noisy = _noisy(spec, draw, call, inputs, grads) if _is_small(native, inputs) else None
    return _Runs(native, oracle, lifting.reduction, noisy, cache(partial(_unbounded, spec, draw, call, inputs, grads)))


def _unbounded(spec: Spec, draw: Draw, call: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any]) -> Sequence[torch.Tensor]:
    """What the reference's roundings alone come to."""
    with blame(spec, draw):
        if _rounds(inputs):
            return _between(spec, draw, call, inputs, grads, draw.seed).outputs
        return _noisy(spec, draw, call, inputs, grads)


def _call(
    spec: Spec, draw: Draw, call: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any] | None
) -> tuple[list[torch.Tensor], Sequence[Any]]:
    """Forward outputs, gradients, mutated inputs as 0-d or larger tensors; and the grad_outputs (drawn when None)."""
    inputs = _own(spec, inputs)
    if not spec.grad:
        with torch.no_grad():
            outputs = flat(call(*inputs))
        return [_as_tensor(output) for output in (*outputs, *_named(spec, spec.mutates, inputs))], ()
    wanted = tuple(value.detach().requires_grad_() for value in _named(spec, spec.grad, inputs))
    by_name = dict(zip(spec.grad, wanted, strict=True))
    outputs = flat(call(*(by_name.get(name, value) for name, value in zip(_names(spec, inputs), inputs, strict=True))))
    grads = grad_outputs(spec, draw, outputs) if grads is None else grads
    floating = [output for output in outputs if isinstance(output, torch.Tensor) and output.is_floating_point()]
    gradients = torch.autograd.grad(floating, wanted, list(grads), materialize_grads=True)
    return [_as_tensor(output) for output in (*outputs, *gradients, *_named(spec, spec.mutates, inputs))], grads


def _names(spec: Spec, inputs: Sequence[Any]) -> tuple[str, ...]:
    return (*spec.reference.inputs, *(f"input {position}" for position in range(len(spec.reference.inputs), len(inputs))))[: len(inputs)]


def _named(spec: Spec, names: Sequence[str], inputs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(inputs[spec.reference.inputs.index(name)] for name in names)


def _own(spec: Spec, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The inputs with the mutated ones copied."""
    if not spec.mutates:
        return tuple(inputs)
    named = zip(_names(spec, inputs), inputs, strict=True)
    return tuple(_copy(value) if name in spec.mutates and isinstance(value, torch.Tensor) else value for name, value in named)


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in memory of its own, strides kept."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def _as_tensor(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output.detach()
    return torch.tensor(output, dtype=torch.float64 if isinstance(output, float) else None)


def _is_small(native: Sequence[torch.Tensor], inputs: Sequence[Any]) -> bool:
    floating = [output.numel() for output in native if output.is_floating_point()]
    read = sum(value.numel() for value in inputs if isinstance(value, torch.Tensor))
    return bool(floating) and min(floating) <= _FEW and read <= _NOISY_INPUTS


def _noisy(spec: Spec, draw: Draw, call: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any]) -> list[torch.Tensor]:
    """A lifted run whose operators each round at random."""
    with Lift(noise=_rounding(inputs) / 2, seed=draw.seed % 2**32):
        return _call(spec, draw, call, _lifted(inputs), _lifted(grads))[0]


def _rounding(inputs: Sequence[Any]) -> float:
    """The spacing at 1 of the type that an honest kernel accumulates in."""
    return DTYPES["float64" if _coarsest(inputs) == "float64" else "float32"].eps


def looks(inputs: Sequence[Any]) -> tuple[Look, ...]:
    """Those that decide about a comparison that failed, in order."""
    return (LOOK,) if _many(inputs) else (GLANCE, LOOK)


def _many(inputs: Sequence[Any]) -> bool:
    return sum(value.numel() for value in inputs if isinstance(value, torch.Tensor)) > _MANY


def conditioned(spec: Spec, draw: Draw, inputs: Sequence[Any], expected: Expected, look: Look = LOOK) -> Expected:
    """The same expectation, widened row by row where the *problem* magnifies rounding: a row of nearly equal values, a cancellation.

    The lifted reference is run on inputs moved by at most one spacing of the accumulation type, its operators rounding at random.
    What that moves an output by, honest kernels may differ by: ``ExpectedOutput.spread`` is ``look.spread`` times its root mean square
    over runs and the row; of indices, that of each score by itself. Where the reference rounds between its operators (to bfloat16), an
    honest kernel may too, and what that moves an output by counts as well where it is magnified on the way. Rows that are well
    conditioned stay as tight as they were. Only asked for when a comparison fails. Large inputs have few runs in every look.
    """
    runs = _FEW_RUNS if _many(inputs) else look.runs
    seeds = [(draw.seed * LOOK.runs + number) % 2**63 for number in range(runs)]
    with threads_for(inputs), blame(spec, draw):
        call = resolve(spec.reference, draw.values)
        grads = grad_outputs(spec, draw, forward(spec, draw, inputs)) if spec.grad else ()
        spreads = _spreads(spec, draw, inputs, expected, [partial(_accumulated, spec, draw, call, inputs, grads, seed) for seed in seeds])
        if _rounds(inputs):
            between = _spreads(spec, draw, inputs, expected, [partial(_between, spec, draw, call, inputs, grads, seed) for seed in seeds])
            spreads = [_added(output, *both) for output, *both in zip(expected.outputs, spreads, between, strict=True)]
    outputs = tuple(
        replace(output, spread=_wider(output.spread, None if spread is None else spread.mul_(look.spread)), allowed=None)
        for output, spread in zip(expected.outputs, spreads, strict=True)
    )
    return replace(expected, outputs=outputs)


@dataclass(frozen=True, slots=True)
class _Moved:
    """A run that is not exact: its outputs, and the inputs and mode for scores that an output indexes."""

    outputs: Sequence[torch.Tensor]
    inputs: Sequence[Any]
    mode: Lift


def _accumulated(spec: Spec, draw: Draw, call: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any], seed: int) -> _Moved:
    """Sums in another order, functions another honest way."""
    given = _moved(inputs, seed)
    mode = Lift(noise=_rounding(inputs) / 2, seed=seed % 2**32, decompose=True)
    with mode:
        return _Moved(_call(spec, draw, call, given, _lifted(grads))[0], given, mode)


def _between(spec: Spec, draw: Draw, call: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any], seed: int) -> _Moved:
    """Rounded where the reference rounds."""
    mode = Rounded(seed=seed % 2**32)
    given = mode.lifted(inputs)
    lifted = mode.lifted(grads)
    with mode:
        return _Moved(_call(spec, draw, call, given, lifted)[0], given, mode)


def _rounds(inputs: Sequence[Any]) -> bool:
    """Whether operators on these inputs round to less than they may accumulate in."""
    coarsest = _coarsest(inputs)
    return coarsest is not None and DTYPES[coarsest].eps > _rounding(inputs)


def _spreads(
    spec: Spec, draw: Draw, inputs: Sequence[Any], expected: Expected, runs: Sequence[Callable[[], _Moved]]
) -> list[torch.Tensor | None]:
    """By output, the root mean square over runs of how far they lie from the oracle: by row, of indices by score."""
    squares: list[torch.Tensor | None] = [None] * len(expected.outputs)
    compared = {at: by for at, by in spec.compare.items() if isinstance(by, IndexOf)}
    scored = {at: scores(by, inputs) for at, by in compared.items()}
    for run in runs:
        moved = run()
        for position, (output, found) in enumerate(zip(expected.outputs, moved.outputs, strict=True)):
            square = None
            if position in scored:
                again = scores(compared[position], moved.inputs, moved.mode)
                square = (again - scored[position]).square_().nan_to_num_(nan=0.0, posinf=0.0)
            elif output.oracle.is_floating_point() and found.shape == output.oracle.shape:
                square = _row_square(found - output.oracle)
            if square is not None:
                held = squares[position]
                squares[position] = square if held is None else held.add_(square)
    return [None if square is None else square.div_(len(runs)).sqrt_() for square in squares]


def _added(output: ExpectedOutput, spread: torch.Tensor | None, between: torch.Tensor | None) -> torch.Tensor | None:
    """``between`` too, where it is several times what rounding the output itself moves: elsewhere the tolerance has room for it.

    Not so below the smallest normal number, where the tolerance is a single step.
    """
    if spread is None or between is None:
        return spread
    if output.oracle.is_floating_point():
        own = _row_square(spacings(output.oracle, output.dtype)).div_(6).sqrt_()  # up or down at random: a sixth of the squared spacing
        small = row_scale(output.oracle) < torch.finfo(output.dtype).smallest_normal
        between = torch.where((between > _MAGNIFIED * own) | small, between, 0.0)
    return spread.add_(between)


def scores(comparator: IndexOf, inputs: Sequence[Any], mode: Lift | None = None) -> torch.Tensor:
    """What an output indexes, in float64; under a ``mode`` that rounds."""
    with mode or Lift(), torch.no_grad():
        return comparator.scores(*_lifted(inputs))  # type: ignore[no-any-return]


def _wider(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    return torch.maximum(one, other) if one is not None and other is not None else one if other is None else other


def _moved(inputs: Sequence[Any], seed: int) -> tuple[Any, ...]:
    """The lifted inputs, each floating element multiplied by ``1 + u`` with ``u`` at most one spacing."""
    generator = torch.Generator().manual_seed(seed)
    spacing = _rounding(inputs)

    def move(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        factors = torch.empty(value.shape, dtype=torch.float64).uniform_(1 - spacing, 1 + spacing, generator=generator)
        return value.to(torch.float64) * factors.to(value.device)

    return tuple(move(value) for value in inputs)


def _row_square(difference: torch.Tensor) -> torch.Tensor:
    """The mean square over the last axis (below two axes over the whole); what is not finite counts nothing."""
    square = difference.square_().nan_to_num_(nan=0.0, posinf=0.0)
    if not square.numel():
        return square.new_zeros(())
    return square.mean(dim=-1, keepdim=True) if square.dim() > 1 else square.mean()


def _expected(spec: Spec, found: _Runs, position: int, coarsest: str | None) -> ExpectedOutput:
    """One output with what it may differ by."""
    native, exact, reduction = found.native[position], found.oracle[position], found.reduction
    noisy = None if found.noisy is None else found.noisy[position]
    made = ExpectedOutput(oracle=exact, dtype=native.dtype, stride=native.stride())
    if native.shape != exact.shape:
        # the candidate is held to the declared dtype's shape
        reason = f"its shape depends on rounding: {list(native.shape)} as declared, {list(exact.shape)} in float64"
        return replace(made, oracle=native.to(exact.dtype), unreliable=reason)
    if not native.is_floating_point():
        return made if torch.equal(native, exact) else replace(made, native=native)
    name = dtype_name(native.dtype)
    size = exact.abs().add_(row_scale(exact)).clamp_min_(1e-300)
    error, finite = _native_error(native, exact, size)
    runs = [native]
    if not finite and spec.tolerance is None:
        lost = exact.isfinite() & ~native.isfinite()  # says nothing of what a kernel that does not overflow there errs by
        if bool(lost.any()):
            runs.append(torch.where(lost, found.unbounded()[position], exact))
            error = max(error, _native_error(runs[-1], exact, size, step(name))[0])
    if noisy is not None and noisy.shape == exact.shape:
        runs.append(noisy)
        error = few(max(error, _native_error(noisy, exact, size)[0]), exact.numel())
    coarsest = coarsest or name
    allowed, spread = tolerance(error, output=name, coarsest=coarsest, reduction=reduction, declared=spec.tolerance), None
    if allowed is None:
        limit = most(name, coarsest, reduction, spec.tolerance)
        error, spread = _by_rows(runs, exact, size, limit, step(name)) or (error, None)
        allowed = tolerance(error, output=name, coarsest=coarsest, reduction=reduction, declared=spec.tolerance)
    made = replace(made, native_error=error, native=None if finite else native)
    if allowed is None:
        return replace(made, unreliable=f"the reference itself errs by {error:.1e} at {name}")
    ready = size.mul_(allowed).add_(step(name)) if exact.numel() <= _KEPT else None
    return replace(made, tolerance=allowed, spread=spread, allowed=ready if ready is None or spread is None else ready.add_(spread))


def _by_rows(
    runs: Sequence[torch.Tensor], exact: torch.Tensor, size: torch.Tensor, limit: float, smallest: float
) -> tuple[float, torch.Tensor] | None:
    """The greatest error of the rows in which the reference is a guide, and what the others are allowed; None where most are such.

    ``runs``: the reference as declared, and a noisy one where there is one. A row of few elements near zero, a sum that cancels: one in
    ten thousand says nothing of the rest.
    """
    if exact.dim() < 2 or not exact.numel():
        return None
    difference = torch.zeros_like(exact)
    for run in runs:
        error = (run.to(torch.float64) - exact).abs_()
        difference = torch.maximum(difference, torch.where(run.isfinite() & exact.isfinite(), error, 0.0).nan_to_num_(0.0))
    errors = (difference - smallest).div_(size).amax(dim=-1, keepdim=True)
    guide = errors <= limit
    if 2 * int(guide.sum()) < guide.numel():
        return None
    spread = difference.amax(dim=-1, keepdim=True).mul_(FACTOR)
    return max(0.0, float(errors[guide].max())), torch.where(guide, 0.0, spread)


def _native_error(native: torch.Tensor, exact: torch.Tensor, size: torch.Tensor, smallest: float | None = None) -> tuple[float, bool]:
    """The greatest error over elements finite on both sides, beyond one subnormal step (``smallest``); and whether all were."""
    if not native.numel():
        return 0.0, True
    smallest = step(dtype_name(native.dtype)) if smallest is None else smallest
    difference = (native.to(torch.float64) - exact).abs_().sub_(smallest).div_(size)
    greatest = float(difference.max())
    if greatest == greatest and greatest != torch.inf:
        return max(greatest, 0.0), True
    difference = torch.where(native.isfinite() & exact.isfinite(), difference, 0.0).nan_to_num_(0.0)
    return max(float(difference.max()), 0.0), False


def _coarsest(inputs: Sequence[Any]) -> str | None:
    """The least precise floating dtype among the inputs."""
    floating = [value.dtype for value in inputs if isinstance(value, torch.Tensor) and value.is_floating_point()]
    return dtype_name(max(floating, key=lambda dtype: torch.finfo(dtype).eps)) if floating else None


def _lifted(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(lift(value) for value in values)
