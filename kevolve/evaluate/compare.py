"""Whether a candidate's outputs are the oracle's, within the tolerance; and if not, where they differ most.

Dtype and shape must be the native reference's. A contiguous result is always accepted; any other must have the native reference's strides
(an eager pointwise operator keeps a transposed input's strides, a kernel need not).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from kevolve.evaluate.oracle import LONG_LOOK, Expected, ExpectedOutput, Look, conditioned, looks, row_scale, scores
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.threads import threads_for
from kevolve.evaluate.tolerance import floor, step
from kevolve.spec.comparators import Comparator, IndexOf, Quantised, Unordered
from kevolve.spec.dtypes import DTYPES, dtype_name
from kevolve.spec.spec import Draw, Spec

_CHUNK = 1 << 17  # elements compared at once: their temporaries stay in the cache
_WORST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One difference: where, what the oracle says, what the candidate returned, and the error (NaN where none can be given)."""

    index: tuple[int, ...]
    expected: float
    got: float
    error: float

    def line(self) -> str:
        """``[3, 37]  expected 0.25  got 0.5  error 2.0e-01``."""
        return f"  [{', '.join(map(str, self.index))}]  expected {self.expected:.9g}  got {self.got:.9g}  error {self.error:.2e}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one output differs: the count, the greatest error against the tolerance, the worst places."""

    output: int
    count: int
    total: int
    greatest: float
    tolerance: float
    worst: tuple[Place, ...]


def compare(
    spec: Spec,
    expected: Expected,
    outputs: Sequence[Any],
    inputs: Sequence[Any],
    *,
    draw: Draw | None = None,
    stage: Stage = Stage.PROPERTIES,
    widen: Callable[[Look], Expected] | None = None,
) -> Outcome:
    """PASSED, or the first output that differs: INCORRECT_SHAPE, INCORRECT_DTYPE or INCORRECT_NUMERICAL with the worst places.

    With ``draw``, what differs is looked at once more with the problem's own conditioning measured (``oracle.conditioned``), and for
    longer where other rows turn out to be so ill-conditioned that this one may be too, and was lucky in the few runs.
    ``widen``: ``conditioned`` by its look, where somebody keeps what it finds.
    """
    with threads_for(outputs):
        outcome = _compare(spec, expected, outputs, inputs, stage)
        if draw is None or outcome.status is not Status.INCORRECT_NUMERICAL or spec.tolerance is not None:
            return outcome
        widen = widen or partial(conditioned, spec, draw, inputs, expected)
        for look in looks(inputs):
            widened = widen(look)
            outcome = _compare(spec, widened, outputs, inputs, stage)
            if outcome.status is not Status.INCORRECT_NUMERICAL:
                return outcome
        return _compare(spec, widen(LONG_LOOK), outputs, inputs, stage) if _elsewhere(widened, outcome) else outcome


def _elsewhere(expected: Expected, outcome: Outcome) -> bool:
    """Whether some row of the output may differ by as much as the worst places of others do: rows of one element are seen by few runs."""
    spread = expected.outputs[outcome.detail["output"]].spread
    errors = [abs(place["got"] - place["expected"]) for place in outcome.detail["worst"]]
    return spread is not None and spread.numel() > 1 and float(spread.max()) >= max(errors)


def _compare(spec: Spec, expected: Expected, outputs: Sequence[Any], inputs: Sequence[Any], stage: Stage) -> Outcome:
    if len(outputs) != len(expected.outputs):
        message = f"the number of outputs (gradients and mutated inputs among them): expected {len(expected.outputs)}, got {len(outputs)}"
        return Outcome(status=Status.INCORRECT_SHAPE, stage=stage, message=message)
    for position, (wanted, output) in enumerate(zip(expected.outputs, outputs, strict=True)):
        got = output if isinstance(output, torch.Tensor) else torch.tensor(output, dtype=wanted.dtype)
        refused = _metadata(position, wanted, got, stage)
        if refused is not None:
            return refused
        if wanted.unreliable is not None:
            continue
        difference = _difference(position, wanted, got, spec.compare.get(position), inputs, expected.reduction)
        if difference is not None:
            return _incorrect(difference, wanted, stage)
    return Outcome(status=Status.PASSED, stage=stage)


def _metadata(position: int, wanted: ExpectedOutput, got: torch.Tensor, stage: Stage) -> Outcome | None:
    if got.dtype != wanted.dtype:
        message = f"output {position}: expected dtype {dtype_name(wanted.dtype)}, got {dtype_name(got.dtype)}"
        return Outcome(status=Status.INCORRECT_DTYPE, stage=stage, message=message)
    if got.shape != wanted.oracle.shape:
        message = f"output {position}: expected shape {_shape(wanted.oracle)}, got {_shape(got)}"
        return Outcome(status=Status.INCORRECT_SHAPE, stage=stage, message=message)
    if not got.is_contiguous() and got.stride() != wanted.stride:
        message = f"output {position}: expected a contiguous result or strides {list(wanted.stride)}, got strides {list(got.stride())}"
        return Outcome(status=Status.INCORRECT_SHAPE, stage=stage, message=message)
    return None


def _shape(tensor: torch.Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


def _incorrect(difference: Difference, wanted: ExpectedOutput, stage: Stage) -> Outcome:
    kind = f"{dtype_name(wanted.dtype)} {_shape(wanted.oracle)}"
    head = f"output {difference.output} ({kind}): {difference.count} of {difference.total} differ"
    if wanted.oracle.is_floating_point():
        head += f", greatest error {difference.greatest:.2e} against a tolerance of {difference.tolerance:.2e}"
    places = [dict(index=list(place.index), expected=place.expected, got=place.got, error=place.error) for place in difference.worst]
    detail = {"output": difference.output, "differences": difference.count, "total": difference.total, "worst": places}
    message = "\n".join([head, *(place.line() for place in difference.worst)])
    return Outcome(status=Status.INCORRECT_NUMERICAL, stage=stage, message=message, detail=detail)


def _difference(
    position: int, wanted: ExpectedOutput, got: torch.Tensor, comparator: Comparator | None, inputs: Sequence[Any], reduction: int
) -> Difference | None:
    if comparator is not None:
        wanted, got = _prepared(comparator, wanted, got, inputs, reduction)
    if not wanted.oracle.is_floating_point():
        return _exact(position, wanted, got, comparator.steps if isinstance(comparator, Quantised) else 0)
    if wanted.allowed is not None and bool((got.to(torch.float64).sub_(wanted.oracle).abs_() < wanted.allowed).all()):
        return None
    return _tolerant(position, wanted, got)


def _exact(position: int, wanted: ExpectedOutput, got: torch.Tensor, steps: int) -> Difference | None:
    """Integers and truth values, equal or at most ``steps`` apart; or the native reference's own, where rounding decided."""
    if torch.equal(got, wanted.oracle):
        return None
    # float64 differences do not wrap; where they round, the integers are compared themselves
    distance = (got.to(torch.float64) - wanted.oracle.to(torch.float64)).abs()
    wrong = (got != wanted.oracle) & ((distance > steps) if steps else True)
    if wanted.native is not None:
        wrong &= got != wanted.native
    return _located(position, wanted, got, wrong, distance, tolerance=float(steps))


def _tolerant(position: int, wanted: ExpectedOutput, got: torch.Tensor) -> Difference | None:
    """Floating outputs, a chunk of rows at a time."""
    scale = row_scale(wanted.oracle)
    if wanted.oracle.numel() <= _CHUNK:
        wrong, error = _wrong(wanted, got, wanted.oracle, scale, wanted.native)
        return _located(position, wanted, got, wrong, error, tolerance=wanted.tolerance)
    if not _any_wrong(wanted, got, scale):
        return None
    wrong, error = _wrong(wanted, got, wanted.oracle, scale, wanted.native)
    return _located(position, wanted, got, wrong, error, tolerance=wanted.tolerance)


def _any_wrong(wanted: ExpectedOutput, got: torch.Tensor, scale: torch.Tensor) -> bool:
    """Whether any element of a large output differs."""
    flat, oracle = _rows(got), _rows(wanted.oracle)
    native = None if wanted.native is None else _rows(wanted.native)
    scales = scale.reshape(-1, 1) if scale.dim() else scale
    spread = _rows(wanted.spread) if wanted.spread is not None and wanted.spread.dim() else wanted.spread
    rows = max(1, _CHUNK // oracle.shape[-1])
    for start in range(0, oracle.shape[0], rows):
        part = slice(start, start + rows)
        chunk = scales[part] if scales.dim() else scales
        widened = replace(wanted, spread=spread[part] if spread is not None and spread.dim() else spread)
        wrong, _ = _wrong(widened, flat[part], oracle[part], chunk, None if native is None else native[part])
        if bool(wrong.any()):
            return True
    return False


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """Two axes: rows and the last; a vector becomes rows of one element."""
    if tensor.dim() > 1:
        return tensor.reshape(-1, tensor.shape[-1])
    return tensor.reshape(-1, 1)


def _wrong(
    wanted: ExpectedOutput, got: torch.Tensor, oracle: torch.Tensor, scale: torch.Tensor, native: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which elements differ, and every element's error."""
    size = oracle.abs().add_(scale)
    distance = got.to(torch.float64).sub_(oracle).abs_()
    allowed = size * wanted.tolerance + step(dtype_name(wanted.dtype))
    if wanted.spread is not None:
        allowed = allowed + wanted.spread
    wrong = ~(distance < allowed)  # "less": where the oracle is infinite both sides are, and another infinity must not pass
    if bool(wrong.any()):
        wrong &= ~_same_infinity(wanted.dtype, got, oracle, allowed, native)
    return wrong, distance.div_(size.clamp_min_(1e-300))


def _same_infinity(
    dtype: torch.dtype, got: torch.Tensor, oracle: torch.Tensor, allowed: torch.Tensor, native: torch.Tensor | None
) -> torch.Tensor:
    """Where a result that is not finite is right: the oracle rounded to the dtype, one within the tolerance of overflow, or the native.

    Where the native is NaN, infinities of both signs met on its way to the result, and another order of the same sum gives one of them.
    """
    rounded = oracle.to(dtype)
    largest = DTYPES[dtype_name(dtype)].largest
    same = (got == rounded) | (got.isnan() & rounded.isnan())
    overflow = got.isinf() & (got.sign() == oracle.sign()) & (oracle.abs().add(allowed) >= largest)
    same |= overflow
    if native is not None:
        same |= native.isinf() & (got == native)
        same |= native.isnan() & ~got.isfinite()
    return same


def _located(
    position: int, wanted: ExpectedOutput, got: torch.Tensor, wrong: torch.Tensor, error: torch.Tensor, *, tolerance: float
) -> Difference | None:
    """The count and the worst places of what is wrong, NaN and infinities first."""
    count = int(wrong.sum())
    if not count:
        return None
    ranked = torch.where(wrong, error.nan_to_num(nan=torch.inf), -1.0).reshape(-1)
    worst = ranked.topk(min(_WORST, count)).indices
    places = [tuple(int(axis) for axis in index) for index in zip(*torch.unravel_index(worst, wrong.shape), strict=True)]
    return Difference(
        output=position,
        count=count,
        total=wrong.numel(),
        greatest=float(ranked.max()),
        tolerance=tolerance,
        worst=tuple(
            Place(index=index, expected=wanted.oracle[index].item(), got=got[index].item(), error=error[index].item()) for index in places
        ),
    )


def _prepared(
    comparator: Comparator, wanted: ExpectedOutput, got: torch.Tensor, inputs: Sequence[Any], reduction: int
) -> tuple[ExpectedOutput, torch.Tensor]:
    """What is compared in place of the outputs themselves."""
    if isinstance(comparator, Unordered):
        oracle = wanted.oracle.sort(dim=comparator.dim).values
        return _replaced(wanted, oracle, tolerance=wanted.tolerance, dtype=wanted.dtype), got.sort(dim=comparator.dim).values
    if isinstance(comparator, IndexOf):
        return _indexed(comparator, wanted, got, inputs, reduction)
    return wanted, got


def _replaced(wanted: ExpectedOutput, oracle: torch.Tensor, *, tolerance: float, dtype: torch.dtype) -> ExpectedOutput:
    return ExpectedOutput(oracle=oracle, dtype=dtype, stride=wanted.stride, tolerance=tolerance)


def _indexed(
    comparator: IndexOf, wanted: ExpectedOutput, got: torch.Tensor, inputs: Sequence[Any], reduction: int
) -> tuple[ExpectedOutput, torch.Tensor]:
    """The scores at the indices; NaN where an index lies outside or is given twice along the dimension."""
    scored = scores(comparator, inputs)
    dim = comparator.dim % scored.dim()
    reduced = got.dim() < scored.dim()
    chosen, right = (index.unsqueeze(dim) if reduced else index for index in (got.long(), wanted.oracle.long()))
    valid = (chosen >= 0) & (chosen < scored.shape[dim])
    if not reduced and chosen.numel():
        order = chosen.sort(dim=dim)
        again = torch.zeros_like(valid).scatter_(dim, order.indices, _repeats(order.values, dim))
        valid &= ~again
    inside = chosen.clamp(0, max(0, scored.shape[dim] - 1))
    found = torch.where(valid, scored.gather(dim, inside), torch.nan)
    best = scored.gather(dim, right)
    spread = torch.zeros_like(best)
    if wanted.spread is not None:  # of either score
        spread = torch.hypot(wanted.spread.gather(dim, inside), wanted.spread.gather(dim, right))
    name = _declared(inputs)
    allowed = wanted.tolerance or floor(name, reduction)
    oracle, found, spread = (values.squeeze(dim) if reduced else values for values in (best, found, spread))
    return replace(_replaced(wanted, oracle, tolerance=allowed, dtype=torch.float64), spread=spread), found


def _repeats(ordered: torch.Tensor, dim: int) -> torch.Tensor:
    """Where a sorted tensor repeats its predecessor along ``dim``."""
    first = torch.zeros_like(ordered.narrow(dim, 0, 1), dtype=torch.bool)
    size = ordered.shape[dim]
    return torch.cat((first, ordered.narrow(dim, 1, size - 1) == ordered.narrow(dim, 0, size - 1)), dim=dim)


def _declared(inputs: Sequence[Any]) -> str:
    """The least precise floating dtype among the inputs, or float32."""
    floating = [value.dtype for value in inputs if isinstance(value, torch.Tensor) and value.is_floating_point()]
    return dtype_name(max(floating, key=lambda dtype: torch.finfo(dtype).eps)) if floating else "float32"
