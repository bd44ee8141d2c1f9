"""What a PyTorch function does, as the operators it dispatches, with who feeds whom.

A dispatch log and not ``make_fx``: it runs on concrete tensors, so Python loops, ``.item()``, boolean masks and
``repeat_interleave`` need no special care, and one mechanism serves the reference and the patterns. Both run on the *same*
inputs, so that sizes and other data that steer them agree by themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from kevolve.evaluate import lifting

INDEXING = {  # operators that read a table in part, or write it in part where it lies, and which argument is the table
    "gather": "self",
    "index": "self",
    "index_select": "self",
    "take": "self",
    "take_along_dim": "self",
    "masked_select": "self",
    "embedding": "weight",
    "_embedding_bag": "weight",
    "_embedding_bag_forward_only": "weight",
    "embedding_bag": "weight",
    "searchsorted": "sorted_sequence",
    "bucketize": "boundaries",
    **dict.fromkeys("index_copy_ index_put_ _index_put_impl_ index_add_ index_fill_ index_reduce_".split(), "self"),
    **dict.fromkeys("scatter_ scatter_add_ scatter_reduce_ masked_scatter_".split(), "self"),
}


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor among an operator's arguments: the ``output``-th result of entry ``index``."""

    index: int
    output: int = 0


Argument: TypeAlias = "Ref | int | float | bool | str | tuple[Argument, ...] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One dispatched operator. ``arguments``: by the schema's names, defaults filled in. ``shapes``, ``kinds``: of its results."""

    op: str
    arguments: Mapping[str, Argument]
    shapes: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]


def kind(tensor: torch.Tensor) -> str:
    """``"float"``, ``"int"`` or ``"bool"``."""
    if tensor.dtype == torch.bool:
        return "bool"
    return "float" if tensor.is_floating_point() else "int"


class Recorder(TorchDispatchMode):
    """Records what runs under it. ``substitute``: numbers to put in place of others as they pass (a pattern's sentinels).

    ``entries`` begin with one ``input`` for each tensor of ``inputs``. ``covered``: by input, which elements were read by operators
    that are no views and no table look-ups.
    """

    def __init__(self, inputs: Sequence[Any], *, substitute: Mapping[float, float] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.entries: list[Entry] = []
        self.constants: list[float] = []
        self.covered: dict[int, torch.Tensor] = {}
        self._substitute = dict(substitute or {})
        self._refs: dict[int, Ref] = {}
        self._bases: dict[int, torch.Tensor] = {}  # of a view, by id
        self._alive: list[torch.Tensor] = []  # ids stay unique while these live
        self._storages: dict[int, int] = {}
        self._depth = 0
        for position, tensor in enumerate(inputs):
            if isinstance(tensor, torch.Tensor):
                self._begin(position, tensor)

    def _begin(self, position: int, tensor: torch.Tensor) -> None:
        self._append("input", {"position": position}, (tensor,))
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = position
        self.covered[position] = torch.zeros(storage.nbytes() // tensor.element_size(), dtype=torch.bool)

    def ref(self, tensor: torch.Tensor) -> Ref:
        """Where ``tensor`` came from; one never seen (made before the recording) is a literal."""
        if id(tensor) not in self._refs:
            values = tuple(tensor.detach().flatten().tolist()) if tensor.numel() <= 64 else (float(tensor.double().sum()),)
            self._append("literal", {"values": values}, (tensor,))
        return self._refs[id(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if self._depth == 0:
            args, kwargs = tree_map(self._bind, args), tree_map(self._bind, dict(kwargs or {}))
        kwargs = dict(kwargs or {})
        rule = lifting.rule(func)
        if rule is not None:
            before = len(self.entries)
            self._depth += 1
            try:
                with self:
                    result = rule(*args, **kwargs)
            finally:
                self._depth -= 1
            if result is not NotImplemented:
                return result
            del self.entries[before:]
        result = func(*args, **kwargs)
        self._record(func, args, kwargs, result)
        return result

    def _bind(self, value: Any) -> Any:
        if isinstance(value, float):
            value = _as_written(value)
            value = self._substitute.get(value, value)
            self.constants.append(value)
        return value

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        schema = func._schema
        given = {argument.name: argument.default_value for argument in schema.arguments}
        given |= {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | dict(kwargs)
        name = schema.name.partition("::")[2]
        viewing = any(returned.alias_info is not None and not returned.alias_info.is_write for returned in schema.returns)
        if not viewing:
            self._cover(name, given)
        arguments = {key: self._argument(value) for key, value in given.items()}
        results = tuple(item for item in _flat(result) if isinstance(item, torch.Tensor))
        written = [given[a.name] for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        self._append(name.rstrip("_") if written and not name.startswith("_") else name, arguments, results)
        if viewing and isinstance(given.get("self"), torch.Tensor):
            self._bases.update({id(item): given["self"] for item in results})
        for tensor in _flat(written):
            self._overwrite(tensor)

    def _overwrite(self, tensor: Any) -> None:
        """A write into a view is a new value of what it views."""
        while isinstance(tensor, torch.Tensor) and id(tensor) in self._bases:
            base = self._bases[id(tensor)]
            place = (tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))
            self._append("assign", {"self": self.ref(base), "part": self.ref(tensor), "place": place}, (base,))
            tensor = base

    def _append(self, op: str, arguments: Mapping[str, Argument], results: tuple[torch.Tensor, ...]) -> None:
        shapes, kinds = tuple(tuple(item.shape) for item in results), tuple(kind(item) for item in results)
        self.entries.append(Entry(op=op, arguments=arguments, shapes=shapes, kinds=kinds))
        for output, item in enumerate(results):
            self._refs[id(item)] = Ref(len(self.entries) - 1, output)
            self._alive.append(item)

    def _argument(self, value: Any) -> Argument:
        if isinstance(value, torch.Tensor):
            return self.ref(value)
        if isinstance(value, list | tuple):
            return tuple(self._argument(item) for item in value)
        return value if isinstance(value, int | float | bool | str | None) else str(value)

    def _cover(self, name: str, given: Mapping[str, Any]) -> None:
        """Mark what this operator reads of the inputs."""
        for key, value in given.items():
            for tensor in _flat(value) if INDEXING.get(name) != key else ():
                if isinstance(tensor, torch.Tensor):
                    position = self._storages.get(tensor.untyped_storage().data_ptr())
                    if position is not None and tensor.numel():
                        mask = self.covered[position]
                        if mask.dtype == torch.bool and _same_grid(mask, tensor):
                            mask.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)


def _as_written(number: float) -> float:
    """The number somebody wrote: some operators hand on 1e-6 rounded to float32, as 9.999999974752427e-07."""
    try:
        narrow = struct.pack("f", number)
    except OverflowError:
        return number
    if struct.unpack("f", narrow)[0] != number:
        return number
    shorter = (float(f"{number:.{digits}g}") for digits in range(1, 9))
    return next((each for each in shorter if struct.pack("f", each) == narrow), number)


def _same_grid(mask: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether the tensor's offsets count the mask's elements (no view as another dtype)."""
    return mask.numel() == tensor.untyped_storage().nbytes() // tensor.element_size()


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [part for item in value for part in _flat(item)]
    return [value]
