"""What interpreted Triton kernels do, counted: bytes, floating operations, atomics, programs. In a worker whose Triton interprets.

Every operation of a kernel is a method ``create_…`` of Triton's ``interpreter_builder``; each is wrapped while ``counting`` is entered.
Masked lanes move no bytes. The figures follow from the kernel and its inputs alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
from triton.runtime import interpreter

_WARP = 32
_WARPS = 4  # Triton's default
# One floating operation a lane. Comparisons, selections and conversions are none.
_FLOATING = frozenset(
    """
    fadd fsub fmul fdiv frem fneg precise_divf approx_divf minimumf minnumf maximumf maxnumf clampf fabs floor ceil
    exp exp2 log log2 sin cos erf sqrt precise_sqrt rsqrt fma
""".split()
)
_TWICE = {"fma": 2}
# What costs no instruction: constants, positions and shapes.
_FREE = frozenset(
    """
    get_program_id get_num_programs make_range splat unsplat broadcast expand_dims reshape trans cat join split bitcast int_to_ptr
    ptr_to_int assume assert print barrier make_block_ptr advance make_tensor_descriptor
""".split()
)
# Methods made of others, which are counted in their place.
_MADE_OF_OTHERS = frozenset(
    """
    load store tensor_pointer_load tensor_pointer_store descriptor_load descriptor_store descriptor_gather descriptor_scatter
    atomic_load atomic_store atomic_poll sdiv udiv
""".split()
)


class Counted:
    """The figures so far."""

    def __init__(self) -> None:
        self.figures: Counter[str] = Counter()
        self.warps = _WARPS
        self.paused = False  # inside an operation that is counted as a whole

    def take(self) -> dict[str, int]:
        """The figures, all of them, and begin anew."""
        taken = {name: int(self.figures[name]) for name in NAMES}
        self.figures.clear()
        return taken

    def operation(self, name: str, arguments: tuple[Any, ...], made: Any) -> None:
        """One call of ``create_<name>``."""
        if self.paused or name in _MADE_OF_OTHERS:
            return
        if name == "masked_load":
            self._moved("bytes_loaded", arguments[0], arguments[1])
        elif name == "masked_store":
            self._moved("bytes_stored", arguments[0], arguments[2])
        elif name == "atomic_rmw":
            self.figures["atomics"] += _true(arguments[3], arguments[1])
        elif name == "atomic_cas":
            self.figures["atomics"] += arguments[0].data.size
        elif name in ("dot", "dot_scaled"):
            self._floating(2 * made.data.size * arguments[0].data.shape[-1], made)
        elif name in _FLOATING:
            self._floating(made.data.size * _TWICE.get(name, 1), made)
        if name not in _FREE:
            self.issued(getattr(made if made is not None else arguments[0], "data", None))

    def reduced(self, inputs: Any) -> None:
        """One reduction or scan: an operation for each element."""
        for value in inputs if isinstance(inputs, tuple) else (inputs,):
            handle = value.handle
            if handle.dtype.scalar.is_floating():
                self._floating(handle.data.size, handle)
            self.issued(handle.data)

    def issued(self, lanes: Any) -> None:
        """Each of a program's warps executes an operation once for every 32 of its lanes, and at least once."""
        size = lanes.size if isinstance(lanes, numpy.ndarray) else 1
        self.figures["issued"] += self.warps * -(-size // (_WARP * self.warps))

    def _moved(self, name: str, pointers: Any, mask: Any) -> None:
        bits = pointers.get_element_ty().primitive_bitwidth
        self.figures[name] += _true(mask, pointers) * max(1, bits // 8)

    def _floating(self, count: int, handle: Any) -> None:
        self.figures["flops"] += count
        if handle.dtype.scalar.primitive_bitwidth == 64:
            self.figures["float64_flops"] += count


NAMES = ("bytes_loaded", "bytes_stored", "flops", "float64_flops", "atomics", "launches", "programs", "issued")


def _true(mask: Any, pointers: Any) -> int:
    """Of how many lanes the mask is true."""
    if mask is None:
        return int(pointers.data.size)
    return int(numpy.count_nonzero(numpy.broadcast_to(mask.data, numpy.broadcast_shapes(mask.data.shape, pointers.data.shape))))


@contextmanager
def counting() -> Iterator[Counted]:
    """Count what kernels do that are launched meanwhile."""
    counted, builder = Counted(), interpreter.interpreter_builder
    wrapped = [name for name in dir(builder) if name.startswith("create_")]
    for name in wrapped:
        setattr(builder, name, _counting(counted, name.removeprefix("create_"), getattr(builder, name)))
    restore = [
        _replaced(interpreter.GridExecutor, "__call__", lambda inner: _launching(counted, inner)),
        _replaced(interpreter.InterpreterBuilder, "set_grid_dim", lambda inner: _programs(counted, inner)),
        _replaced(interpreter.ReduceScanOpInterface, "apply", lambda inner: _reducing(counted, inner)),
    ]
    try:
        yield counted
    finally:
        for name in wrapped:
            delattr(builder, name)
        for put_back in restore:
            put_back()


def _replaced(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    inner = getattr(owner, name)
    setattr(owner, name, wrap(inner))
    return lambda: setattr(owner, name, inner)


def _counting(counted: Counted, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    def create(*arguments: Any, **named: Any) -> Any:
        made = inner(*arguments, **named)
        counted.operation(name, arguments, made)
        return made

    return create


def _launching(counted: Counted, inner: Callable[..., Any]) -> Callable[..., Any]:
    def launch(self: Any, *arguments: Any, **named: Any) -> Any:
        counted.figures["launches"] += 1
        counted.warps = int(named.get("num_warps") or _WARPS)
        return inner(self, *arguments, **named)

    return launch


def _programs(counted: Counted, inner: Callable[..., Any]) -> Callable[..., Any]:
    def set_grid_dim(self: Any, *grid: int) -> Any:
        counted.figures["programs"] += int(numpy.prod(grid))
        return inner(self, *grid)

    return set_grid_dim


def _reducing(counted: Counted, inner: Callable[..., Any]) -> Callable[..., Any]:
    """Reductions run in numpy or, element by element, through the builder: counted by their inputs' sizes either way."""

    def apply(self: Any, inputs: Any) -> Any:
        if counted.paused:
            return inner(self, inputs)
        counted.reduced(inputs)
        counted.paused = True
        try:
            return inner(self, inputs)
        finally:
            counted.paused = False

    return apply
