"""Outputs of kernels that compute nothing, too little or too coarsely: what a spec must tell from the right answer.

An impostor replaces one output of one draw. It may take the right answer of another call with the same sizes, run the reference on other
inputs, and look at the right answer itself: it then says what is *left* of it, as a kernel that skips work would. Where it cannot be
made it says why: no input has the output's shape, an output of one element is its own mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from kevolve.evaluate.lifting import Lift, rule, terms
from kevolve.spec.admits import IMPOSTORS, TILE
from kevolve.spec.dtypes import DTYPES, dtype_name

LOWER = {"float64": "float32", "float32": "bfloat16", "float16": "float16", "bfloat16": "bfloat16"}  # 16 bits: where float32 is usual
FEWEST_TERMS = 128  # of a sum whose 16-bit accumulator errs by more than the output's own rounding
_ORDERS = 4  # times what one more order of summation changes, any other may
SHAPE = "its shape is not the output's"  # such a kernel fails where it is so
SHORT = f"no sum of {FEWEST_TERMS} terms or more"  # larger draws may have one

Again: TypeAlias = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One output of one draw, and what an impostor may use in place of computing it.

    ``right``: the right answer in the output's dtype. ``replayed``: that of another call with the same sizes; None where that fails.
    ``learnt``: the mean of the first answer looked at. ``again(inputs, mode)``: the reference's same output on other inputs, under a
    dispatch mode. ``gradient``: whether the output is one.
    """

    right: torch.Tensor
    inputs: Sequence[Any]
    replayed: torch.Tensor | None
    learnt: float
    again: Again
    gradient: bool
    seed: int


Made: TypeAlias = torch.Tensor | str  # the impostor's output, or why there is none
Impostor: TypeAlias = Callable[[Subject], Made]


def impostors(inputs: int) -> Mapping[str, Impostor]:
    """Every impostor by name (``kevolve.spec.admits``). ``inputs``: how many there are, each of which one passes through."""
    passed = {f"input {position}": _passing(position) for position in range(inputs)}
    return {**{name: _COMMON[name] for name in IMPOSTORS}, **passed}


def _zeros(subject: Subject) -> Made:
    return "the output is a gradient: see zero gradient" if subject.gradient else torch.zeros_like(subject.right)


def _zero_gradient(subject: Subject) -> Made:
    return torch.zeros_like(subject.right) if subject.gradient else "the output is no gradient"


def _constant(subject: Subject) -> Made:
    return _filled(subject.right, subject.learnt)


def _mean(subject: Subject) -> Made:
    if subject.right.numel() < 2:
        return "an output of one element is its own mean"
    return _filled(subject.right, mean_of(subject.right))


def _row_mean(subject: Subject) -> Made:
    if subject.right.dim() < 2 or subject.right.shape[-1] < 2:
        return "the output has no rows of several elements"
    mean = _finite(subject.right).mean(-1, keepdim=True).expand(subject.right.shape)
    return _cast(mean, subject.right.dtype)


def _replay(subject: Subject) -> Made:
    return "the reference refuses other contents of the same sizes" if subject.replayed is None else subject.replayed


def _halved(subject: Subject) -> Made:
    return _cast(subject.right.to(torch.float64) / 2, subject.right.dtype)


def _half(subject: Subject) -> Made:
    flat = subject.right.flatten().clone()
    flat[flat.numel() // 2 :] = 0
    return flat.view(subject.right.shape)


def _prefix(subject: Subject) -> Made:
    if subject.replayed is None or subject.replayed.shape != subject.right.shape:
        return "answers of other calls have other shapes"
    flat, count = subject.replayed.flatten().clone(), subject.right.numel() // 2
    flat[:count] = subject.right.flatten()[:count]
    return flat.view(subject.right.shape)


def _last_tile(subject: Subject) -> Made:
    flat = subject.right.flatten().clone()
    tile = flat[(max(1, flat.numel()) - 1) // TILE * TILE :]
    if not bool(tile.any()):
        return "the last tile of the right output is zeros"
    tile.zero_()
    return flat.view(subject.right.shape)


def _sampled(subject: Subject) -> Made:
    """The reference on inputs whose second half is the first half again: what is left when only a prefix is read."""
    if not any(_is_floating(value) and value.dim() and value.shape[-1] > 1 for value in subject.inputs):
        return "no floating input has several elements in a row"
    made = subject.again([_repeated(value) for value in subject.inputs])
    if _same(subject, made) and _same(subject, subject.again([_spoilt(value) for value in subject.inputs])):
        return "the output does not depend on the second half of a row"
    return made


def _wrong_axis(subject: Subject) -> Made:
    """The reference on transposed inputs, its output transposed back."""
    if not any(isinstance(value, torch.Tensor) and value.dim() > 1 for value in subject.inputs):
        return "no input has two axes"
    made = subject.again([value.mT if isinstance(value, torch.Tensor) and value.dim() > 1 else value for value in subject.inputs])
    made = made.mT if made.dim() > 1 else made
    if made.shape != subject.right.shape:
        return "transposed inputs give other shapes"
    # an elementwise reference has no axis to mistake: what it gives is right, and no impostor
    return "no axis is told from another" if _equal(made, subject.right) else made.contiguous()


def _lower(subject: Subject) -> Made:
    if not subject.right.is_floating_point():
        return "the output is no floating number"
    mode = Coarse(subject.right.dtype, subject.seed)
    made = subject.again(subject.inputs, mode).to(subject.right.dtype)
    if mode.reduction < 2:
        return "the reference sums nothing"
    if subject.right.dtype not in (torch.float32, torch.float64) and mode.reduction < FEWEST_TERMS:
        return SHORT
    return "the output is no sum" if _same(subject, made) else made


_COMMON: Mapping[str, Impostor] = {
    "zeros": _zeros,
    "constant": _constant,
    "mean": _mean,
    "row mean": _row_mean,
    "replay": _replay,
    "halved": _halved,
    "half": _half,
    "prefix": _prefix,
    "sampled prefix": _sampled,
    "last tile": _last_tile,
    "lower accumulation": _lower,
    "wrong axis": _wrong_axis,
    "zero gradient": _zero_gradient,
}


def _passing(position: int) -> Impostor:
    def passed(subject: Subject) -> Made:
        value = subject.inputs[position]
        if not isinstance(value, torch.Tensor):
            return "the input is a number"
        made = _shaped(value, subject.right.shape)
        return SHAPE if made is None else _cast(made, subject.right.dtype)

    return passed


def _shaped(value: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """The input in the output's shape: as it is, in another order of axes, or broadcast."""
    if value.numel() == shape.numel():
        return value.reshape(shape)
    try:
        return value.expand(shape) if value.numel() > 1 else None
    except RuntimeError:  # its shape does not broadcast
        return None


class Coarse(Lift):
    """The reference with each sum of ``n`` terms off by what an accumulator of the lower dtype errs by.

    Naive summation in a type of spacing ``v`` walks ``0.29 v sqrt(n/2)`` of the result's scale away (see ``tolerance``).
    """

    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        super().__init__(decompose=True)
        self._spacing = DTYPES[LOWER[dtype_name(dtype)]].eps
        self._walk = torch.Generator().manual_seed(seed % 2**63)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Lift, call, and disturb the sums."""
        made = super().__torch_dispatch__(func, types, args, kwargs)
        count = 1 if rule(func) is not None else terms(func, args, made)  # what has parts was disturbed in them
        return made if count < 2 else _each(made, lambda result: self._disturbed(result, count))

    def _disturbed(self, result: Any, count: int) -> Any:
        if not _is_floating(result) or not result.numel():
            return result
        scale = result.square().mean(-1, keepdim=True).sqrt() if result.dim() > 1 else result.square().mean().sqrt()
        step = 0.29 * self._spacing * (count / 2) ** 0.5
        return result + step * scale * torch.randn(result.shape, dtype=result.dtype, generator=self._walk)


def _each(made: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(made, list | tuple):
        return [change(part) for part in made] if isinstance(made, list) else tuple(change(part) for part in made)
    return change(made)


def mean_of(tensor: torch.Tensor) -> float:
    """The mean of the finite elements."""
    return float(_finite(tensor).mean()) if tensor.numel() else 0.0


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float64).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _filled(like: torch.Tensor, value: float) -> torch.Tensor:
    return _cast(torch.full(like.shape, value, dtype=torch.float64), like.dtype)


def _cast(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In the output's dtype, rounded to integers where it is one, contiguous and in memory of its own."""
    if dtype == torch.bool:
        return value >= 0.5 if value.is_floating_point() else value != 0
    if not dtype.is_floating_point and value.is_floating_point():
        value = value.nan_to_num().round()
    return value.to(dtype).contiguous().clone()


def _repeated(value: Any) -> Any:
    if not _is_floating(value) or not value.dim() or value.shape[-1] < 2:
        return value
    count = (value.shape[-1] + 1) // 2
    return torch.cat((value[..., :count], value[..., : value.shape[-1] - count]), dim=-1)


def _spoilt(value: Any) -> Any:
    """Other numbers in the second half of each row."""
    if not _is_floating(value) or not value.dim() or value.shape[-1] < 2:
        return value
    count = (value.shape[-1] + 1) // 2
    return torch.cat((value[..., :count], 1 - 3 * value[..., count:]), dim=-1)


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _same(subject: Subject, made: torch.Tensor) -> bool:
    """To the bit, NaN being NaN; or as two calls on the same inputs are, where the reference adds in another order every time."""
    right = subject.right
    if made.shape != right.shape:
        return False
    if bool(((made == right) | ((made != made) & (right != right))).all()):
        return True
    return _equal(made, right) and _farthest(made, right) <= _ORDERS * _farthest(subject.again(list(subject.inputs)), right)


def _farthest(made: torch.Tensor, right: torch.Tensor) -> float:
    """The largest difference between numbers."""
    return float((made.to(torch.float64) - right.to(torch.float64)).abs().nan_to_num(0.0, 0.0, 0.0).max()) if right.numel() else 0.0


def _equal(made: torch.Tensor, right: torch.Tensor) -> bool:
    """Equal to about half of the digits: the same sums in another order."""
    if not right.is_floating_point():
        return torch.equal(made, right)
    near = torch.finfo(right.dtype).eps * 64
    return torch.allclose(made.to(torch.float64), right.to(torch.float64), rtol=near, atol=near, equal_nan=True)
