"""What the counterexample says of a wrong result."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kevolve.evaluate.outcome import Status
from kevolve.knowledge.evidence import Counterexample, Evidence, Finding

_UNWRITTEN = (
    3.3961514e38,
    3.3895314e38,
    1.3824e306,
    9187201950435737471,
    2139062143,
    127,
)  # bytes of 0x7f: what fresh memory holds while checking
_RANGES = ("heavy_tailed", "huge", "tiny")  # distributions that the shrinker leaves only where plain values pass
_LOW = ("float16", "bfloat16")
_SMALL = 3e-2  # a greater error is no rounding, whatever the type
_WHOLE = 0.9  # of the elements: everything is wrong


def metadata(evidence: Evidence) -> Finding | None:
    """The wrong number, shape, strides or dtype of outputs."""
    if evidence.status not in (Status.INCORRECT_SHAPE, Status.INCORRECT_DTYPE):
        return None
    return Finding(
        bottleneck="correctness",
        says="The outputs are not of the right form: " + _line(evidence, "expected"),
        words="outputs shape dtype strides contiguous layout number of outputs allocate empty_like returned tensor",
        directions=(
            "Allocate each output with the reference's shape and dtype, contiguous; compute inside in float32 and convert at the store.",
        ),
    )


def unstable(evidence: Evidence) -> Finding | None:
    """Wrong only when it is called again: a race, or memory that is not initialised."""
    if not evidence.wrong or not evidence.says("wrong when called again"):
        return None
    return Finding(
        bottleneck="synchronisation",
        says="It is right at first and wrong when called again with the same inputs.",
        words="race condition synchronisation barrier atomic uninitialised memory non-deterministic "
        "repeated call accumulate zero stale scratch state",
        directions=(
            "Initialise whatever is accumulated into, in every call; scratch kept between calls still holds the last call's sums.",
            "Two blocks or threads must not write the same element, or read what another writes, without a barrier or an atomic.",
        ),
    )


def not_finite(evidence: Evidence) -> Finding | None:
    """NaN or infinity where a number was expected, or the other way round."""
    example = _example(evidence)
    if example is None:
        return None
    ours = [math.isfinite(value) for value in example.got]
    theirs = [math.isfinite(value) for value in example.expected]
    if not ours or ours == theirs or unwritten(evidence):
        return None
    appeared = any(other and not mine for mine, other in zip(ours, theirs, strict=True))
    large = example.distribution in _RANGES
    return Finding(
        bottleneck="precision",
        says=("NaN or infinity appears" if appeared else "NaN or infinity is lost") + f" at {example.described}: {_pair(example)}.",
        words="nan inf overflow exp subtract maximum stable division by zero empty row masked other value "
        + ("huge inputs range" if large else ""),
        directions=(
            "Subtract the row's maximum before exp, and give masked lanes the neutral element (-inf for max, 0 for a sum).",
            "Do intermediates in float32; square, exp and products overflow float16 beyond 65504.",
            "Guard what is empty: 0/0, log 0, the maximum of nothing.",
        ),
    )


def empty(evidence: Evidence) -> Finding | None:
    """Wrong where an axis has no elements."""
    example = _example(evidence)
    if example is None or 0 not in example.sizes.values() or _whole(example):
        return None
    return Finding(
        bottleneck="correctness",
        says=f"It fails where a size is 0 ({example.described}): {_pair(example)}.",
        words="empty input size zero no rows domain initialise output zero stale state kept between calls uninitialised",
        directions=("Give the empty case its own answer: a sum over nothing is 0, written in every call; launch nothing else.",),
    )


def unwritten(evidence: Evidence) -> Finding | None:
    """Elements that nobody wrote: fresh memory shows."""
    example = _example(evidence)
    if example is None or not any(_is_poison(value) for value in example.got):
        return None
    return Finding(
        bottleneck="correctness",
        says=f"Part of the output was never written (fresh memory shows: {_pair(example)}) at {example.described}.",
        words="tail mask boundary grid does not cover remainder last block cdiv output never written uninitialised elements beyond block",
        directions=(
            "Let the grid or loop cover every element: round up (cdiv), and loop where a row is longer than a block.",
            "Write the tail: what is left after whole vectors.",
        ),
    )


def tail(evidence: Evidence) -> Finding | None:
    """Wrong only where a size is no multiple of a block, or first one beyond it."""
    example = _example(evidence)
    if (
        example is None
        or 0 in example.sizes.values()
        or evidence.says("wrong when called again")
        or not _breaks_at_an_edge(evidence, example)
    ):
        return None
    sizes = ", ".join(f"{name} = {size}" for name, size in example.sizes.items() if size > 1)
    return Finding(
        bottleneck="correctness",
        says=f"It fails at an edge of its blocks or vectors ({sizes or example.described}): {_pair(example)}.",
        words="wrong tail masks and tails load store mask other boundary remainder block size multiple vector width neutral element last",
        directions=(
            "Mask loads with the neutral element of what follows, and count the real size, not the block's.",
            "Handle the remainder after whole vectors; loop where the row is longer than the block.",
        ),
    )


def layout(evidence: Evidence) -> Finding | None:
    """Wrong on tensors that are not contiguous."""
    example = _example(evidence)
    if example is None or example.layout in ("", "contiguous"):
        return None
    return Finding(
        bottleneck="correctness",
        says=f"It fails on a {example.layout} input: {_pair(example)}.",
        words="strides strided transposed broadcast offset non-contiguous layout input pointer arithmetic outputs and strides",
        directions=("Address every input by its own strides and offset, or copy it once into a contiguous buffer.",),
    )


def out_of_range(evidence: Evidence) -> Finding | None:
    """Wrong on large or tiny values only: the simplest contents that fail are none of the ordinary ones."""
    example = _example(evidence)
    if example is None or example.distribution not in _RANGES or _is_rounding(example) or _whole(example):
        return None
    return Finding(
        bottleneck="precision",
        says=f"It fails on {example.distribution.replace('_', ' ')} values only ({example.described}): {_pair(example)}.",
        words="overflow underflow range exp subtract maximum stable softmax logsumexp large values square scale float32 nan inf",
        directions=(
            "Subtract the maximum before exp, and scale before squaring: nothing in between may leave float32's range.",
            "Take sums of squares or products in float32, and compare exponents, not differences of large numbers.",
        ),
    )


def imprecise(evidence: Evidence) -> Finding | None:
    """Small errors: accumulation, rounding or an approximation."""
    example = _example(evidence)
    if example is None or not _is_rounding(example):
        return None
    low = example.dtype in _LOW
    return Finding(
        bottleneck="precision",
        says=f"Errors of {example.greatest:.1e} at {example.described}: it computes in too low a precision. {_pair(example)}.",
        words="precision accumulate float32 accumulator low precision bfloat16 float16 rounding error sum order "
        "approximation exp rsqrt tf32 input_precision " + (f"{example.dtype} convert load half" if low else "compensated pairwise"),
        directions=(
            "Convert to float32 at the load and back at the store only; accumulate in float32, over several partial sums.",
            "Replace approximate functions (fast exp, reciprocal, tf32 products) by exact ones.",
        ),
    )


def off_by_one(evidence: Evidence) -> Finding | None:
    """Whole numbers that are one off: a boundary taken on the wrong side."""
    example = _example(evidence)
    if (
        example is None
        or not _whole(example)
        or not any(abs(mine - other) == 1 for mine, other in zip(example.got, example.expected, strict=True))
    ):
        return None
    return Finding(
        bottleneck="correctness",
        says=f"It is one off at {example.described}: {_pair(example)}.",
        words="off by one boundary lower bound upper bound binary search comparison side inclusive exclusive bucket interval count sorted",
        directions=(
            "Compare on the side that the reference does: (a, b] counts borders strictly below the value.",
            "Check the ends: below the first, equal to one, above the last.",
        ),
    )


def everything(evidence: Evidence) -> Finding | None:
    """Large errors that no other rule explains: the formula."""
    example = _example(evidence)
    if (
        example is None
        or evidence.says("wrong when called again")
        or any(rule(evidence) for rule in (layout, empty, not_finite, unwritten, tail, out_of_range, imprecise, off_by_one))
    ):
        return None
    share = example.differences / example.total if example.total else 0.0
    where = "everywhere" if share >= _WHOLE else f"in {example.differences} of {example.total} elements"
    return Finding(
        bottleneck="correctness",
        says=f"It computes something else {where} at {example.described}: {_pair(example)}.",
        words="wrong result formula constant epsilon axis index reduction order spec domain reference semantics",
        directions=(
            "Work the smallest failing draw by hand against the reference's formula: constants, axis, order of operations.",
            "Return a partial result of the kernel (a sum, one row) and compare that first.",
        ),
    )


# --- what a counterexample looks like ---


def _example(evidence: Evidence) -> Counterexample | None:
    return evidence.counterexample if evidence.status is Status.INCORRECT_NUMERICAL else None


def _breaks_at_an_edge(evidence: Evidence, example: Counterexample) -> bool:
    """A shrunk size one beyond a power of two (nothing smaller fails), differences in the last places only, or a sweep of odd sizes."""
    if _is_rounding(example) or (_whole(example) and example.total == 1):
        return False
    beyond = any(size > 4 and _is_power(size - 1) for size in example.sizes.values())
    odd = [number for number in _swept(evidence) if number > 1]
    gaps = len(odd) >= 4 and any(all(number % width for number in odd) for width in (4, 8, 16, 32, 64))
    last = bool(example.index) and example.differences < example.total and _only_last(example)
    return beyond or gaps or last


def _only_last(example: Counterexample) -> bool:
    """Whether every place given lies in the last quarter of the last axis, which is longer than a few elements."""
    length = max(example.sizes.values(), default=0)
    places = [index[-1] for index in example.index if index]
    return length >= 8 and bool(places) and min(places) >= length - max(4, length // 4)


def _swept(evidence: Evidence) -> list[int]:
    """``… in the sweep at cols = 37, 101, 165, …``."""
    found = evidence.says(r"in the sweep at \w+ = ([\d, ]+)")
    return [int(number) for number in found.group(1).split(",") if number.strip().isdigit()] if found else []


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _is_rounding(example: Counterexample) -> bool:
    return 0.0 < example.greatest < _SMALL and all(math.isfinite(value) for value in example.got) and not _whole(example)


def _whole(example: Counterexample) -> bool:
    """Whether the output is of whole numbers."""
    return (
        bool(example.got)
        and not example.dtype
        and all(value == int(value) for value in (*example.got, *example.expected) if math.isfinite(value))
    )


def _is_poison(value: float) -> bool:
    return any(math.isclose(value, poison, rel_tol=1e-3) for poison in _UNWRITTEN if poison > 1000)


def _pair(example: Counterexample) -> str:
    if not example.got:
        return "no place was kept"
    place = f"[{', '.join(map(str, example.index[0]))}]" if example.index and example.index[0] else "the result"
    return f"{place} expected {example.expected[0]:.6g}, got {example.got[0]:.6g}"


def _line(evidence: Evidence, word: str) -> str:
    lines: Sequence[str] = [line.strip() for line in evidence.message.splitlines() if line.strip()]
    return next((line for line in lines if word in line), lines[0] if lines else "no reason was kept")[:300]


RULES = (metadata, unstable, layout, empty, unwritten, not_finite, out_of_range, imprecise, off_by_one, tail, everything)
