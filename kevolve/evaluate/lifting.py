"""Dispatch modes over a reference: every floating dtype lifted to float64, and the longest reduction noted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1, "addbmm": 1}
_PRODUCTS_ARGS = {name: (first,) for name, first in _PRODUCTS.items()}
_SCANS = {"cumsum": 1, "cumprod": 1, "logcumsumexp": 1, "_softmax": 1, "_log_softmax": 1, "softmax": 1, "log_softmax": 1}
_BACKWARD_SCANS = {"_softmax_backward_data": 2, "_log_softmax_backward_data": 2}
_SCATTERS = {"index_add": 3, "index_add_": 3, "scatter_add": 3, "scatter_add_": 3, "index_put": 2, "index_put_": 2, "_index_put_impl_": 2}
_SCATTERS |= {"embedding_dense_backward": 0, "_embedding_bag": 1, "_embedding_bag_forward_only": 1, "segment_reduce": 0}
_SUMS = {"sum", "mean", "prod", "var", "var_mean", "std", "std_mean", "linalg_vector_norm", "norm", "logsumexp", "nansum"}
_SUMS |= {"mse_loss", "l1_loss", "_native_batch_norm_legit", "native_batch_norm"}
_POOLS = {"avg_pool1d", "avg_pool2d", "avg_pool3d"}  # sums over a window: its sizes, not dimensions, follow the input
_ADDS = _SUMS | _POOLS
HALF_TO_FLOAT = {"_softmax": 2, "_log_softmax": 2}  # position of an argument that only half-precision inputs accept


class Lift(TorchDispatchMode):
    """Run operators in float64 whatever dtype they were asked for.

    ``reduction`` becomes the greatest number of terms that one operator summed. With ``noise`` each operator's floating result is
    multiplied by ``1 + noise * u``, ``u`` uniform in [-1, 1], and the terms of a sum of ``n`` by ``1 + noise * sqrt(n) * u``: another
    honest implementation, whatever its order of summation. With ``decompose`` fused operators round at every step inside, too, and a sum
    of ``n`` terms is multiplied by ``1 + noise * sqrt(n) * u``: added one after another every partial sum rounds, so that the errors of
    terms of one sign grow with the sum itself, which the terms' own errors do not show (``docs/tolerance.md``).
    """

    def __init__(self, *, noise: float = 0.0, seed: int = 0, decompose: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.reduction = 1
        self._decompose = decompose
        self._noise = noise
        self._generator = torch.Generator().manual_seed(seed) if noise else None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch.compile never meets this mode, and skipping would import dynamo, 0.7 s."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Lift the arguments, call, lift the results."""
        parts = rule(func) if self._decompose else None
        if parts is not None:
            with self:
                return parts(*args, **(kwargs or {}))
        name, is_view = described(func)
        lifted = [_lift(arg) for arg in args]
        if self._generator is not None:
            self._disturb(name, lifted)
        if name in HALF_TO_FLOAT:
            lifted[HALF_TO_FLOAT[name]] = False
        named = {key: _lift(value) for key, value in kwargs.items()} if kwargs else {}
        result = func(*lifted, **named)
        terms = _terms(name, lifted, result)
        if terms > self.reduction:
            self.reduction = terms
        if is_view:
            return result
        noise = self._noise * terms**0.5 if self._decompose else self._noise
        return mapped(lambda made: self._finish(made, noise), result)

    def _finish(self, result: Any, noise: float) -> Any:
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return result
        if result.dtype is not torch.float64:
            return result.to(torch.float64)
        if self._generator is not None:
            result.mul_(self._factors(result, noise))
        return result

    def _disturb(self, name: str, args: list[Any]) -> None:
        """Give the terms of a sum the error that adding them one after another would make."""
        for position in _PRODUCTS_ARGS.get(name, (0,) if name in _ADDS else ()):
            term = args[position]
            if not term.is_floating_point():
                continue
            count = int(term.shape[-1]) if name in _PRODUCTS else _product(args[1]) if name in _POOLS else _summed(term, args[1:])
            args[position] = term * self._factors(term, self._noise * max(1, count) ** 0.5)

    def _factors(self, like: torch.Tensor, noise: float) -> torch.Tensor:
        return torch.empty_like(like, device="cpu").uniform_(1 - noise, 1 + noise, generator=self._generator).to(like.device)


@functools.cache
def _decompositions() -> Mapping[Any, Callable[..., Any]]:
    """Core ATen's, and those of the operators that core ATen keeps whole although they have a formula."""
    from torch._decomp import core_aten_decompositions, get_decompositions

    aten = torch.ops.aten
    whole = (aten._softmax, aten._log_softmax, aten.native_layer_norm, aten.native_group_norm, aten._fused_rms_norm, aten.gelu)
    table = {**core_aten_decompositions(), **get_decompositions(whole)}
    return {operator: rule for operator, rule in table.items() if isinstance(operator, torch._ops.OpOverload)}


def rule(operator: Any) -> Callable[..., Any] | None:
    """How an operator is made of others. Inside a decomposition composite operators arrive whole: their own kernel takes them apart."""
    found = _decompositions().get(operator)
    if found is None and operator.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return operator.decompose  # type: ignore[no-any-return]
    return found


@functools.cache
def described(func: Any) -> tuple[str, bool]:
    """The operator's name, and whether its results may share memory with its arguments."""
    aliases = any(returned.alias_info is not None for returned in func._schema.returns)
    return func._schema.name.removeprefix("aten::"), aliases and not func._schema.is_mutable


def lift(value: Any) -> Any:
    """A floating tensor as float64; anything else as it is."""
    return value.to(torch.float64) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _lift(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(torch.float64) if value.is_floating_point() and value.dtype is not torch.float64 else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value.is_floating_point else value
    if isinstance(value, list | tuple):
        return type(value)([_lift(item) for item in value])
    return value


def mapped(function: Callable[[Any], Any], result: Any) -> Any:
    """``function`` of every result of an operator."""
    if isinstance(result, list | tuple):
        return type(result)([function(item) for item in result])
    return function(result)


def terms(func: Any, args: Sequence[Any], result: Any) -> int:
    """How many terms one element of an operator's ``result`` sums; 1 for those that sum nothing."""
    return _terms(described(func)[0], list(args), result)


def _terms(name: str, args: list[Any], result: Any) -> int:
    """How many terms one element of the result sums."""
    if name in _SUMS:
        made = result[0] if isinstance(result, tuple) else result
        return int(args[0].numel() // max(1, made.numel()))
    if name in _POOLS:
        return _product(args[1])
    if name in _PRODUCTS:
        return int(args[_PRODUCTS[name]].shape[-1])
    if name in _SCANS:
        return _along(args[0], args[_SCANS[name]])
    if name in _BACKWARD_SCANS:
        return _along(args[0], args[_BACKWARD_SCANS[name]])
    if name in _SCATTERS:
        source = args[_SCATTERS[name]]
        return int(source.shape[0]) if isinstance(source, torch.Tensor) and source.dim() else 1
    if name == "nll_loss_forward":
        return int(args[0].shape[0]) if args[0].dim() > 1 else 1
    if name in ("native_layer_norm", "native_layer_norm_backward"):
        return _product(args[1 if name == "native_layer_norm" else 2])
    if name == "convolution":
        return _product(args[1].shape[1:])
    return 1


def _summed(term: torch.Tensor, arguments: list[Any]) -> int:
    """The elements along the dimensions that a sum names, or all."""
    dims = arguments[0] if arguments and isinstance(arguments[0], list | tuple) and arguments[0] else range(term.dim())
    return _product(term.shape[dim] for dim in dims)


def _along(tensor: torch.Tensor, dim: int) -> int:
    return int(tensor.shape[dim]) if tensor.dim() else 1


def _product(sizes: Any) -> int:
    product = 1
    for size in sizes:
        product *= int(size)
    return product
