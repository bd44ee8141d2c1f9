"""A reference in float64 whose results are rounded where they would be: to the dtypes that its operators give as declared."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from kevolve.evaluate.lifting import HALF_TO_FLOAT, Lift, described, lift, mapped

_FINE = torch.finfo(torch.float32).eps  # roundings to dtypes with this spacing are ``Lift``'s own noise


class Rounded(Lift):
    """Run operators in float64 and round each result up or down, at random, to the dtype that the operator gives as declared.

    Only dtypes coarser than float32 are rounded to, and a fused operator's result once: what is inside it accumulates in float32. A
    value that the dtype holds stays as it is, so that moving data costs nothing. Up or down, because an honest kernel that rounds in the
    same places has other values to round: its own sums.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        self._random = torch.Generator().manual_seed(seed)
        self._dtypes = WeakTensorKeyDictionary()  # of lifted tensors, as declared

    def lifted(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """The values in float64, their own dtypes remembered."""
        made = tuple(lift(value) for value in values)
        for value, own in zip(made, values, strict=True):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                self._dtypes[value] = own.dtype
        return made

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Lift, call, round."""
        dtype = self._declared(func, args, kwargs or {})
        result = super().__torch_dispatch__(func, types, args, kwargs)
        moves = described(func)[1]
        return mapped(lambda made: self._rounded(made, dtype, moves=moves), result)

    def _declared(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.dtype | None:
        """The dtype of the results, were nothing lifted; None where no floating tensor says it."""
        at = HALF_TO_FLOAT.get(described(func)[0])
        if at is not None and args[at]:
            return torch.float32
        named = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)]
        if named:
            return named[0]
        tensors = [value for value in _flat((*args, *kwargs.values())) if isinstance(value, torch.Tensor) and value.is_floating_point()]
        if func._schema.is_mutable:
            tensors = tensors[:1]
        deciding = [tensor for tensor in tensors if tensor.dim()] or tensors
        dtypes = [self._dtypes.get(tensor, tensor.dtype) for tensor in deciding]
        return functools.reduce(torch.promote_types, dtypes) if dtypes else None

    def _rounded(self, made: Any, dtype: torch.dtype | None, *, moves: bool) -> Any:
        if not isinstance(made, torch.Tensor) or made.dtype is not torch.float64 or dtype is None or not dtype.is_floating_point:
            return made
        if not moves and torch.finfo(dtype).eps > _FINE:
            made.copy_(_either(made, dtype, self._random))
        self._dtypes[made] = dtype
        return made


def _either(values: torch.Tensor, dtype: torch.dtype, random: torch.Generator) -> torch.Tensor:
    """One of the two neighbours in ``dtype`` of each value; without its overflow."""
    spacing = spacings(values, dtype)
    share = torch.empty_like(values, device="cpu").uniform_(generator=random).to(values.device)
    return torch.where(values.isfinite(), (values / spacing).add_(share).floor_().mul_(spacing), values)


def spacings(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """How far apart the neighbours of each float64 value lie in ``dtype``."""
    kind = torch.finfo(dtype)
    exponents = torch.frexp(values).exponent.to(torch.float64) - 1
    return torch.exp2(exponents).mul_(kind.eps).clamp_min_(kind.eps * kind.smallest_normal)


def _flat(values: Any) -> list[Any]:
    return [leaf for value in values for leaf in _flat(value)] if isinstance(values, list | tuple) else [values]
