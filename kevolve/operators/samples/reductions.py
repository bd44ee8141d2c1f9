"""Plain reductions of rows, over the last axis: sum, mean, largest, smallest and the logarithm of the sum of exponentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kevolve.operators.samples.sample import Sample
from kevolve.spec.inputs import Tensor


def _sum(x: Any) -> Any:
    return x.sum(-1)


def _sum_kept(x: Any) -> Any:
    return x.sum(-1, keepdim=True)


def _mean(x: Any) -> Any:
    return x.mean(-1)


def _mean_kept(x: Any) -> Any:
    return x.mean(-1, keepdim=True)


def _amax(x: Any) -> Any:
    return x.amax(-1)


def _amax_by_max(x: Any) -> Any:
    return x.max(-1).values


def _amax_kept(x: Any) -> Any:
    return x.amax(-1, keepdim=True)


def _amax_by_max_kept(x: Any) -> Any:
    return x.max(-1, keepdim=True).values


def _amin(x: Any) -> Any:
    return x.amin(-1)


def _amin_by_min(x: Any) -> Any:
    return x.min(-1).values


def _amin_kept(x: Any) -> Any:
    return x.amin(-1, keepdim=True)


def _amin_by_min_kept(x: Any) -> Any:
    return x.min(-1, keepdim=True).values


def _logsumexp(x: Any) -> Any:
    return x.logsumexp(-1)


def _logsumexp_by_exp(x: Any) -> Any:
    largest = x.amax(-1, keepdim=True)
    return (x - largest).exp().sum(-1).log() + largest.squeeze(-1)


def _logsumexp_kept(x: Any) -> Any:
    return x.logsumexp(-1, keepdim=True)


def _logsumexp_by_exp_kept(x: Any) -> Any:
    largest = x.amax(-1, keepdim=True)
    return (x - largest).exp().sum(-1, keepdim=True).log() + largest


_CPP_KNOBS = {"grain": (16384, 4096, 65536), "lanes": (64, 32, 128), "long_row": (2048, 512, 256)}
_TRITON_KNOBS = {
    "tile": (4096, 2048, 8192, 1024),
    "longest": (16384, 8192, 32768),
    "block": (4096, 8192, 2048),
    "elements_per_thread": (16, 8, 32),
}
_LANES = "one pass over a row, several partial results side by side, joined at the end"
_EXP = "row maximum, then the sum of exponentials below it with the row in cache; a polynomial exponential that vectorises"


def _sample(reduction: str, keepdim: bool, patterns: tuple[Callable[..., Any], ...]) -> Sample:
    return Sample(
        name=f"row_{reduction}" + ("_keepdim" if keepdim else ""),
        idea=_EXP if reduction == "logsumexp" else _LANES,
        patterns=patterns,
        example=lambda: (Tensor(6, 10),),
        templates={"cpp": "row_reduce.cpp.jinja", "triton": "row_reduce.py.jinja"},
        knobs={"cpp": _CPP_KNOBS, "triton": _TRITON_KNOBS},
        fixed={"reduction": reduction, "keepdim": keepdim},
    )


SAMPLES = (
    _sample("sum", False, (_sum,)),
    _sample("sum", True, (_sum_kept,)),
    _sample("mean", False, (_mean,)),
    _sample("mean", True, (_mean_kept,)),
    _sample("amax", False, (_amax, _amax_by_max)),
    _sample("amax", True, (_amax_kept, _amax_by_max_kept)),
    _sample("amin", False, (_amin, _amin_by_min)),
    _sample("amin", True, (_amin_kept, _amin_by_min_kept)),
    _sample("logsumexp", False, (_logsumexp, _logsumexp_by_exp)),
    _sample("logsumexp", True, (_logsumexp_kept, _logsumexp_by_exp_kept)),
)
