"""A child's state between commands, how it calls what is loaded, and what it asks of outputs."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kevolve.evaluate.arena import name_of
from kevolve.evaluate.channel import Channel
from kevolve.languages import Loaded

PROGRESS = struct.Struct("<q")  # the item that a child has begun, in a page shared with the judge
DEVICE_PROGRESS = PROGRESS.size  # where in it: the item that the device has come to, or -1


class BadOutput(TypeError):
    """A candidate returned something other than plain tensors of its own."""


@dataclass(slots=True, kw_only=True)
class WorkerState:
    """What the commands so far have set up. ``inputs`` holds named sets for timing."""

    fields: Mapping[str, Any]
    channel: Channel
    progress: mmap.mmap
    target: Any = None
    loaded: Loaded | None = None
    trusted: bool = False  # the reference, or a callable of the user's own
    source: str | None = None  # a candidate's file, for tracebacks
    grad: tuple[int, ...] = ()
    grad_outputs: int = 0
    constant: tuple[int, ...] = ()
    inputs: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    _marker: tuple[Callable[[int], None] | None, ...] = ()  # made once

    def begin(self, item: int) -> None:
        """Tell the judge which item is next, for the case that we crash."""
        PROGRESS.pack_into(self.progress, 0, item)

    def marker(self) -> Callable[[int], None] | None:
        """A function by which the device says which item it has come to; None where a call is done when it is waited for."""
        if self._marker == ():
            make = getattr(self.target, "marker", None)
            self._marker = (make(self.progress, DEVICE_PROGRESS) if make is not None else None,)
        (found,) = self._marker
        return found

    def crowds(self) -> bool:
        """Whether this process holds so much of its device's memory that others may lack it."""
        return bool(getattr(self.target, "crowds", bool)())

    def prepared(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs with ``constant=`` ones replaced by what the kernel's own preparation makes of them."""
        if not self.constant or self.loaded is None or self.loaded.prepare is None:
            return tuple(inputs)
        made = as_tuple(self.loaded.prepare(*(inputs[position] for position in self.constant)))
        result = list(inputs)
        for position, replacement in zip(self.constant, made, strict=True):
            result[position] = replacement
        return tuple(result)

    def call(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The forward's outputs, then with ``grad`` the gradients; the last ``grad_outputs`` inputs are gradients of the outputs."""
        if self.loaded is None:
            raise RuntimeError("nothing is loaded: send load_candidate, load_callable or load_reference first")
        if not self.grad:
            return as_tuple(self.loaded.call(*inputs))
        count = len(inputs) - self.grad_outputs
        forward, grad_outputs = inputs[:count], inputs[count:]
        if self.loaded.backward is None:
            return self._differentiated(forward, grad_outputs)
        outputs = as_tuple(self.loaded.call(*forward))
        return outputs + as_tuple(self.loaded.backward(*grad_outputs, *forward))

    def _differentiated(self, inputs: Sequence[Any], grad_outputs: Sequence[Any]) -> tuple[Any, ...]:
        assert self.loaded is not None
        wanted = [inputs[position].detach().requires_grad_() for position in self.grad]
        given = list(inputs)
        for position, tensor in zip(self.grad, wanted, strict=True):
            given[position] = tensor
        with torch.enable_grad():
            outputs = as_tuple(self.loaded.call(*given))
        floating = [output for output in outputs if output.is_floating_point()]
        pairs = [(output, grad) for output, grad in zip(floating, grad_outputs, strict=True) if output.requires_grad]
        if not pairs:
            raise BadOutput("no output requires grad: define <entry>_backward, or return the outputs of a torch.autograd.Function")
        gradients = torch.autograd.grad([output for output, _ in pairs], wanted, [grad for _, grad in pairs], materialize_grads=True)
        return tuple(output.detach() for output in outputs) + gradients


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """One output or several, as several: None gives none, nested tuples their leaves."""
    if outputs is None:
        return ()
    if isinstance(outputs, tuple | list):
        return tuple(leaf for output in outputs for leaf in as_tuple(output))
    return (outputs,)


def check_outputs(outputs: Sequence[Any], inputs: Sequence[Any], *, trusted: bool) -> None:
    """Plain tensors on the inputs' device: no subclass, nothing lazy, nothing in an input (unless ``trusted``). Raises ``BadOutput``."""
    for position, output in enumerate(outputs):
        if type(output) is not torch.Tensor:
            raise BadOutput(f"output {position}: expected a torch.Tensor, got {type(output).__module__}.{type(output).__qualname__}")
        if output.layout is not torch.strided or output.is_neg() or output.is_conj() or output._is_zerotensor():
            raise BadOutput(
                f"output {position}: expected a materialised strided tensor, got layout {output.layout}, dtype {name_of(output.dtype)}"
            )
    _check_devices(outputs, inputs)
    if trusted:
        return
    ranges = [_extent(value) for value in inputs if isinstance(value, torch.Tensor)]
    for position, output in enumerate(outputs):
        start, end = _extent(output)
        if start < end and any(start < other_end and other_start < end for other_start, other_end in ranges):
            raise BadOutput(f"output {position}: expected memory of its own, got memory of an input")


def _check_devices(outputs: Sequence[torch.Tensor], inputs: Sequence[Any]) -> None:
    """Outputs lie where the inputs do."""
    devices = {value.device for value in inputs if isinstance(value, torch.Tensor)}
    for position, output in enumerate(outputs):
        if len(devices) == 1 and output.device not in devices:
            raise BadOutput(f"output {position}: expected a tensor on {devices.pop()}, got one on {output.device}")


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def private_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in a storage of its own, strides kept."""
    end = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    if tensor.numel() == 0:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    flat = tensor.as_strided((end,), (1,)).clone()
    return flat.as_strided(tensor.shape, tensor.stride(), 0)
