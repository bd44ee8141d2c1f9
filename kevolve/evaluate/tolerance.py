"""How far a result may lie from the float64 oracle.

The error of element *i* is ``|a - b| / (|b| + s)``: ``b`` the oracle, ``s`` the root mean square of its row (the last axis; the whole
tensor below two axes). So an element near zero is judged by the scale of its row, where rounding and cancellation put its error.

``tolerance = min(max(k * e, floor), cap)``, with ``e`` the greatest error that the reference itself makes at the declared dtype.

- **floor**: what an honest kernel may differ by when it sums in another order and rounds once. With ``u`` the spacing at 1 of the output's
  dtype and ``v`` that of the type it may accumulate in (float32 for the 16-bit types, else its own): ``u + v (8 + 2 sqrt n)``, ``n`` the
  longest reduction. Naive summation of ``n`` terms of random sign walks ``0.29 v sqrt(n/2)`` of the result's scale away (standard
  deviation; each addition rounds by ``v/2`` at most, uniformly), and of equal sign ``0.29 v sqrt(n/3)`` of the sum; the greatest of 10^6
  elements lies five such deviations out: ``sqrt n``. The factor two leaves room for the products' own rounding; the eight for the
  elementary functions. Accumulating in bfloat16 where float32 is declared errs by about ``2^-8``, 100 times the floor at n = 10^4.
- **cap**: ``8 u + v (128 + 32 sqrt n)``. Where ``e`` exceeds it the reference is no guide (it cancelled or overflowed). Rows in which it
  does are allowed ``k`` times what the reference itself errs there, and ``e`` is taken from the others; where most rows are such, the
  output's values are not judged, and the draw is counted as excluded. Without the cap a reference that overflows would let zeros pass.
- Where the reference overflows and the oracle does not, it says nothing of a kernel that does not overflow either: there ``e`` is what its
  roundings alone come to, to exponents without end.
- A tensor of few elements samples its own error badly: its error is raised by ``1 + 4 / elements`` and taken from a second, noisy run too.
- Below the smallest normal number errors are steps, not ratios: ``step`` is added to what is allowed. What computes in float32 may flush
  what lies there to zero (``exp2`` on every GPU does; an exponential that multiplies by a power of two half as large loses the next
  binade too), so that in float32 and bfloat16 the step is twice the smallest normal number.
"""

from __future__ import annotations

import math

from kevolve.spec.dtypes import DTYPES, DType

FACTOR = 3.0  # k: the error of one honest implementation against another's
_STEPS = {"float64": -1074, "float32": -125, "bfloat16": -125, "float16": -24}  # exponents of two


def _spacings(dtype: DType) -> tuple[float, float]:
    return dtype.eps, min(dtype.eps, DTYPES["float32"].eps)


def floor(dtype: str, reduction: int) -> float:
    """The error that is always allowed for an output of ``dtype`` after sums of ``reduction`` terms."""
    own, accumulated = _spacings(DTYPES[dtype])
    return own + accumulated * (8 + 2 * math.sqrt(reduction))


def cap(dtype: str, reduction: int) -> float:
    """The error beyond which the reference itself is no guide. ``dtype``: the least precise of inputs and output."""
    own, accumulated = _spacings(DTYPES[dtype])
    return 8 * own + accumulated * (128 + 32 * math.sqrt(reduction))


def most(output: str, coarsest: str, reduction: int, declared: float | None) -> float:
    """The greatest error of the reference itself with which it is a guide: the spec's own tolerance, else the cap of the less precise."""
    return max(cap(output, reduction), cap(coarsest, reduction)) if declared is None else declared


def step(dtype: str) -> float:
    """What any result of ``dtype`` may differ by: its smallest positive number, or what float32 may be flushed to zero from."""
    return math.ldexp(1.0, _STEPS[dtype])


def few(error: float, elements: int) -> float:
    """The greatest of few errors, raised: one element may be right by luck."""
    return error * (1 + 4 / elements) if elements else error


def tolerance(native_error: float, *, output: str, coarsest: str, reduction: int, declared: float | None = None) -> float | None:
    """The allowed error of one output, or None where the reference is no guide and the output must be excluded.

    ``declared`` (the spec's own) replaces what is derived; the reference must then keep within it too.
    """
    limit = most(output, coarsest, reduction, declared)
    if not native_error <= limit:
        return None
    return limit if declared is not None else min(max(FACTOR * native_error, floor(output, reduction)), limit)
