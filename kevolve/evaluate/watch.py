"""What a candidate does through torch while it is checked: the operators it dispatches, and where it writes beside what it allocated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_GUARD_BYTES, _GUARD_BYTE = 4096, 0xA5
_EMPTY = frozenset(f"aten::{name}" for name in "empty empty_strided empty_like new_empty new_empty_strided".split())
_FILLED = frozenset(f"aten::{name}" for name in "zeros zeros_like new_zeros ones ones_like new_ones full full_like new_full".split())


class StrayWrite(RuntimeError):
    """A kernel wrote before the start or beyond the end of memory that it had allocated."""


class Watch(TorchDispatchMode):
    """Names of the operators that reach the dispatcher; on the host, guard bytes around whatever is allocated."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch's own switch: else the first call here imports its compiler, which takes a second and needs a cache folder."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, None] = {}
        self._guarded: list[tuple[torch.Tensor, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func._schema.name
        self.names[_operator(name, args, made)] = None
        if name in _EMPTY or name in _FILLED:
            return self._with_guards(made, filled=name in _FILLED)
        return made

    def _with_guards(self, made: Any, *, filled: bool) -> Any:
        if type(made) is not torch.Tensor or made.device.type != "cpu" or made.layout is not torch.strided or not made.numel():
            return made
        size = made.element_size() * (1 + sum((count - 1) * stride for count, stride in zip(made.shape, made.stride(), strict=True)))
        raw = torch.empty(size + 2 * _GUARD_BYTES, dtype=torch.uint8)
        raw[:_GUARD_BYTES] = raw[_GUARD_BYTES + size :] = _GUARD_BYTE
        self._guarded.append((raw, size))
        place = torch.empty(0, dtype=made.dtype).set_(raw.untyped_storage(), _GUARD_BYTES // made.element_size(), made.shape, made.stride())
        return place.copy_(made) if filled else place

    def look(self) -> None:
        """Raise ``StrayWrite`` where guard bytes of what was allocated since the last look are no longer as they were."""
        guarded, self._guarded = self._guarded, []
        for raw, size in guarded:
            for side, part in (("before the start", raw[:_GUARD_BYTES]), ("beyond the end", raw[_GUARD_BYTES + size :])):
                if not bool((part == _GUARD_BYTE).all()):
                    raise StrayWrite(f"wrote {side} of a tensor of {size} bytes that it had allocated")


def _operator(name: str, args: Sequence[Any], made: Any) -> str:
    """The operator's name; of a conversion that converts nothing (``tolist`` of a device's tensor), that of a copy."""
    copies = name == "aten::_to_copy" and isinstance(made, torch.Tensor) and made.dtype == args[0].dtype
    return "aten::copy_" if copies else name
